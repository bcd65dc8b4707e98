"""Record the end of a run that cannot record it itself any more."""

from __future__ import annotations

import os

from rechain.record import jsonl
from rechain.record.journal import end_event, fold_attempt
from rechain.supervisor.container import end_all, take_away
from rechain.supervisor.tree import kill_marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.record.paths import AttemptPaths, RunPaths

__all__ = ["give_up"]


def give_up(run: RunPaths, cause: str, message: str, *, here: bool, **fields: Any) -> bool:
    """Record the end of a run's newest attempt.

    Args:
        run: the run.
        cause: the cause.
        message: one line for people.
        here: whether it ran on this host: then what is left of its processes is ended.
        **fields: further fields of the end, such as `hint`.

    Returns:
        False if another reader was first.

    Raises:
        OSError: the run folder cannot be written.
    """
    attempt = run.last_attempt() or _claim_first(run)
    if here:
        started = fold_attempt(attempt).attempt or {}
        mark = f"{run.run_id}/{attempt.number}"
        fields["leftover"] = kill_marked(mark, started.get("cgroup"))
        end_all(attempt)
    for place in (attempt, *map(attempt.node, attempt.nodes())):
        take_away(place)
    return jsonl.write_new(attempt.reader_end, end_event(cause, message, **fields))


def _claim_first(run: RunPaths) -> AttemptPaths:
    attempt = run.attempt(1)
    try:
        os.mkdir(attempt.root)
    except FileExistsError:
        pass  # another reader came to the same conclusion
    return attempt
