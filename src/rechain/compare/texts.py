"""Texts by line, without the moments that a log's lines begin with."""

from __future__ import annotations

import re
from itertools import zip_longest

__all__ = ["compare"]

# As logging's asctime and ISO 8601 write them; a date alone may be data.
_MOMENT = re.compile(r"\b(?:\d{4}-\d\d-\d\d[ T])?\d\d:\d\d:\d\d(?:[.,]\d+)?\b")
_SHOWN = 3
_WIDTH = 60


def compare(first: str, second: str) -> list[str]:
    """Return in which lines two texts differ: the first of them, and how many there are.

    Args:
        first: a text, with the ends of its lines as they are.
        second: another.
    """
    pairs = zip_longest(first.splitlines(keepends=True), second.splitlines(keepends=True))
    found = [
        f"line {number}: {_shown(one)} and {_shown(other)}"
        for number, (one, other) in enumerate(pairs, 1)
        if one != other and _MOMENT.sub("", one or "") != _MOMENT.sub("", other or "")
    ]
    more = [f"... {len(found)} lines differ in all"] if len(found) > _SHOWN else []
    return [*found[:_SHOWN], *more]


def _shown(line: str | None) -> str:
    if line is None:
        return "no line"
    return repr(line) if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]!r}..."
