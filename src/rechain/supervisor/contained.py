"""A script that runs in a container of this machine, and what a container is told to run."""

from __future__ import annotations

import os

from rechain.record import host
from rechain.supervisor import linux
from rechain.supervisor.container import Container
from rechain.supervisor.linux import signal
from rechain.supervisor.outcome import Outcome, read_outcome
from rechain.supervisor.script import LAST_WORDS, Script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from rechain.record.paths import RunPaths
    from rechain.supervisor.nodes import Nodes
    from rechain.supervisor.stage import Stage

__all__ = ["ContainedScript", "describe", "explain"]

# What a script inherits of this machine's user, and a container has of its own.
_OUTSIDE = (
    "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "PATH", "HOME", "SHELL", "TMPDIR",
    "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip


def describe(
    run: RunPaths,
    stage: Stage,
    job: Mapping[str, Any],
    argv: list[str],
    variables: dict[str, str],
    outputs: tuple[str, str],
    launcher: bool,
) -> dict[str, Any]:
    """Return what a container is to run, and with what: a document, the same for all nodes.

    Args:
        run: the run.
        stage: what stands around the script.
        job: the job's document.
        argv: the command line.
        variables: its variables.
        outputs: the files of its stdout and its stderr.
        launcher: whether it starts ranks.
    """
    for name in _OUTSIDE:
        if name not in job["variables"] and name not in job["secrets"]:
            variables.pop(name, None)
    umask = os.umask(0)
    os.umask(umask)
    workspace = os.path.dirname(os.path.dirname(os.path.dirname(run.root)))
    outside = [_there(path) for path in (*job["container"]["mounts"], *stage.places)]
    mounts = dict.fromkeys([workspace, *outside], True) | dict.fromkeys(stage.read_only, False)
    return {
        "python": stage.command()[0][0],
        "mounts": list(mounts.items()),
        "options": job["container"],
        "gpus": stage.with_gpu,
        "document": {
            "argv": argv,
            "variables": variables,
            "path": "" if "PATH" in variables else stage.programs,
            "folder": run.work,
            "stdout": outputs[0],
            "stderr": outputs[1],
            "umask": umask,
            "deaf": bool(job.get("slurm")),
            "launcher": launcher,
        },
    }


def _there(path: str) -> str:
    """Return a path that is there and leads to one that may not be: an output, say."""
    while not os.path.exists(path) and os.path.dirname(path) not in ("/", ""):
        path = os.path.dirname(path)
    return path


def explain(outcome: Outcome, job: Mapping[str, Any]) -> Outcome:
    """Say what may have ended a script in a container only.

    Args:
        outcome: how it ended.
        job: the job's document.
    """
    if outcome.signal == signal.SIGBUS:
        size = job["container"]["shm_size"]
        outcome.hint = (
            f"/dev/shm of the container has {size}, and what does not fit there ends so: "
            "raise shm_size (--shm-size)."
        )
    return outcome


class ContainedScript(Script):
    """A script in a container; see `Script` for the methods.

    Args:
        *args: as for `Script`.
        job: the job's document.
        launcher: returns what is run in it in place of the script, if that is several processes.

    Attributes:
        container: the container.
    """

    def __init__(
        self,
        *args: Any,
        job: Mapping[str, Any],
        launcher: Callable[[], tuple[list[str], dict[str, str]]] | None = None,
    ) -> None:
        super().__init__(*args)
        self._launcher = launcher
        self._job = job
        self._what: dict[str, Any] = {}
        self._noted = False
        name = f"{self._run.run_id}/{self._attempt.number}"
        self.container = Container(name, self._attempt, self._stage.container or {})

    @property
    def due(self) -> float | None:  # type: ignore[override]
        """When the engine must have seen that the container is gone."""
        return self.container.due

    @property
    def descriptors(self) -> Collection[int]:  # type: ignore[override]
        """The line from the container, as long as its other end is held."""
        return self.container.descriptors

    def ready(self) -> bool:
        """Lay the line to the container, with what it is to run in it."""
        distribution = self._job["distribution"]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for rank in range(distribution["nodes"] * distribution["processes_per_node"]):
            os.close(os.open(self._attempt.stdout(rank), flags, 0o644))
            said = os.open(self._attempt.stderr(rank), flags, 0o644)
            linux.keep_room(said, LAST_WORDS)
            os.close(said)
        argv, variables = (self._launcher or self._stage.command)()
        outputs = self._attempt.mpi_log, self._attempt.mpi_log
        if self._launcher is None:
            variables.update(RECHAIN_RANK="0", RECHAIN_WORLD_SIZE="1")
            outputs = self._attempt.stdout(0), self._attempt.stderr(0)
        several = self._launcher is not None
        self._what = describe(self._run, self._stage, self._job, argv, variables, outputs, several)
        self.container.lay(self._what)
        return True

    def start_on(self, nodes: Nodes | None, refusal: int) -> None:
        """Become the engine's client; called in a fresh child."""
        applied = nodes.applied if nodes is not None else {}
        limits = applied.get("cores") or (), applied.get("memory_bytes")
        if self._job.get("slurm"):
            limits = self.container.allotted()
        self.container.enter(self._what, *limits, refusal)

    def started(self, pid: int) -> None:
        """Take over the engine's client; the script reports by itself."""
        self._pid = pid

    def look(self) -> bool:
        """See what the container says."""
        self.container.look()
        self._note()
        return False

    def _note(self) -> None:
        found = self.container.started
        if found is not None and not self._noted and self._launcher is None:
            self._noted = True
            process = found or host.process(self._pid)
            self._journal.write("rank", rank=0, pid=process["pid"], start=process["start"])

    def processes(self) -> list[int]:
        """Return the script's pid on this machine, if it can be seen and still runs."""
        return self.container.processes()

    def ask_to_end(self) -> None:
        """Have SIGTERM sent to the script and what is in its process group."""
        self.container.ask()

    def was_asked(self) -> None:
        """Have SIGTERM sent, unless Slurm's own reaches into the container."""
        if self.container.reached():
            self.container.due = None
        else:
            self.ask_to_end()

    def ended(self, status: int) -> int:
        """See to it that nothing of the container is left."""
        status = self.container.ended(status)
        self._note()
        return status

    def settle(self) -> None:
        """Take the line away again: the script will not be started."""
        self.container.settle()

    def outcome(self, status: int, refused: str) -> Outcome:
        """Say how it ended."""
        if outcome := self.container.outcome(status, refused):
            return outcome
        errors = self._attempt.stderr(0)
        oom_before = self.container.oom_before()
        return explain(read_outcome(status, errors, self._run.work, oom_before), self._job)

    def leftover(self, ended: int) -> int:
        """Return how many processes the script left behind in the container."""
        end = self.container.end
        return end["leftover"] if end is not None else 0
