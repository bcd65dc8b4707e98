"""Requirement files: what v1 copied into the environment line by line."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException

__all__ = ["logical_lines", "option_of", "read", "text_of"]

_INCLUDES = ("-r", "--requirement")


def read(path: str, parameter: str) -> list[str]:
    """Return the requirements of a file and of those it includes, in order.

    Comments and blank lines are dropped, lines that end with a backslash go on.

    Args:
        path: the file.
        parameter: the parameter that names it, for messages.

    Raises:
        UserErrorException: a file cannot be read, or a line is an option.
    """
    return _read(path, f"{parameter} names {path}", ())


def _read(path: str, why: str, including: tuple[str, ...]) -> list[str]:
    real = os.path.realpath(path)
    if real in including:
        raise UserErrorException(f"{why}, which includes itself: remove one of the -r lines.")
    text = text_of(path, why)
    found = []
    for number, line in logical_lines(text):
        if not line.startswith("-"):
            found.append(line)
            continue
        where = f"{path}, line {number}"
        option, value = option_of(line)
        if option not in _INCLUDES:
            raise UserErrorException(_unsupported(where, option))
        included = os.path.join(os.path.dirname(path), value)
        found += _read(included, f"{where}, includes {included}", (*including, real))
    return found


def option_of(line: str) -> tuple[str, str]:
    """Return the option that a line begins with, and its value: `-r`, `file` of `-rfile`."""
    import re

    found = re.match(r"(--[^\s=]*|-[^-\s]?)[\s=]*(.*)", line, re.DOTALL)
    return (found[1], found[2].strip()) if found else ("", line)


def text_of(path: str, why: str) -> str:
    """Return the text of a file.

    Args:
        path: the file.
        why: the beginning of what is said if it cannot be read.

    Raises:
        UserErrorException: it cannot be read.
    """
    from rechain.job.git import without_credentials

    why = without_credentials(why)  # pip would also take an address
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except FileNotFoundError as error:
        raise UserErrorException(
            f"{why}, which does not exist. The path is relative to the folder of what names it.",
            error,
        ) from error
    except UnicodeDecodeError as error:
        raise UserErrorException(
            f"{why}, which is not UTF-8 text (byte {error.start}).", error
        ) from error
    except OSError as error:
        raise UserErrorException(
            f"{why}, which cannot be read: {error.strerror}.", error
        ) from error


def logical_lines(text: str) -> list[tuple[int, str]]:
    """Return the lines of a requirement file, joined and without comments, with their numbers."""
    lines = []
    start, joined = 0, ""
    for number, line in enumerate([*text.split("\n"), ""], 1):
        start = start or number
        joined += line.rstrip("\r")
        if joined.endswith("\\") and not _is_comment(joined):
            joined = joined[:-1]
            continue
        if not _is_comment(joined):
            # As for pip, a comment starts at the line's start or after white space.
            comment = min(
                (at for at in (joined.find(" #"), joined.find("\t#")) if at >= 0), default=None
            )
            if kept := joined[:comment].strip():
                lines.append((start, kept))
        start, joined = 0, ""
    return lines


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _unsupported(where: str, option: str) -> str:
    # Of an index the value may hold a password, so it is not shown.
    if option in ("-e", "--editable"):
        cure = "put the package's folder into source_directory, or require a released version"
    elif option in ("-c", "--constraint"):
        cure = "give the versions in the requirements themselves"
    else:
        cure = (
            "package indexes and how pip behaves are set where uv and pip read them: uv.toml, "
            "pip.conf, or variables such as UV_INDEX"
        )
    return f"{where}: {option!r} is an option that is not supported here; {cure}."
