"""The user's script as the supervisor sees it: one process, or under MPI its ranks."""

from __future__ import annotations

import os

from rechain.record import host
from rechain.supervisor import linux
from rechain.supervisor.outcome import Outcome, oom_kills, read_outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from rechain.record.events import Watch
    from rechain.record.journal import Journal
    from rechain.record.paths import AttemptPaths, RunPaths
    from rechain.supervisor.nodes import Nodes
    from rechain.supervisor.stage import Stage

__all__ = ["LAST_WORDS", "Script", "become", "give", "make_script"]

LAST_WORDS = 16384
"""Bytes that are kept back so that a script that fills the disk can still say so."""


class Script:
    """A script of one process.

    Args:
        run: the run.
        attempt: the attempt.
        stage: what stands around the script.
        journal: takes the events.
    """

    due: float | None = None
    """When the supervisor must end the rest by itself, on the monotonic clock."""

    descriptors: Collection[int] = ()
    """What becomes readable when there is something to look at."""

    def __init__(
        self, run: RunPaths, attempt: AttemptPaths, stage: Stage, journal: Journal
    ) -> None:
        self._run = run
        self._attempt = attempt
        self._stage = stage
        self._journal = journal
        self._pid = 0
        self._oom_before = oom_kills()

    told = ""
    """Why it must end, where one that stands between it and the supervisor was told so."""

    unproved = False
    """Whether `prove` must run first, in a child."""

    def prove(self) -> None:
        """Find out how it can be started."""
        raise NotImplementedError

    def read_proof(self) -> None:
        """Take over what `prove` found."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Do what comes before `start`; return whether all is done."""
        return True

    def start_on(self, nodes: Nodes | None, refusal: int) -> None:
        """Become the script, on nodes of a pool; see `start`."""
        try:
            if nodes is not None:
                nodes.enter()
        except OSError as error:  # a core that has been taken away meanwhile, say
            os.write(refusal, str(error).encode())
            return
        self.start(refusal)

    def start(self, refusal: int) -> None:
        """Become the script; called in a fresh child.

        Args:
            refusal: descriptor that closes when the interpreter runs, or takes why it does not.
        """
        argv, environment = self._stage.command()
        environment.update(RECHAIN_RANK="0", RECHAIN_WORLD_SIZE="1")
        become(self._run, self._attempt, 0, argv, environment, refusal)

    def started(self, pid: int) -> None:
        """Take over what was forked."""
        self._pid = pid
        process = host.process(pid)
        self._journal.write("rank", rank=0, pid=process["pid"], start=process["start"])

    def look(self) -> bool:
        """See what is new; return whether all has ended, whatever still runs around it."""
        return False

    def processes(self) -> list[int]:
        """Return the pids of the script's own processes, one per rank, that still run."""
        return [self._pid]

    def ask_to_end(self) -> None:
        """Send SIGTERM to the script and what is in its process group."""
        linux.ask_group_to_end(self._pid)

    def was_asked(self) -> None:
        """Note that Slurm has sent SIGTERM to all of it: twice is once too often for many."""

    def ask_for_stacks(self) -> None:
        """Have its processes write where they are: faulthandler answers whatever they do."""
        for pid in self.processes():
            try:
                os.kill(pid, linux.signal.SIGUSR2)
            except ProcessLookupError:
                continue

    def outlives(self) -> bool:
        """Return whether something of it may run on when what was forked has ended."""
        return False

    def settle(self) -> None:
        """Have all of it ended that the supervisor cannot reach."""

    def ended(self, status: int) -> int:
        """Settle what is left when what was forked has ended; return the script's wait status.

        Args:
            status: the wait status of what was forked.
        """
        self.settle()
        return status

    def outcome(self, status: int, refused: str) -> Outcome:
        """Say how it ended.

        Args:
            status: the wait status of what was forked.
            refused: why it could not be started, if so.
        """
        if refused:
            return Outcome("environment", f"the interpreter cannot be started: {refused}")
        said = self._attempt.stderr(0)
        return read_outcome(status, said, self._run.work, self._oom_before)

    def leftover(self, ended: int) -> int:
        """Return how many processes it left behind.

        Args:
            ended: how many the supervisor had to end.
        """
        return ended

    def give_back_room(self) -> None:
        """Give back the room that was kept for the last words, as far as it was not needed."""
        said = self._attempt.stderr(0)
        os.truncate(said, os.stat(said).st_size)


def make_script(job: Mapping[str, Any], watch: Watch, *around: Any) -> Script:
    """Return the script of a job: one process, ranks on this machine or on nodes of a Slurm job.

    Args:
        job: the job's document.
        watch: becomes readable when the supervisor must look.
        *around: as for `Script`.
    """
    distribution = job["distribution"]
    if around[2].container is not None:  # the stage's
        if distribution["communicator"] != "None" and _on_nodes(job):
            from rechain.supervisor.contained_nodes import ContainedNodes

            return ContainedNodes(*around, job=job, watch=watch)
        if distribution["communicator"] != "None":
            from rechain.supervisor.contained_ranks import ContainedRanks

            return ContainedRanks(*around, job=job, watch=watch)
        from rechain.supervisor.contained import ContainedScript

        return ContainedScript(*around, job=job)
    if distribution["communicator"] == "None":
        return Script(*around)
    if _on_nodes(job):
        from rechain.supervisor.node_ranks import NodeRanks

        return NodeRanks(*around, job=job, watch=watch)
    from rechain.supervisor.ranks import Ranks

    return Ranks(*around, job=job, watch=watch)


def _on_nodes(job: Mapping[str, Any]) -> bool:
    return bool(job.get("slurm")) and job["distribution"]["nodes"] > 1


def become(
    run: RunPaths,
    attempt: AttemptPaths,
    rank: int,
    argv: list[str],
    environment: dict[str, str],
    refusal: int,
) -> None:
    """Become a rank's script, its output going to its files; returns only if that fails.

    Args:
        run: the run.
        attempt: the attempt.
        rank: whose files.
        argv: interpreter, script and arguments.
        environment: all its variables.
        refusal: descriptor that takes the reason of a failure.
    """
    try:
        redirect("/dev/null", os.O_RDONLY, 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        redirect(attempt.stdout(rank), flags, 1)
        redirect(attempt.stderr(rank), flags, 2)
        linux.keep_room(2, LAST_WORDS)
        os.chdir(run.work)
        os.execve(argv[0], argv, environment)
    except OSError as error:
        os.write(refusal, str(error).encode())


def redirect(path: str, flags: int, descriptor: int) -> None:
    """Open a file as a given descriptor."""
    opened = os.open(path, flags, 0o644)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)


def give(text: str | None) -> None:
    """Have a text, a secret of one line, be what is read from stdin; without one, nothing is."""
    reader, writer = os.pipe()
    os.write(writer, (text or "").encode())  # a pipe that is empty has room for 64 KiB
    os.close(writer)
    if reader:
        os.dup2(reader, 0)
        os.close(reader)
