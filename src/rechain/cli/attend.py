"""Attend a run from its start to its end: its output, the keyboard, its conclusion."""

from __future__ import annotations

import os
import signal
import sys
import time

from rechain.cli.shared import colored, duration, printable, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.workspace import Run

__all__ = ["Attendant"]

_SEEN = 64 * 1024  # bytes: what stands on the screen above a conclusion, generously
_AT_ONCE = 3.0  # seconds: who waits in a queue no longer has not waited


class Attendant:
    """Waits for a run in the foreground.

    Within `with`, Ctrl-C and SIGTERM end what is being submitted; once there is a run they cancel
    it, and a second one kills it.

    Args:
        as_json: print one JSON object at the end, on stdout, and all else on stderr.
        quiet: print nothing but the script's own output.
    """

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.run: Run | None = None
        self._as_json = as_json
        self._quiet = quiet
        self._signal = 0  # the first that came
        self._silence = ""  # why nothing is known of the run, as long as its cluster says nothing
        self._silence_said = False
        self._since = 0.0  # when we began to follow
        self._before: dict[int, Any] = {}
        self._notes: set[str] = set()  # that were said
        self._waits: list[str] = []  # what was said last of that
        self._ends: dict[int, bytes] = {}  # the last byte written to each descriptor
        self._prepared = b""  # the last of what was printed of preparing

    def __enter__(self) -> Attendant:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _: object) -> None:
        from rechain.record.requests import ask_to_stop

        if self.run is None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        ask_to_stop(self.run._paths, at_once=bool(self._signal))
        if self._signal and self._silence:  # nobody can say when that will be heard
            self._end_line()
            self.say(f"left as it is; to give it up: rechain rm --force {self.run.id}")
            raise SystemExit(128 + number)
        if number == signal.SIGINT and not self._signal:
            write(2, b"\ncanceling; Ctrl-C again kills it at once\n")
            self._ends[2] = b"\n"
        self._signal = self._signal or number

    def follow(self) -> None:
        """Copy the run's output to ours until the run ends.

        If nobody reads it any more, the run goes on: its output is in its folder.
        """
        from rechain.record.follow import follow

        assert self.run is not None
        self._since = time.monotonic()
        descriptors = {"prepare": 2, "queued": 2, "out": 2 if self._as_json else 1, "err": 2}
        for stream, chunk in follow(self.run._paths, self._look):
            if stream == "queued" and not self._as_json:
                self._say_why()
            if stream == "note":
                self._say_note(chunk.decode())
                continue
            if stream == "prepare":
                self._prepared = (self._prepared + chunk)[-_SEEN:]
            descriptor = descriptors[stream]
            if write(descriptor, chunk):
                self._ends[descriptor] = chunk[-1:]
                if os.isatty(descriptor):
                    self._ends[2] = chunk[-1:]  # both are on one screen

    def _look(self) -> str:
        """See how the run stands; return why it waits, once that is worth a word."""
        assert self.run is not None
        waits, self._silence = self.run._look()
        if self._silence and not self._silence_said:
            self._silence_said = True
            self._end_line()
            leave = "Ctrl-C leaves it" if self._signal else "Ctrl-C twice leaves it"
            self.say(printable(f"{self._silence}; still trying; {leave}"))
        young = time.monotonic() - self._since < _AT_ONCE  # most runs do not wait longer
        return "" if young else waits

    def _say_note(self, text: str) -> None:
        """Say a note at once, and once: another attempt has most of them again."""
        if self._as_json or self._quiet or text in self._notes:
            return
        self._notes.add(text)
        self._end_line()
        self.say(colored(f"note: {text}", "dim", err=True))

    def _end_line(self) -> None:
        """Begin a line of our own."""
        if self._ends.get(2, b"\n") != b"\n":
            write(2, b"\n")
            self._ends[2] = b"\n"

    def _say_why(self) -> None:
        """Say why the run waits."""
        from rechain.workspace.details import EXPECTED, nodes_in_words

        assert self.run is not None
        # When it will probably start changes with every look.
        words = [text.partition(EXPECTED)[0] for text in nodes_in_words(self.run)]
        if words != self._waits:
            self._waits = words
            for text in words:
                self.say(colored(printable(text), "dim", err=True))

    def conclude(self, more: dict[str, Any] | None = None) -> int:
        """Say how the run ended; return the exit code.

        Args:
            more: what the JSON object has beside what it always has.
        """
        from rechain.record.causes import CAUSES
        from rechain.workspace.details import describe, hint, queued_seconds

        assert self.run is not None
        state = self.run._state()
        end = state.end
        assert end is not None
        assert state.last is not None
        cause = CAUSES[end["cause"]]
        code = cause.exit_code
        if code is None:
            code = end["exit_code"] if end["exit_code"] is not None else 128 + end["signal"]
        if cause.code == "canceled" and self._signal:
            code = 128 + self._signal
        seconds = end["t"] - (state.last.started or end["t"])
        begun = state.last.started or (state.last.attempt or end)["t"]
        queued = queued_seconds(self.run, state)
        if self._as_json:
            import json

            document = {
                "run_id": self.run.id,
                "status": state.status,
                "cause": cause.code,
                "message": end["message"],
                "detail": end.get("detail", ""),
                "hint": hint(end),
                "exit_code": code,
                "seconds": round(seconds, 3),
                **({} if queued is None else {"queued_seconds": round(queued, 3)}),
                "folder": self.run.folder,
                "metrics": self.run.get_metrics(),
                **(more or {}),
            }
            write(1, f"{json.dumps(document)}\n".encode())
        elif not self._quiet:
            self._end_line()
            color = {"Completed": "green", "Canceled": "yellow"}.get(state.status, "red")
            waited = "" if queued is None else f"{duration(queued)} in the queue"
            took = f"after {duration(end['t'] - begun)}{waited and f', and {waited}'}"
            if waited and state.last.attempt is None:
                took = f"after {waited}"  # it came no further
            seen = {line.strip() for line in self._prepared.decode(errors="replace").splitlines()}
            if end["message"] in seen:
                end = {**end, "message": "as said above"}
            self.say(f"{colored(describe(end), color, err=True)} {took}")
            if end.get("rank"):  # what rank 0 said stands above already
                for line in end.get("tail") or ():
                    self.say(f"  [{end['rank']}] {printable(line)}")
            # What the script itself said of its end stands right above.
            detail = "" if cause.code == "user_error" else end.get("detail", "")
            for text in (detail, hint(end)):
                for line in text.splitlines() if cause.code != "completed" else ():
                    if line.strip() not in seen:
                        self.say(f"  {printable(line)}")
            folder = printable(os.path.relpath(self.run.folder))
            self.say(colored(f"  {folder}", "dim", err=True))
        return code

    def say(self, line: str) -> None:
        """Print a line of our own, unless told to be quiet."""
        if not self._quiet:
            encoding = sys.stderr.encoding or "utf-8"
            write(2, f"{line}\n".encode(encoding, "backslashreplace"))
