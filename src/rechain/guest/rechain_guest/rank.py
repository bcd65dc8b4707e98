"""The rank guard in a container: what mpiexec starts there in place of each rank's script.

    python -I -S rank.py ATTEMPT WORK

It does what `supervisor/rank.py` does outside, on the image's Python: it gives its rank its output
files and its variables, dies with mpiexec and takes the rank with it, ends what the rank leaves
behind, and notes how it ended in the attempt's `ranks/`. SIGTERM asks it to send one to its rank,
in a Slurm job ASK, since Slurm sends SIGTERM to all processes that it sees.
A guard whose script failed stays until it is told to leave: the others may say their last words.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time

# With -I, the folder of this file is no place for modules.
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from rechain_guest.init import ASK, become, oom_kills

__all__ = ["main"]

# prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

# What the launcher's agents were told.
_AGENTS = ("RECHAIN_DESK", "RECHAIN_AGENT_PYTHON")

# Rank, world size and rank on this node, as Open MPI and Hydra (MPICH, Intel MPI) say it.
_PLACES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)


def main(attempt, work):
    """Run one rank to its end.

    Args:
        attempt: the attempt's folder.
        work: the folder that the script runs in.

    Returns:
        The exit code: the script's, in a shell's words.
    """
    place = _place()
    if place is None:
        os.write(2, b"rechain: mpiexec did not say which rank this is\n")
        return 125
    rank, size, local = place
    prctl = ctypes.CDLL(None).prctl
    parent = os.getppid()
    hidden = json.loads(os.environb.pop(b"RECHAIN_RANK_VARIABLES").decode())
    node = hidden.pop("RECHAIN_NODE_NAME", os.uname().nodename)
    for name in _AGENTS:
        os.environ.pop(name, None)
    guard = _Guard(parent, "SLURM_JOB_ID" in hidden)
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        return 125
    oom_before = oom_kills()
    job = _job(attempt, work, rank, size, local)
    job["variables"].update(hidden)
    reader, writer = os.pipe()
    script = os.fork()
    if not script:
        try:
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if str(os.getppid()) == job["variables"]["RECHAIN_RANK_GUARD"]:
                become(job)
        except BaseException as error:
            os.write(writer, str(error).encode()[:1000])
        finally:
            os._exit(127)
    os.close(writer)
    started = {"rank": rank, "local_rank": local, "node": node, "pid": script}
    _note(attempt, rank, "start", dict(started, guard={"pid": os.getpid()}))
    refused = os.read(reader, 4096).decode(errors="replace")
    status = guard.wait_for(script)
    left = _end_children()
    oom = oom_kills()
    end = {
        "rank": rank,
        "t": time.time(),
        "status": status,
        "asked": guard.asked,
        "orphaned": guard.orphaned,
        "refused": refused,
        "leftover": left,
        "oom": None not in (oom, oom_before) and oom > oom_before,
    }
    try:
        _note(attempt, rank, "end", end)
    except OSError:
        pass  # no room: mpiexec and the supervisor see the exit status below
    if status:
        guard.wait_to_leave()
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _place():
    for names in _PLACES:
        rank, size, local = (os.environ.get(name) for name in names)
        if rank is not None and size is not None:
            return int(rank), int(size), int(local or rank)
    return None


def _job(attempt, work, rank, size, local):
    """Return what `become` is told."""
    umask = os.umask(0)
    os.umask(umask)
    variables = {
        "RECHAIN_RANK": str(rank),
        "RECHAIN_WORLD_SIZE": str(size),
        "RECHAIN_LOCAL_RANK": str(local),
        "RECHAIN_RANK_GUARD": str(os.getpid()),
    }
    path = os.environ.get("PATH", "")
    if "/guest/agents" in path:
        others = (one for one in path.split(":") if not one.endswith("/guest/agents"))
        variables["PATH"] = ":".join(others)
    if "OMP_NUM_THREADS" not in os.environ:
        # As bare Python would take all cores for every rank; ten times slower on a small machine.
        variables["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // size))
    return {
        "argv": json.loads(os.environb.pop(b"RECHAIN_RANK_COMMAND").decode()),
        "variables": variables,
        "folder": work,
        "stdout": "{}/{}.out".format(attempt, rank),
        "stderr": "{}/{}.err".format(attempt, rank),
        "umask": umask,
    }


def _note(attempt, rank, what, document):
    """Write what the supervisor reads; whole or not at all."""
    path = os.fsencode(attempt) + "/ranks/{}.{}.json".format(rank, what).encode()
    with open(path + b".tmp", "w") as file:
        file.write(json.dumps(document) + "\n")
    os.rename(path + b".tmp", path)


def _end_children():
    """SIGKILL all that the script left: as their parents end they become this process's."""
    count = 0
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                count += 1
        except OSError:
            return count  # there is no child
        with open("/proc/self/task/{}/children".format(os.getpid())) as file:
            for pid in file.read().split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except OSError:
                    pass  # it changed its user: then its end comes with the container's
        time.sleep(0.001)  # what forks on comes here at any moment, and no event tells of it


class _Guard:
    """The signals that a rank guard gets.

    Args:
        parent: the pid of mpiexec, or of what it starts ranks with.
        deaf: whether SIGTERM is Slurm's, and not for it.
    """

    def __init__(self, parent, deaf):
        self.asked = False
        self.orphaned = False
        self._parent = parent
        self._terms = 0
        self._wakeup, writer = os.pipe()
        for descriptor in (self._wakeup, writer):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writer)

        def on_term(*_):
            self._terms += 1

        signal.signal(signal.SIGTERM, (lambda *_: None) if deaf else on_term)
        signal.signal(ASK, on_term)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        self._poll = select.poll()
        self._poll.register(self._wakeup, select.POLLIN)

    def wait_for(self, script):
        """Wait for the script's end and return its wait status; ask it to end meanwhile."""
        passed_on = 0
        while True:
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except OSError:  # no child is left
                    break
                if pid == script:
                    return status
                if not pid:
                    break
            if os.getppid() != self._parent:
                self.orphaned = True
                return int(signal.SIGKILL)
            if self._terms > passed_on:
                passed_on = self._terms
                self.asked = True
                for number in (signal.SIGTERM, signal.SIGCONT):
                    try:
                        os.killpg(script, number)
                    except OSError:
                        pass  # it has just ended
            self._sleep()

    def wait_to_leave(self):
        """Wait until mpiexec is gone or this guard is asked."""
        terms = self._terms
        while os.getppid() == self._parent and self._terms == terms:
            self._sleep()

    def _sleep(self):
        self._poll.poll()
        try:
            os.read(self._wakeup, 4096)
        except OSError:
            pass


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
