"""What several verbs of `rechain env` need: which environment, how to say a failure."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

import click

from rechain.environment import locks, store, stored
from rechain.environment.errors import EnvironmentFailure
from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["failures", "find_lock", "find_stored", "say", "wishes", "write_lock"]


def wishes(function: F) -> F:
    """Add the options that say what a lock is to have."""
    for option in reversed(
        (
            click.option(
                "--python", metavar="PYTHON", help="Interpreter: a version (3.8) or a path."
            ),
            click.option(
                "--as-of",
                metavar="DATE",
                help="Packages as they were on this day, such as 2018-12-31.",
            ),
            click.option("--mpi", metavar="MPI", help="With mpi4py for this MPI; as for run."),
            click.option("-o", "--output", metavar="FILE", help="Write the lock here."),
        )
    ):
        function = option(function)
    return function


def say(line: str) -> None:
    """Tell what happens; it is not the command's result."""
    click.echo(line, err=True)


@contextmanager
def failures() -> Iterator[None]:
    """Make the failures of environments those of the command, each a line and its cure."""
    try:
        yield
    except EnvironmentFailure as failure:
        hint = f"\n  {failure.hint}" if failure.hint else ""
        raise UserErrorException(f"{failure.message}{hint}") from failure


def find_lock(text: str) -> locks.Locked:
    """Return the lock that a user means: of a file, a folder, a stored environment or a run.

    Raises:
        UserErrorException: there is none.
    """
    if os.path.exists(text):
        return locks.read(text)
    found = _stored(text)
    if found is not None:
        return locks.read(found.prefix)
    return locks.read(_run_folder(text))


def find_stored(text: str) -> stored.Stored:
    """Return the built environment that a user means.

    Raises:
        UserErrorException: there is none.
    """
    found = _stored(text)
    if found is not None:
        return found
    cache, digest = store.cache_root(), find_lock(text)["digest"]
    if not any(one.name.startswith(digest) for one in stored.all_stored(cache)):
        raise UserErrorException(f"{text} is not built; to build it: rechain env build {text}")
    return stored.find(cache, digest)


def _stored(text: str) -> stored.Stored | None:
    hexadecimal = text and not text.strip("0123456789abcdef-")
    if not hexadecimal or len(text) < 4:
        return None
    cache = store.cache_root()
    if not any(one.name.startswith(text) for one in stored.all_stored(cache)):
        return None
    return stored.find(cache, text)


def _run_folder(text: str) -> str:
    from rechain.cli.shared import find_run

    try:
        return find_run(text).folder
    except UserErrorException as error:
        raise UserErrorException(
            f"{text!r} is no lock file, no environment that `rechain env list` shows, and no run "
            f"({error.message})",
            error,
        ) from error


def write_lock(lock: dict[str, Any], output: str | None) -> None:
    """Write a lock to a file, or to stdout."""
    import json

    text = json.dumps(lock, indent=2) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    from rechain.record import jsonl

    try:
        jsonl.write_atomic(output, lock)
    except OSError as error:
        raise UserErrorException(f"{output} cannot be written: {error.strerror}", error) from error
    say(f"{lock['digest'][:12]}  {locks.shown(lock)}")
