"""Which host this is, and whether a recorded process still lives on it.

A pid alone names nothing for long. A process is named by its pid, its start time (field 22 of
`/proc/<pid>/stat`, in clock ticks since boot, see proc(5)) and the boot it belongs to.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["elsewhere", "identity", "is_alive", "open_pidfd", "process", "rebooted", "start_time"]


def _first_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""


def identity() -> dict[str, str]:
    """Return this host as the record names it."""
    try:
        pid_ns = os.readlink("/proc/self/ns/pid")
    except OSError:
        pid_ns = ""
    return {
        "name": os.uname().nodename,
        "machine_id": _first_line("/etc/machine-id"),
        "boot_id": _first_line("/proc/sys/kernel/random/boot_id"),
        "pid_ns": pid_ns,
    }


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 if there is no such process.

    A zombie counts as gone: nothing of it runs any more.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    if fields[0] in (b"Z", b"X"):
        return 0
    return int(fields[19])


def process(pid: int) -> dict[str, int]:
    """Return a process of this host as the record names it."""
    return {"pid": pid, "start": start_time(pid)}


def is_alive(recorded: dict[str, Any]) -> bool:
    """Return whether a recorded process of this host and this boot still runs."""
    start = recorded.get("start")
    return bool(start) and start_time(recorded["pid"]) == start


def open_pidfd(recorded: dict[str, Any]) -> int | None:
    """Return a descriptor that becomes readable when a recorded process ends; None if it has."""
    try:
        descriptor = os.pidfd_open(recorded["pid"])
    except (OSError, OverflowError):  # gone, or a number that is no pid
        return None
    if not is_alive(recorded):  # the pid was reused: the descriptor is somebody else's
        os.close(descriptor)
        return None
    return descriptor


def rebooted(recorded: dict[str, str], here: dict[str, str]) -> bool:
    """Return whether `recorded` is this machine before its last boot: nothing of it can live."""
    same_machine = (
        bool(here["machine_id"])
        and recorded.get("machine_id") == here["machine_id"]
        and recorded.get("name") == here["name"]
    )
    return same_machine and recorded.get("boot_id") != here["boot_id"]


def elsewhere(recorded: dict[str, str], here: dict[str, str]) -> bool:
    """Return whether the processes of `recorded` cannot be seen from here."""
    return recorded.get("boot_id") != here["boot_id"] or recorded.get("pid_ns") != here["pid_ns"]
