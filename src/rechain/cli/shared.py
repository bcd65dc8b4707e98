"""What several verbs need: which workspace, which run, how to say a time."""

from __future__ import annotations

import contextlib
import os
import sys

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from rechain.workspace import Run, Workspace

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "RUN",
    "Look",
    "Verbs",
    "age",
    "colored",
    "duration",
    "find_run",
    "fit",
    "packages",
    "printable",
    "width",
    "workspace",
    "write",
]

RUN = click.argument("run", metavar="[RUN]", default="latest")

_AT_ONCE = 1.0  # seconds: an answer that takes no longer needs no word before it

_COLORS = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1", "cyan": "36"}


def packages(function: F) -> F:
    """Add the options that name packages: `pip`, `conda` and `channel`."""
    several: dict[str, Any] = {"multiple": True}
    for option in (
        click.option(
            "--channel",
            metavar="CHANNEL",
            help="Channel of conda: a name, an address or a folder; repeatable.",
            **several,
        ),
        click.option(
            "--conda",
            metavar="PACKAGE",
            help="Package of conda, such as numpy=1.14; repeatable.",
            **several,
        ),
        click.option(
            "--pip", metavar="REQUIREMENT", help="Package to add; repeatable.", **several
        ),
    ):
        function = option(function)
    return function


def workspace() -> Workspace:
    """Return the workspace of the current folder."""
    from rechain.workspace.workspace import Workspace

    return Workspace.local()


def find_run(name: str) -> Run:
    """Return the run a user means: an id, the beginning of one or of its last part, `latest`.

    Raises:
        UserErrorException: there is no such run, or more than one.
    """
    from rechain.exceptions import UserErrorException

    here = workspace()
    if name != "latest":
        return here.get_run(name)
    for run in here.get_runs():
        return run
    raise UserErrorException(f"there is no run yet in the workspace {here.path}")


class Verbs(click.Group):
    """A group of verbs.

    They are listed as they are defined, in the order a person meets them, and a name that is none
    is answered with the one it resembles.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return what a name means; see click."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # Newer releases of click do so themselves, where all verbs are loaded.
            if error.format_message() == error.message:
                import difflib

                for name in difflib.get_close_matches(args[0], self.list_commands(ctx), 1):
                    more = f"{error.message} Did you mean '{name}'?"
                    raise click.UsageError(more, error.ctx) from None
            raise


class Look:
    """Sees how a run stands, and says on stderr what keeps us waiting for the answer.

    Args:
        run: the run.
        trying: what happens while its cluster says nothing, and what one can do.
    """

    def __init__(self, run: Run, trying: str) -> None:
        self.run = run
        self._trying = trying
        self._said: set[str] = set()

    def __call__(self) -> str:
        """Return why it waits in a queue that is not ours, or nothing; see `follow`."""
        with self.told_if_slow():
            waits, silence = self.run._look()
        if silence:
            self._say(f"{silence}; {self._trying}")
        return waits

    @contextlib.contextmanager
    def told_if_slow(self) -> Iterator[None]:
        """Say what it waits for, if what is done within takes long: a cluster is asked."""
        if not self.run._job.get("slurm"):
            yield
            return
        import threading

        slow = threading.Timer(_AT_ONCE, self._say, ["waiting for an answer of Slurm"])
        slow.daemon = True
        slow.start()
        try:
            yield
        finally:
            slow.cancel()

    def _say(self, text: str) -> None:
        kind = text.partition(" ")[0]  # the rest may change with every look
        if kind not in self._said:
            self._said.add(kind)
            click.echo(f"{self.run.id}  {printable(text)}", err=True)


def colored(text: str, color: str, *, err: bool = False) -> str:
    """Return the text in a color if it goes to a terminal that wants colors."""
    stream = sys.stderr if err else sys.stdout
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if plain or not stream.isatty():
        return text
    return f"\033[{_COLORS[color]}m{text}\033[0m"


def printable(text: object) -> str:
    """Return text as it can be shown in one line: what a terminal would act upon is escaped."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in shown
    )


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text
    )


def fit(text: str, columns: int) -> str:
    """Return a text padded, or cut with an ellipsis, to a number of columns."""
    if width(text) > columns:
        while text and width(text) >= columns:
            text = text[:-1]
        text += "…"
    return text + " " * (columns - width(text))


def write(descriptor: int, data: bytes) -> bool:
    """Write all of it to a descriptor; False if nobody reads there any more."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:  # a closed pipe, or a terminal that is gone
        return False
    return True


def duration(seconds: float) -> str:
    """Return a span of time as a person says it: `0.04 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    seconds = round(seconds)
    if seconds < 3600:
        large, small = f"{seconds // 60} min", f"{seconds % 60} s"
    else:
        large, small = f"{seconds // 3600} h", f"{seconds % 3600 // 60} min"
    return large if small.startswith("0 ") else f"{large} {small}"


def age(seconds: float) -> str:
    """Return how long ago something was, roughly."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return "just now" if seconds < 10 else f"{seconds:.0f} s ago"
