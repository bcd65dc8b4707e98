"""A script that runs as several ranks under MPI on this machine.

mpiexec starts a rank guard (`rank.py`) in place of each rank; what the guards note in the
attempt's `ranks/` is all the supervisor knows of them.
"""

from __future__ import annotations

import os
import sys
import time

from rechain.record import host, jsonl
from rechain.record.events import Watch
from rechain.supervisor.linux import signal
from rechain.supervisor.outcome import Outcome, read_outcome, tail
from rechain.supervisor.rank import ASK, COMMAND
from rechain.supervisor.script import Script, redirect
from rechain.supervisor.variables import PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

__all__ = ["LOST", "Ranks"]

# How long the others may still say something after the first rank failed, in seconds.
_LAST_WORDS = 1.0

# What a surrounding mpiexec or srun set for its own ranks. This one would believe it.
_SURROUNDING = ("OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "PMIX_", "PMI_", "MPI_LOCAL", "HYDI_")

# The end of a rank whose guard could not write it.
LOST = {"asked": False, "orphaned": False, "lost": True, "refused": "", "leftover": 0}


class Ranks(Script):
    """A script of several processes that speak MPI; see `Script` for the methods.

    Args:
        *args: as for `Script`.
        job: the job's document.
        watch: becomes readable when the ranks' guards note something.
    """

    def __init__(self, *args: Any, job: Mapping[str, Any], watch: Watch) -> None:
        super().__init__(*args)
        distribution = job["distribution"]
        self._count: int = distribution["nodes"] * distribution["processes_per_node"]
        self._seen: set[str] = set()
        self._guards: dict[int, dict[str, Any]] = {}
        self._scripts: dict[int, dict[str, Any]] = {}
        self._ends: list[dict[str, Any]] = []
        self._pidfds: dict[int, int] = {}
        self._asked = False
        os.mkdir(self._attempt.ranks)
        watch.add(self._attempt.ranks)

    def start(self, refusal: int) -> None:
        """Become mpiexec; called in a fresh child."""
        guard = [sys.executable, "-I", "-S", PROGRAM, "--rank"]
        command, environment = self._command([*guard, self._run.root, str(self._attempt.number)])
        environment.setdefault("OMP_NUM_THREADS", self._threads())
        try:
            redirect("/dev/null", os.O_RDONLY, 0)
            redirect(self._attempt.mpi_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)
            os.dup2(1, 2)
            os.chdir(self._run.work)
            if "SLURM_JOB_ID" in environment:
                # Slurm sends it SIGTERM as well as the ranks: it would end them within seconds.
                signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
            os.execvpe(command[0], command, environment)
        except OSError as error:
            os.write(refusal, str(error).encode())

    def _command(self, guard: list[str]) -> tuple[list[str], dict[str, str]]:
        """Return what starts the ranks, and its variables.

        Args:
            guard: the command line that is started in place of each.
        """
        argv, environment = self._stage.command()
        for name in [name for name in environment if name.startswith(_SURROUNDING)]:
            del environment[name]
        environment[COMMAND] = jsonl.dumps(argv)
        self._surround(environment)
        return [*self._launcher(), *guard], environment

    def _launcher(self) -> list[str]:
        mpi = self._stage.mpi
        return [mpi["mpiexec"], *_options(mpi), "-n", str(self._count)]

    def _surround(self, environment: dict[str, str]) -> None:
        for name, value in _variables(self._stage.mpi["family"]).items():
            environment.setdefault(name, value)

    def _threads(self) -> str:
        # As bare Python would take all cores for every rank; ten times slower on a small machine.
        return str(max(1, len(os.sched_getaffinity(0)) // self._count))

    def started(self, pid: int) -> None:
        """Take over mpiexec; the ranks report by themselves."""
        self._pid = pid

    @property
    def descriptors(self) -> Collection[int]:  # type: ignore[override]
        """The ranks' guards."""
        return self._pidfds.values()

    def look(self) -> bool:
        """See which ranks have come up or ended; return whether all have ended."""
        gone = [rank for rank, guard in self._guards.items() if not host.is_alive(guard)]
        for name in sorted(os.listdir(self._attempt.ranks)):
            if name in self._seen or not name.endswith(".json"):
                continue
            self._seen.add(name)
            found = jsonl.read(f"{self._attempt.ranks}/{name}")
            if name.endswith(".start.json"):
                self._locate(found)
                self._guards[found["rank"]] = found["guard"]
                self._scripts[found["rank"]] = found
                pidfd = host.open_pidfd(found["guard"])
                if pidfd is not None:
                    self._pidfds[found["rank"]] = pidfd
                fields = {key: found[key] for key in ("rank", "pid", "start")}
                self._journal.write("rank", **fields)
            elif name.endswith(".end.json"):
                self._ended(found)
        for rank in gone:
            if rank in self._pidfds:
                os.close(self._pidfds.pop(rank))
            if all(end["rank"] != rank for end in self._ends):
                self._lose(rank)
        return len(self._ends) == self._count and any(end["status"] for end in self._ends)

    def _locate(self, found: dict[str, Any]) -> None:
        """Put the pids by which this machine knows a rank and its guard into its note."""

    def _lose(self, rank: int) -> None:
        """Note that a guard is gone without a word."""
        # Killed, and its rank with it: MPI may not notice while a child of it lives.
        self._ended({"rank": rank, "t": time.time(), "status": signal.SIGKILL, **LOST})

    def _ended(self, end: dict[str, Any]) -> None:
        self._ends.append(end)
        if end["status"] and self.due is None and not self._asked:
            self.due = time.monotonic() + _LAST_WORDS

    def processes(self) -> list[int]:
        """Return the pids of the ranks' scripts that still run."""
        ended = {end["rank"] for end in self._ends}
        return [found["pid"] for rank, found in self._scripts.items() if rank not in ended]

    def was_asked(self) -> None:
        """Note that Slurm has sent SIGTERM to all ranks."""
        self.due = None
        self._asked = True

    def ask_to_end(self) -> None:
        """Send SIGTERM to every rank that has not ended; mpiexec is not asked."""
        Ranks.was_asked(self)
        ended = {end["rank"] for end in self._ends}
        for rank, guard in self._guards.items():
            if rank not in ended and host.is_alive(guard):
                try:
                    os.kill(guard["pid"], ASK)
                except ProcessLookupError:
                    continue  # it has just ended
        if len(self._guards) < self._count:  # it may be about to start the others
            self._ask_launcher()

    def _ask_launcher(self) -> None:
        try:
            os.killpg(self._pid, signal.SIGINT)  # it may have SIGTERM blocked
        except OSError:
            pass  # it has just ended
        super().ask_to_end()

    def leftover(self, ended: int) -> int:
        """Return how many processes the ranks left behind."""
        return sum(end["leftover"] for end in self._ends)

    def outcome(self, status: int, refused: str) -> Outcome:
        """Say how it ended: the first failure counts."""
        self.look()
        if refused:
            return Outcome("environment", f"mpiexec cannot be started: {refused}")
        failures = sorted((end for end in self._ends if end["status"]), key=lambda end: end["t"])
        own = [end for end in failures if not end["asked"] and not end["orphaned"]]
        if wrong := self._wrong_world():
            return wrong
        lost = not own or own[0].get("lost", False)
        if lost and (aborted := self._aborted()):
            return aborted
        if own and not (lost and self._ended_by_mpiexec(status)):
            return self._first_failure(own)
        if len(self._ends) == self._count and not failures:
            return Outcome.completed()
        return self._launcher_failure(status)

    def _aborted(self) -> Outcome | None:
        """Return the end of the rank that MPI ended, if one says so.

        Hydra kills all guards then, and exits with that rank's code or with 9, whichever comes
        first. MPICH and Intel MPI say before that (`MPIR_Abort_impl`): "application called
        MPI_Abort(MPI_COMM_WORLD, 7) - process 1"; or, where an error is fatal (`MPID_Abort`),
        "Abort(1007228047) on node 1 (rank 1 in comm 0): Fatal error in internal_Send: Invalid
        rank, error stack:".
        """
        told = {end["rank"] for end in self._ends if not end.get("lost")}
        for rank in sorted(self._scripts.keys() - told):
            said = tail(self._attempt.stderr(rank))
            for line in said:
                code, why = _abort(line)
                if code is not None:
                    outcome = Outcome("user_error", f"exit {code}{why}, rank {rank}")
                    outcome.exit_code = code
                    outcome.detail = line
                    outcome.tail = said
                    outcome.rank = rank
                    return outcome
        return None

    def _ended_by_mpiexec(self, status: int) -> bool:
        """Whether the guards are lost because mpiexec itself killed them.

        When one of them was killed by somebody else, it says SIGKILL: Hydra 9, Open MPI 137.
        """
        codes = (signal.SIGKILL, 128 + signal.SIGKILL)
        return os.WIFEXITED(status) and os.WEXITSTATUS(status) not in codes and not self._asked

    def _first_failure(self, ends: list[dict[str, Any]]) -> Outcome:
        """Return the failure that the others followed.

        A guard notes an end a moment after it, and another rank may be sooner to fail over it: MPI
        tells it of its lost peer.
        """
        outcomes = [self._failure(end) for end in ends]
        causes = (each for each in outcomes if not each.detail.startswith("mpi4py.MPI.Exception"))
        return next(causes, outcomes[0])

    def _failure(self, end: dict[str, Any]) -> Outcome:
        rank = end["rank"]
        if end.get("lost"):
            outcome = Outcome("killed", end.get("why") or f"the guard of rank {rank} was killed")
            outcome.signal = signal.SIGKILL
        elif end["refused"]:
            outcome = Outcome(
                "environment", f"the interpreter cannot be started: {end['refused']}"
            )
        else:
            said = self._attempt.stderr(rank)
            outcome = read_outcome(end["status"], said, self._run.work, self._oom_before)
            outcome.message += f", rank {rank}"
        outcome.rank = rank
        return outcome

    def _wrong_world(self) -> Outcome | None:
        for rank in range(self._count):
            try:
                found = jsonl.read(self._attempt.rank(rank, "mpi"))
            except (OSError, ValueError):
                continue
            if found["size"] != self._count:
                mpi = self._stage.mpi
                outcome = Outcome(
                    "environment",
                    f"mpi4py found a world of {found['size']}, not of {self._count}: it uses "
                    f"{found['library']}, and mpiexec is of {mpi['family']} {mpi['version']}",
                )
                outcome.hint = "Install mpi4py for the MPI of that mpiexec, or name another --mpi."
                outcome.rank = rank
                return outcome
        return None

    def _launcher_failure(self, status: int) -> Outcome:
        """No rank failed by itself: then mpiexec did, or what it says of a rank counts."""
        if os.WIFSIGNALED(status) and not self._asked:
            outcome = Outcome("killed", f"mpiexec got signal {os.WTERMSIG(status)}")
            outcome.signal = os.WTERMSIG(status)
        elif not self._guards:
            code = os.WEXITSTATUS(status)
            outcome = Outcome("environment", f"mpiexec could not start the ranks (exit {code})")
            outcome.exit_code = code
        elif any(end["asked"] or end["orphaned"] for end in self._ends):
            outcome = Outcome("killed", "mpiexec was told to end, and ended the ranks")
        else:
            code = os.WEXITSTATUS(status)
            outcome = Outcome("user_error", f"exit {code}, MPI ended the job")
            outcome.exit_code = code
        outcome.tail = tail(self._attempt.mpi_log)
        outcome.detail = outcome.tail[0] if outcome.tail else ""
        return outcome

    def give_back_room(self) -> None:
        """Give back the room that was kept for the ranks' last words."""
        for rank in self._scripts:
            said = self._attempt.stderr(rank)
            os.truncate(said, os.stat(said).st_size)


def _abort(line: str) -> tuple[int | None, str]:
    """Return exit code and reason of an end by MPICH, if a line tells of one."""
    _, called, call = line.partition("application called MPI_Abort(")
    code = call.partition(")")[0].rpartition(",")[2].strip()
    why = ""
    if not called and line.startswith("Abort("):
        code = line[6:].partition(")")[0]
        why = f", {line.partition('): ')[2].partition(', error stack')[0].rstrip(':')}"
    if not code.lstrip("-").isdigit():
        return None, ""
    return int(code) & 0xFF or (0 if called else 1), why


def _options(mpi: dict[str, Any]) -> list[str]:
    """Return what mpiexec is told beside the number of ranks.

    Open MPI refuses more ranks than cores, and would bind every job's first rank to the first
    core; see mpirun(1). Hydra does neither.
    """
    if mpi["family"] != "openmpi":
        return []
    if int(mpi["version"].partition(".")[0]) >= 5:
        return ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"]
    return ["--oversubscribe", "--bind-to", "none"]


def _variables(family: str) -> dict[str, str]:
    """Return what one machine's own MPI needs, unless the user has set it otherwise."""
    if family != "openmpi":
        return {}
    variables = {
        # All ranks are on this machine: nothing has to listen elsewhere. (PRRTE refuses lo.)
        "OMPI_MCA_btl_tcp_if_include": "lo",
        "OMPI_MCA_oob_tcp_if_include": "lo",
        "PMIX_MCA_ptl_tcp_if_include": "lo",
    }
    if os.getuid() == 0:
        for family_ in ("OMPI", "PRTE"):
            variables[f"{family_}_ALLOW_RUN_AS_ROOT"] = "1"
            variables[f"{family_}_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    return variables
