"""Write the end of a run whose guard and supervisor are both gone.

Normally one of the pair outlives the other and writes why. When both were killed at once, or the
machine lost power, the next reader on that machine ends what is left and writes the end.
"""

from __future__ import annotations

import os
import sys
import time

from rechain.compute import get
from rechain.compute.ended import give_up
from rechain.record.journal import fold, fold_attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.compute.target import Observation
    from rechain.record.paths import RunPaths

__all__ = ["LOST", "reconcile", "send_outputs"]

LOST = "supervisor_lost"

_BOTH_KILLED = "guard and supervisor were both killed, or the machine went down"

# How long the record of a run may lag behind the end of its processes.
_SETTLE_SECONDS = 5.0


def reconcile(run: RunPaths, job: dict[str, Any]) -> Observation | None:
    """See whether an unfinished run can still end by itself; if not, write its end.

    A run that is to end and waits in a queue is taken out of it.

    Does nothing if that cannot be known from here, as for the local runs of another host.

    Args:
        run: the run.
        job: its job document.

    Returns:
        What its target knows of it; None if the run has ended or its target is not known here.
    """
    try:
        target = get(job)
    except LookupError:
        return None  # only a newer Rechain, or another one, knows that place
    if fold(run).end:
        return None
    seen = target.poll([run])[run.run_id]
    if seen.alive and seen.reason and fold(run).cancel_requested:
        target.cancel(run)
    if seen.alive is not False:
        return seen
    until = time.monotonic() + _SETTLE_SECONDS
    while not _settled(run, job) and time.monotonic() < until:
        time.sleep(0.05)
    if fold(run).end:
        return None  # written in its last moment
    seen = target.poll([run])[run.run_id]
    if seen.alive is not False:
        return seen
    told = {"cause": LOST, "message": _BOTH_KILLED, **(seen.end or {})}
    try:
        here = not job.get("slurm")
        if give_up(run, told.pop("cause"), told.pop("message"), here=here, **told):
            send_outputs(run, job)
    except OSError:
        pass  # a folder that is ours to read only: its owner will say it
    return None


def send_outputs(run: RunPaths, job: dict[str, Any], *, attended: bool = False) -> bool:
    """Have what an ended run wrote sent to datastores, as far as that is not there yet.

    Args:
        run: the run.
        job: its job document.
        attended: whether to wait for that, and to say on stderr how it goes.

    Returns:
        False if it failed; who does not attend it cannot know.
    """
    attempt = run.last_attempt()
    if attempt is None or not (job.get("outputs") and os.path.exists(run.inputs)):
        return True  # nothing of the script ran
    import subprocess

    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.insert(0, {source!r}); import rechain.data.__main__"
    what = "take" if attended else "rest"
    command = [sys.executable, "-I", "-c", code, what, run.root, attempt.send_result]
    with open(attempt.prepare_log, "ab") as log:
        into = 2 if attended else log
        ended = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=into, stderr=into
        )
    return not ended.returncode


def _settled(run: RunPaths, job: dict[str, Any]) -> bool:
    """Return whether nothing more can be expected of a run whose processes are gone."""
    attempt = run.last_attempt()
    if attempt is None:
        return True
    if job.get("slurm"):
        # Another host wrote there: its last words may take a moment to be seen here.
        return bool(fold(run).end or (fold_attempt(attempt).end or {}).get("requeue"))
    # The launcher leaves before the supervisor's first line is there.
    return fold_attempt(attempt).attempt is not None
