"""Write the end of a run whose guard and supervisor are both gone.

Normally one of the pair outlives the other and writes why. When both were killed at once, or the
machine lost power, the next reader on that machine ends what is left and writes the end.
"""

from __future__ import annotations

import os
import time

from rechain.compute import get
from rechain.record import jsonl
from rechain.record.journal import end_event, fold, fold_attempt
from rechain.supervisor.tree import kill_marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.record.paths import AttemptPaths, RunPaths

__all__ = ["give_up", "reconcile"]

# How long a supervisor may take from its claim to its first line, once its launcher is gone.
_START_SECONDS = 5.0


def reconcile(run: RunPaths, job: dict[str, Any]) -> None:
    """See whether an unfinished run can still end by itself; if not, write its end.

    Does nothing if that cannot be known from here, as for the runs of another host.

    Args:
        run: the run.
        job: its job document.
    """
    try:
        target = get(job)
    except LookupError:
        return  # only a newer Rechain, or another one, knows that place
    if fold(run).end or target.poll([run])[run.run_id].alive is not False:
        return
    attempt = run.last_attempt()
    if attempt is not None and fold_attempt(attempt).attempt is None:
        until = time.monotonic() + _START_SECONDS
        while fold_attempt(attempt).attempt is None and time.monotonic() < until:
            time.sleep(0.05)  # the launcher leaves before the supervisor's first line is there
        if target.poll([run])[run.run_id].alive is not False:
            return
    if fold(run).end:
        return  # written in its last moment
    try:
        give_up(run, "guard and supervisor were both killed, or the machine went down")
    except OSError:
        pass  # a folder that is ours to read only: its owner will say it


def give_up(run: RunPaths, message: str) -> None:
    """End what is left of the newest attempt's processes and record `supervisor_lost`."""
    attempt = run.last_attempt() or _claim_first(run)
    started = fold_attempt(attempt).attempt or {}
    left = kill_marked(f"{run.run_id}/{attempt.number}", started.get("cgroup"))
    jsonl.write_new(attempt.reader_end, end_event("supervisor_lost", message, leftover=left))


def _claim_first(run: RunPaths) -> AttemptPaths:
    attempt = run.attempt(1)
    try:
        os.mkdir(attempt.root)
    except FileExistsError:
        pass  # another reader came to the same conclusion
    return attempt
