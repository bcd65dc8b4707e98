"""Follow a run: its output as it appears, until its end is recorded."""

from __future__ import annotations

import os

from rechain.record import events, host
from rechain.record.journal import fold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rechain.record.journal import RunState
    from rechain.record.paths import AttemptPaths, RunPaths

__all__ = ["follow", "tails_of"]

# Where events do not reach (another host writes the folder) we look, ever more seldom: seconds.
_FIRST_LOOK, _LAST_LOOK = 0.2, 5.0
_CHUNK = 1 << 16


class Tail:
    """Reads what a file has gained since the last time.

    Args:
        path: the file; it need not exist yet.
        tag: put before each line, if not empty. Lines are then read as a whole, for others may
            come between them.
    """

    def __init__(self, path: str, tag: bytes = b"") -> None:
        self._path = path
        self._tag = tag
        self._rest = b""
        self._descriptor: int | None = None

    def read(self, *, whole: bool = False) -> Iterator[bytes]:
        """Yield what is new.

        Args:
            whole: nothing more will come: also a last line without its end.
        """
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return
        while chunk := os.read(self._descriptor, _CHUNK):
            yield from self._tagged(chunk)
        if whole and self._rest:
            yield from self._tagged(b"\n")

    def _tagged(self, chunk: bytes) -> Iterator[bytes]:
        if not self._tag:
            yield chunk
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if lines:
            yield b"".join(self._tag + line + b"\n" for line in lines)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def follow(
    run: RunPaths,
    reconcile: Callable[[], str],
    *,
    output: bool = True,
    ranks: tuple[int, ...] = (0,),
) -> Iterator[tuple[str, bytes]]:
    """Yield a run's output from its first byte, as it comes; return at the run's end.

    Args:
        run: the run.
        reconcile: called when the run's processes are gone without an end, or cannot be seen from
            here; writes the end if they are gone, and returns why the run waits in a queue that
            is not ours, or nothing.
        output: False to yield nothing and only wait.
        ranks: whose output. Of several each line begins with `[rank] `.

    Yields:
        `("prepare" | "out" | "err", bytes)` of the newest attempt. What has been written before
        the end is yielded before the return. `("note", text)` for each note, those from before
        the script's start before its first output. `("queued", b"")` when an attempt begins to
        wait in line, and when the reason of that changes.
    """
    watch = events.Watch()
    watch.add(run.attempts)
    pidfd: int | None = None
    current: AttemptPaths | None = None
    tails: list[tuple[str, Tail]] = []
    queued = 0
    waits = ""
    told = 0  # of the newest attempt's notes
    begun = False  # whether its script has said something
    state = fold(run)
    seen: tuple[int, ...] = ()
    look = _FIRST_LOOK
    try:
        while True:
            newest = run.last_attempt()
            if newest is not None and (current is None or newest.number != current.number):
                for stream, tail in tails:  # the last words of the attempt before
                    for chunk in tail.read(whole=True):
                        yield stream, chunk
                current = newest
                told, begun = 0, False
                watch.add(current.root)
                _close(tails)
                tails = [("prepare", Tail(current.prepare_log))] if output else []
                for rank in ranks if output else ():
                    tails += tails_of(current, rank, tagged=len(ranks) > 1)
                if pidfd is not None:
                    os.close(pidfd)
                    pidfd = None
            if current is not None and (sizes := _sizes(current)) != seen:
                seen = sizes
                state = fold(run)
            ended = state.end is not None
            if output and state.last and state.last.state == "Queued" and not state.last.end:
                if queued != state.last.number:
                    yield "queued", b""
                queued = state.last.number
            for text in _notes(state, told) if output else ():
                told += 1
                yield "note", text
            for stream, tail in tails:
                for chunk in tail.read(whole=ended):
                    look = _FIRST_LOOK
                    if stream != "prepare" and not begun:
                        begun = True
                        for text in _notes(fold(run), told):
                            told += 1
                            yield "note", text
                    yield stream, chunk
            if ended:
                return
            if pidfd is None:
                pidfd = _supervised_by(state)
            if pidfd is not None:
                ready = events.wait([watch.fileno(), pidfd], None)
            else:
                ready = events.wait([watch.fileno()], look)
                look = min(look * 1.5, _LAST_LOOK)
            watch.drain()
            if pidfd in ready or pidfd is None:
                if pidfd is not None:
                    os.close(pidfd)
                    pidfd = None
                before, waits = waits, reconcile()
                if output and waits and waits != before:
                    yield "queued", b""
    finally:
        watch.close()
        _close(tails)
        if pidfd is not None:
            os.close(pidfd)


def _notes(state: RunState, told: int) -> list[bytes]:
    """Return the notes of the newest attempt that have not been told."""
    notes = state.last.notes[told:] if state.last else ()
    return [text.encode("utf-8", "backslashreplace") for text in notes]


def _supervised_by(state: RunState) -> int | None:
    """Return a pidfd of the process whose end means that something must be done."""
    started = state.last.attempt if state.last else None
    if started is None or started.get("slurm"):
        return None  # of a Slurm job the scheduler knows whether it lives
    if host.elsewhere(started["host"], host.identity()):
        return None
    # While either of the pair lives, it ends the tree and writes why.
    guard = host.open_pidfd(started["guard"])
    return host.open_pidfd(started["supervisor"]) if guard is None else guard


def tails_of(attempt: AttemptPaths, rank: int, *, tagged: bool) -> list[tuple[str, Tail]]:
    """Return the readers of a rank's stdout and stderr, by name.

    Args:
        attempt: the attempt.
        rank: the rank.
        tagged: whether each line begins with the rank.
    """
    tag = b"[%d] " % rank if tagged else b""
    return [("out", Tail(attempt.stdout(rank), tag)), ("err", Tail(attempt.stderr(rank), tag))]


def _close(tails: list[tuple[str, Tail]]) -> None:
    for _, tail in tails:
        tail.close()


def _sizes(attempt: AttemptPaths) -> tuple[int, ...]:
    """Return what changes whenever the fold of an attempt may."""
    return tuple(map(_size, (attempt.journal, attempt.guard_end, attempt.reader_end)))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1
