"""The rank guard: what mpiexec starts in place of each rank's script.

It is the parent of its rank: it gives it its output files and its variables, dies with mpiexec
and takes the rank with it, ends what the rank leaves behind, and writes how it ended. On several
nodes it is a child of the node's guard, and dies with that; see `seat.py`.

A guard whose script failed stays until it is told to leave: mpiexec ends all ranks as soon as one
process of its own fails, each MPI with its own haste, while the supervisor lets the others say
their last words and keep the promised grace.

In a Slurm job SIGTERM is Slurm's word that the job must end, and goes to every process of it, the
scripts included. There a guard does not pass it on: a script that gets it twice may take that for
a second, more urgent word. What the supervisor sends is another signal, `ASK`.
"""

from __future__ import annotations

import os
import time

from rechain.record import events, host, jsonl
from rechain.record.paths import RunPaths
from rechain.supervisor import linux, tree
from rechain.supervisor.linux import signal
from rechain.supervisor.outcome import oom_kills
from rechain.supervisor.script import become

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from rechain.record.paths import AttemptPaths
    from rechain.supervisor.seat import Occupant

__all__ = ["ASK", "COMMAND", "SEATED", "guard_rank", "guard_seated"]

# The variable that holds the script's command line.
COMMAND = "RECHAIN_RANK_COMMAND"

# The signal by which a rank guard is asked to send SIGTERM to its rank; Slurm sends it to nobody.
ASK = signal.SIGRTMIN

# The variable that is set where the guards of nodes start the ranks.
SEATED = "RECHAIN_SEATED"

# Rank, world size and rank on this node, as Open MPI, Hydra (MPICH, Intel MPI) and Slurm say it.
_PLACES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
)


def guard_rank(run_folder: str, number: str) -> NoReturn:
    """Run one rank to its end; never returns.

    Args:
        run_folder: the run.
        number: the attempt's number.
    """
    if SEATED in os.environ:
        from rechain.supervisor.seat import sit

        sit(f"{os.path.basename(run_folder)}/{number}")
    # In a Slurm job mpiexec has SIGTERM blocked, and some pass that on.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
    run = RunPaths(run_folder)
    _guard_script(run, run.attempt(int(number)), dict(os.environ), os.getppid(), None)


def guard_seated(run: RunPaths, attempt: AttemptPaths, seat: Occupant, parent: int) -> NoReturn:
    """Run one rank, which has a seat, to its end; never returns.

    Args:
        run: the run.
        attempt: the attempt.
        seat: what stands in its place for MPI.
        parent: the pid of the node's guard.
    """
    signal.set_wakeup_fd(-1)
    seat.move_in()
    environment = seat.environment
    del environment[SEATED]
    _guard_script(run, attempt, environment, parent, seat)


def _guard_script(
    run: RunPaths,
    attempt: AttemptPaths,
    environment: dict[str, str],
    parent: int,
    seat: Occupant | None,
) -> NoReturn:
    # Not on the command line: a lone ":" there means another program to mpiexec.
    argv = jsonl.loads(environment.pop(COMMAND))
    place = _place(environment)
    if place is None:
        os.write(2, b"rechain: mpiexec did not say which rank this is\n")
        os._exit(125)
    rank, size, local = place
    guard = _Guard(parent, seat)
    oom_before = oom_kills()
    reader, writer = os.pipe()

    def start() -> None:
        environment.update(
            RECHAIN_RANK=str(rank),
            RECHAIN_WORLD_SIZE=str(size),
            RECHAIN_LOCAL_RANK=str(local),
            RECHAIN_RANK_GUARD=str(os.getppid()),
        )
        if nodes := environment.pop("RECHAIN_NODES", None):
            from rechain.supervisor.nodes import settle

            environment.update(settle(nodes, rank))
        become(run, attempt, rank, argv, environment, writer)

    script = linux.start_child(start)
    os.close(writer)
    if seat is not None:
        seat.close_pmi()
    started = {"rank": rank, "local_rank": local, "guard": host.process(os.getpid())}
    started["node"] = os.uname().nodename
    jsonl.write_new(attempt.rank(rank, "start"), {**started, **host.process(script)})
    refused = os.read(reader, 4096).decode()
    status = guard.wait_for(script)
    leftover = tree.end_descendants()
    end = {
        "rank": rank,
        "t": time.time(),
        "status": status,
        "asked": guard.asked,
        "orphaned": guard.orphaned,
        "refused": refused,
        "leftover": leftover,
        "oom": oom_kills() > oom_before,
    }
    try:
        jsonl.write_new(attempt.rank(rank, "end"), end)
    except OSError:
        pass  # no room: mpiexec and the supervisor see the exit status below
    if status:
        guard.wait_to_leave()
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    if seat is not None:
        seat.answer(code)
    os._exit(code)


def _place(environ: Mapping[str, str]) -> tuple[int, int, int] | None:
    for names in _PLACES:
        rank, size, local = (environ.get(name) for name in names)
        if rank is not None and size is not None:
            if local is None and environ.get("SLURM_PROCID") == rank:
                local = environ.get("SLURM_LOCALID")  # srun as PMI's server
            return int(rank), int(size), int(local or rank)
    return None


class _Guard:
    """The signals that a rank guard gets.

    Args:
        parent: the pid of mpiexec, or of its daemon on this node, or of the node's guard.
        seat: what mpiexec has started, where that is not this process.
    """

    def __init__(self, parent: int, seat: Occupant | None) -> None:
        self._seat = seat
        self.asked = False
        self.orphaned = False
        self._parent = parent
        self._terms = 0
        self._wakeup, wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)

        def on_ask(*_: object) -> None:
            self._terms += 1

        in_slurm = "SLURM_JOB_ID" in os.environ
        signal.signal(signal.SIGTERM, (lambda *_: None) if in_slurm else on_ask)
        signal.signal(ASK, on_ask)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        linux.become_subreaper()
        try:
            linux.die_with_parent(signal.SIGTERM, parent)
        except ProcessLookupError:
            os._exit(125)

    def wait_for(self, script: int) -> int:
        """Wait for the script's end and return its wait status; ask it to end meanwhile.

        Without mpiexec the script has to end at once.
        """
        passed_on = 0
        while True:
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if pid == script:
                    return status
                if not pid:
                    break
            if os.getppid() != self._parent:
                self.orphaned = True
                return signal.SIGKILL
            if self._terms > passed_on:
                passed_on = self._terms
                self.asked = True
                linux.ask_group_to_end(script)
            self._sleep()

    def wait_to_leave(self) -> None:
        """Wait until mpiexec, or the seat, is gone, or this guard is asked."""
        terms = self._terms
        seat = [] if self._seat is None else [self._seat.fileno()]
        while os.getppid() == self._parent and self._terms == terms:
            if self._sleep(*seat):
                return

    def _sleep(self, *others: int) -> bool:
        """Wait for a signal or one of some descriptors; return whether it was one of those."""
        ready = events.wait([self._wakeup, *others], None)
        try:
            os.read(self._wakeup, 4096)
        except BlockingIOError:
            pass
        return any(other in ready for other in others)
