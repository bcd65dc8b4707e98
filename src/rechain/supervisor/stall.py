"""The stall watchdog: whether a script still shows signs of life.

No event says that nothing happens, so this looks, four times in the promised span.
"""

from __future__ import annotations

import os
import time

from rechain.supervisor import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rechain.record.paths import AttemptPaths, RunPaths

__all__ = ["Watchdog"]

# Less than this part of one core is a timer in a library, or a thread that waits in small steps.
_IDLE = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")


class Watchdog:
    """Looks for a script's signs of life: output, metrics, new files, use of the processor.

    Under MPI the use of the processor is none: a rank that waits for a message that never comes
    asks for it without pause.

    Args:
        run: the run.
        attempt: the attempt.
        seconds: how long there may be no sign.
        busy_waits: whether the script's processes speak MPI.
        processes: returns the pids of the script's own: in a container they may not be ours.
    """

    def __init__(
        self,
        run: RunPaths,
        attempt: AttemptPaths,
        seconds: float,
        busy_waits: bool,
        processes: Callable[[], list[int]],
    ) -> None:
        self._streams = (attempt.root, run.metrics)
        self._work = run.work
        self._seconds = seconds
        self._busy_waits = busy_waits
        self._processes = processes
        self._written: object = None
        self._used = 0.0
        self._looked = self._alive = time.monotonic()
        self.due = self._looked + seconds / 4

    def stalled(self) -> bool:
        """Look, if it is time to; return whether there was no sign for too long."""
        now = time.monotonic()
        if now < self.due:
            return False
        written = [*map(_sizes, self._streams), _changes(self._work, 2)]
        used = 0.0 if self._busy_waits else _processor_time(self._processes())
        if written != self._written or used - self._used > _IDLE * (now - self._looked):
            self._alive = now
        self._written, self._used, self._looked = written, used, now
        self.due = now + self._seconds / 4
        return now - self._alive >= self._seconds


def _sizes(folder: str) -> list[tuple[str, int]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".out", ".err", ".jsonl")):
                try:
                    found.append((entry.name, entry.stat().st_size))
                except OSError:
                    continue
    return sorted(found)


def _changes(folder: str, depth: int) -> list[tuple[str, int]]:
    """Return when names came to a folder and to those in it, as when LogReport writes."""
    try:
        found = [(folder, os.stat(folder).st_mtime_ns)]
        if depth:
            with os.scandir(folder) as entries:
                inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            for path in sorted(inner):
                found += _changes(path, depth - 1)
    except OSError:
        return []
    return found


def _processor_time(pids: list[int]) -> float:
    """Return the seconds that processes and our descendants have used, ended ones included."""
    ticks = 0
    roots = [os.getpid(), *pids]
    for pid in {*pids, *(pid for root in roots for pid in tree.descendants(root))}:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc(5)
    return ticks / _TICKS
