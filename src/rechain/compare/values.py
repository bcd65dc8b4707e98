"""JSON by value: Chainer's logs and whatever else is JSON, without what only says when it was."""

from __future__ import annotations

import json
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["TIMES", "compare", "is_time", "parse"]

TIMES = ("elapsed_time", "time", "timestamp", "datetime", "date", "wall_time", "duration")
_SHOWN = 3


def is_time(name: str) -> bool:
    """Return whether a field or an array, by its name, says when or how long."""
    last = name.rpartition("/")[2].strip("_").lower()
    return last in TIMES or last.endswith("elapsed_time")


def parse(text: str) -> Any:
    """Return the document that a text is; None if it is none."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def compare(first: Any, second: Any, where: str = "") -> Iterator[str]:
    """Yield in which places two documents differ: the first of them, and how many there are."""
    found = list(_differences(first, second, where))
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield f"... {len(found)} values differ in all"


def _differences(first: Any, second: Any, where: str) -> Iterator[str]:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in [*first, *(key for key in second if key not in first)]:
            inside = f"{where}.{key}" if where else key
            if is_time(key):
                continue
            if key not in first or key not in second:
                yield f"{inside}: only in the {'first' if key in first else 'second'}"
            else:
                yield from _differences(first[key], second[key], inside)
    elif isinstance(first, list) and isinstance(second, list):
        if len(first) != len(second):
            yield f"{where or 'the list'}: {len(first)} and {len(second)} elements"
        for number, (one, other) in enumerate(zip(first, second, strict=False)):
            yield from _differences(one, other, f"{where}[{number}]")
    elif type(first) is not type(second) or first != second:
        numbers = isinstance(first, (int, float)) and isinstance(second, (int, float))
        if numbers and (first == second or (math.isnan(first) and math.isnan(second))):
            return  # 1 and 1.0, say
        by = f", by {abs(first - second):.3g}" if numbers else ""
        yield f"{where or 'the value'}: {_shown(first)} and {_shown(second)}{by}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
