"""A script of several ranks under MPI, all in one container.

mpiexec runs in the container in place of the script, and starts a guard of ours
(`rechain_guest/rank.py`) in place of each rank. What the guards note comes through the run folder,
which the container shares; what they are told goes by the container's first process, since pids
mean something else in there.
"""

from __future__ import annotations

from rechain.record import host, jsonl
from rechain.supervisor.contained import ContainedScript, explain
from rechain.supervisor.engine import GUEST
from rechain.supervisor.outcome import Outcome
from rechain.supervisor.ranks import Ranks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from rechain.record.events import Watch
    from rechain.record.paths import AttemptPaths, RunPaths
    from rechain.supervisor.nodes import Nodes

__all__ = ["ContainedRanks", "as_root", "guard_in", "hide"]


def guard_in(python: str, attempt: AttemptPaths, run: RunPaths) -> list[str]:
    """Return the command line of a rank's guard in a container.

    Args:
        python: the interpreter's path in it.
        attempt: the attempt.
        run: the run.
    """
    guard = f"{GUEST}/rechain_guest/rank.py"
    return [python, "-I", "-S", guard, attempt.root, run.work]


def hide(variables: dict[str, str], more: Mapping[str, str]) -> None:
    """Put the ranks' own variables where the launcher in a container does not look.

    An mpiexec that finds itself in a Slurm job starts even its own node's ranks by srun.

    Args:
        variables: all variables; Slurm's are hidden in one.
        more: what the ranks get beside.
    """
    hidden = {name: value for name, value in variables.items() if name.startswith("SLURM")}
    for name in hidden:
        del variables[name]
    variables["RECHAIN_RANK_VARIABLES"] = jsonl.dumps({**hidden, **more})


def as_root(environment: dict[str, str]) -> None:
    """Let Open MPI run as root: with a rootless docker, the user is root in there."""
    for family in ("OMPI", "PRTE"):
        environment[f"{family}_ALLOW_RUN_AS_ROOT"] = "1"
        environment[f"{family}_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"


class ContainedRanks(Ranks):
    """Ranks in a container; see `Ranks`."""

    def __init__(self, *args: Any, job: Mapping[str, Any], watch: Watch) -> None:
        super().__init__(*args, job=job, watch=watch)
        self._job = job
        self._script = ContainedScript(*args, job=job, launcher=self._inside)
        self._container = self._script.container
        self._inner: dict[int, int] = {}  # the guards' pids in there
        self._torn = False  # the container ended, and its first process did not say so
        self._over = False

    def _inside(self) -> tuple[list[str], dict[str, str]]:
        """Return what is run in the container, and its variables."""
        python = self._stage.command()[0][0]
        command, variables = self._command(guard_in(python, self._attempt, self._run))
        hide(variables, {})
        return command, variables

    def _surround(self, environment: dict[str, str]) -> None:
        super()._surround(environment)
        as_root(environment)

    def ready(self) -> bool:
        """Lay the line to the container."""
        return self._script.ready()

    def start_on(self, nodes: Nodes | None, refusal: int) -> None:
        """Become the engine's client; called in a fresh child."""
        self._script.start_on(nodes, refusal)

    def started(self, pid: int) -> None:
        """Take over the engine's client."""
        super().started(pid)
        self._script.started(pid)

    @property
    def descriptors(self) -> Collection[int]:  # type: ignore[override]
        """The guards, as far as they can be seen, and the line from the container."""
        return [*super().descriptors, *self._container.descriptors]

    def look(self) -> bool:
        """See what the container and the ranks say; return whether all ranks have ended."""
        self._look_at_container()
        return super().look()

    def _look_at_container(self) -> None:
        if self._over:
            return
        self._container.look()
        if any(end["status"] for end in self._ends):
            return  # whatever comes of it, that was first
        self._torn = self._container.gone and self._container.end is None
        if self._torn:
            self.due = self._container.due

    def _locate(self, found: dict[str, Any]) -> None:
        self._inner[found["rank"]] = found["guard"]["pid"]
        # One that cannot be seen lives as long as the container, as far as is known here.
        client = host.process(self._pid)
        found.update(self._container.locate(found["pid"]) or client)
        found["guard"] = self._container.locate(found["guard"]["pid"]) or client

    def _lose(self, rank: int) -> None:
        self._look_at_container()
        if not self._torn:  # else they have ended with it
            super()._lose(rank)

    def processes(self) -> list[int]:
        """Return the pids of the ranks' scripts that still run and can be seen."""
        return [pid for pid in super().processes() if pid != self._pid]

    def was_asked(self) -> None:
        """Have SIGTERM sent, unless Slurm's own reaches into the container."""
        super().was_asked()
        if not self._container.reached():
            self.ask_to_end()

    def ask_to_end(self) -> None:
        """Have SIGTERM sent to every rank that has not ended; mpiexec is not asked."""
        super().was_asked()
        ended = {end["rank"] for end in self._ends}
        for rank, pid in self._inner.items():
            if rank not in ended:
                self._container.ask_process(pid)
        if len(self._inner) < self._count:  # it may be about to start the others
            self._container.ask()

    def ended(self, status: int) -> int:
        """See to it that nothing of the container is left."""
        self._look_at_container()
        self._over = True
        return self._container.ended(status)

    def settle(self) -> None:
        """Take the line away again: no rank will be started."""
        self._container.settle()

    def outcome(self, status: int, refused: str) -> Outcome:
        """Say how it ended: the first failure counts."""
        self.look()
        if refused or self._torn or (not self._guards and self._container.end is None):
            return self._script.outcome(status, refused)
        self._oom_before = self._container.oom_before()
        return explain(super().outcome(status, refused), self._job)

    def give_back_room(self) -> None:
        """Give back the room that was kept for the ranks' last words."""
        for rank in range(self._count):
            self._scripts.setdefault(rank, {})
        super().give_back_room()
