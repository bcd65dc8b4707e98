"""The journal of an attempt, and the state of a run as a fold over all that was written.

The fold is pure: it looks at files, never at processes or clocks, so every reader on every host
gets the same answer from the same files.
"""

from __future__ import annotations

import os
import time

from rechain.record import jsonl
from rechain.record.causes import CAUSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.record.paths import AttemptPaths, RunPaths

__all__ = ["AttemptState", "Journal", "RunState", "end_event", "fold", "fold_attempt"]


class Journal:
    """The one writer of an attempt's events.

    Args:
        path: the journal file; made if missing.
    """

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o644)
        self._seq = 0

    def write(self, event: str, *, sync: bool = False, **fields: Any) -> None:
        """Append one event.

        Args:
            event: the kind of event.
            sync: wait until it is on the disk.
            **fields: the event's fields.

        Raises:
            OSError: it could not be written whole; nothing of it is left in the file.
        """
        self._seq += 1
        row = {"seq": self._seq, "t": time.time(), "event": event, **fields}
        size = os.fstat(self._descriptor).st_size
        try:
            jsonl.append(self._descriptor, row, sync=sync)
        except OSError:
            # The next event must not be glued to a torn line.
            os.ftruncate(self._descriptor, size)
            self._seq -= 1
            raise


def end_event(cause: str, message: str, **fields: Any) -> dict[str, Any]:
    """Return an `end` event as guard and readers write it, outside the journal."""
    return {
        "schema": 1,
        "event": "end",
        "t": time.time(),
        "cause": cause,
        "message": message,
        **fields,
    }


class AttemptState:
    """What the files say of one attempt.

    Attributes:
        number: the attempt's number.
        attempt: the `attempt` event, or None before the supervisor came up.
        state: `Starting`, or the newest `state` event's.
        ranks: the `rank` events, by rank.
        notes: the texts of the `note` events.
        nodes: the `nodes` event: what a run on a pool is limited to, or None.
        stopping: the cause for which the tree is being stopped, or None.
        end: the `end` event that counts, or None.
        started: when the script started (unix seconds), or None.
    """

    __slots__ = (
        "attempt", "end", "nodes", "notes", "number", "ranks", "started", "state", "stopping",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.number = number
        self.attempt: dict[str, Any] | None = None
        self.state = "Starting"
        self.ranks: dict[int, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.nodes: dict[str, Any] | None = None
        self.stopping: str | None = None
        self.end: dict[str, Any] | None = None
        self.started: float | None = None


class RunState:
    """What the files say of a run.

    Attributes:
        attempts: the attempts' states, oldest first.
        cancel_requested: whether somebody asked for the run's end.
        waiting: why it waits in a queue that is not ours, as a reader was told; empty if it does
            not. No file says this.
    """

    __slots__ = ("attempts", "cancel_requested", "waiting")

    def __init__(self, attempts: list[AttemptState], cancel_requested: bool) -> None:
        self.attempts = attempts
        self.cancel_requested = cancel_requested
        self.waiting = ""

    @property
    def last(self) -> AttemptState | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def end(self) -> dict[str, Any] | None:
        """The end of the newest attempt, or None while the run is under way or will go on."""
        end = self.last.end if self.last else None
        return None if end and end.get("requeue") else end

    @property
    def status(self) -> str:
        """The run's v1 status."""
        if self.end:
            return CAUSES[self.end["cause"]].status
        if self.cancel_requested:
            return "CancelRequested"
        if self.waiting:
            return "Queued"
        if self.last is None:
            return "NotStarted"
        return "Queued" if self.last.end else self.last.state


def fold_attempt(paths: AttemptPaths) -> AttemptState:
    """Return what the files of one attempt say."""
    state = AttemptState(paths.number)
    end = None
    rows = [row for row in jsonl.read_lines(paths.journal) if isinstance(row.get("seq"), int)]
    rows.sort(key=lambda row: row["seq"])
    for row in rows:
        event = row.get("event")
        if event == "attempt":
            state.attempt = row
        elif event == "state":
            state.state = row["state"]
            if row["state"] == "Running":
                state.started = row["t"]
        elif event == "rank":
            state.ranks[row["rank"]] = row
        elif event == "note":
            state.notes.append(row["text"])
        elif event == "nodes":
            state.nodes = row
        elif event == "stopping":
            state.stopping = row["cause"]
        elif event == "end" and end is None:
            end = row
    lost = (
        None
        if end and not end.get("requeue")
        else _end_in(paths.guard_end) or _end_in(paths.reader_end)
    )
    state.end = lost or end
    return state


def _end_in(path: str) -> dict[str, Any] | None:
    try:
        end = jsonl.read(path)
    except (OSError, ValueError):
        return None
    return end if isinstance(end, dict) and end.get("cause") in CAUSES else None


def fold(paths: RunPaths) -> RunState:
    """Return what the files of a run say."""
    attempts = [fold_attempt(paths.attempt(number)) for number in paths.numbers()]
    requests = _names(paths.requests)
    return RunState(attempts, "cancel" in requests or "kill" in requests)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
