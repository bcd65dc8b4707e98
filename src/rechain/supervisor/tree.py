"""End a whole process tree, whatever its members do.

One pass of SIGKILL is not enough: a process that re-forks every few milliseconds slips between
the listing and the kill. So everything found is stopped first, again and again until nothing new
appears, and only then killed. The root must be a subreaper (prctl(2)): orphans come back to it, so
none can leave the tree.
"""

from __future__ import annotations

import os
import time

from rechain.supervisor.linux import signal

__all__ = ["descendants", "end_cgroup", "end_descendants", "kill_marked", "make_cgroup"]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it ended while we looked
    return found


def descendants(root: int) -> list[int]:
    """Return the pids of all descendants of a process, zombies included."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def end_descendants() -> int:
    """SIGKILL and reap every descendant of this process, which must be a subreaper.

    Returns:
        How many processes there were, this process's own zombies included.
    """
    seen: set[int] = set()
    count = 0
    pause = 0.0005
    while True:
        try:
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                seen.discard(pid)
                count += 1
        except ChildProcessError:
            return count
        found = descendants(os.getpid())
        fresh = [pid for pid in found if pid not in seen]
        for pid in fresh:
            seen.add(pid)
            _send(pid, signal.SIGSTOP)
        if fresh:
            continue
        for pid in found:
            _send(pid, signal.SIGKILL)
        # No event says "one of my descendants, at any depth, is gone"; growing, because a process
        # in uninterruptible sleep (a dead NFS server) may take long.
        time.sleep(pause)
        pause = min(pause * 1.02, 0.1)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # gone, or changed its user: then its end comes with its parent's


def make_cgroup(name: str) -> str | None:
    """Make a cgroup v2 inside the one this process is in.

    Returns:
        Its folder; None without cgroup v2 or the right to divide it, which a plain user seldom
        has outside a systemd session of their own.
    """
    base = _cgroup_base()
    if base is None:
        return None
    path = f"{base}/{name}"
    try:
        os.mkdir(path)
    except OSError:
        return None
    return path


def _cgroup_base() -> str | None:
    try:
        with open("/proc/self/cgroup") as file:
            inside = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), None)
        with open("/proc/self/mountinfo") as file:
            for line in file:
                fields = line.split()
                if " - cgroup2 " in line and inside is not None:
                    return (fields[4] + inside).rstrip("/")
    except OSError:
        pass
    return None


def kill_marked(attempt_id: str, cgroup: str | None) -> int:
    """End what is left of an attempt whose guard and supervisor are both gone.

    First by its cgroup, where it has one: nothing escapes that. Then by looking for its mark,
    `RECHAIN_ATTEMPT`, in the environment of this user's processes; a process that emptied its
    environment cannot be found this way.

    Args:
        attempt_id: the value of `RECHAIN_ATTEMPT`.
        cgroup: the recorded cgroup folder, or None.

    Returns:
        How many processes were sent SIGKILL by their mark.
    """
    if cgroup:
        end_cgroup(cgroup)
    mark = b"\0RECHAIN_ATTEMPT=" + attempt_id.encode() + b"\0"
    killed = 0
    for _ in range(2000):  # again for what forked meanwhile; two seconds at most
        found = [pid for pid in _own_processes() if mark in _environment(pid)]
        for pid in found:
            _send(pid, signal.SIGSTOP)
        for pid in found:
            _send(pid, signal.SIGKILL)
        killed += len(found)
        if not found:
            break
        time.sleep(0.001)
    return killed


def end_cgroup(cgroup: str) -> None:
    """SIGKILL all that is in a cgroup, and remove it."""
    try:
        with open(f"{cgroup}/cgroup.kill", "w") as file:
            file.write("1")
    except OSError:
        pass  # it is gone, and so is all that was in it
    for _ in range(1000):
        try:
            os.rmdir(cgroup)
        except FileNotFoundError:
            return
        except OSError:  # busy: the killed are not reaped yet
            time.sleep(0.001)
        else:
            return


def _own_processes() -> list[int]:
    mine = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != mine]


def _environment(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"\0" + file.read()
    except OSError:
        return b""  # another user's, or gone
