"""Where this process is: which run, which attempt, which rank, which host."""

import os

__all__ = ["attempt", "host", "process_start", "rank", "run_folder"]

# Rechain's own first; then what MPI launchers set, for ranks that the script starts itself.
_RANKS = ("RECHAIN_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")


def run_folder():
    """Return the folder of the run around this process, or None outside of one."""
    folder = os.environ.get("RECHAIN_RUN_DIR")
    return folder if folder and os.environ.get("RECHAIN_RUN_ID") else None


def attempt():
    """Return the number of the attempt around this process."""
    number = os.environ.get("RECHAIN_ATTEMPT", "").rpartition("/")[2]
    return int(number) if number.isdigit() else 1


def rank():
    """Return this process's rank: 0 where there is only one."""
    for name in _RANKS:
        number = os.environ.get(name, "")
        if number.isdigit():
            return int(number)
    return 0


def process_start():
    """Return when this process started, in clock ticks since boot; 0 where nobody says."""
    try:
        with open("/proc/self/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def host():
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


def _first_line(path):
    try:
        with open(path) as file:
            return file.readline().strip()
    except OSError:
        return ""
