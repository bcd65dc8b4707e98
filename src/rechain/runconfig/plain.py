"""What callers pass for numbers and flags, as Python's own: NumPy's scalars, 2.0, 1 and 0."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["count", "flag", "seconds", "whole"]

_BOOLEANS = ("bool_", "bool")  # NumPy's name of its own, before and since 2.0


def whole(value: Any) -> Any:
    """Return an integer as an int; what is none comes back as it is, as booleans do."""
    if not hasattr(value, "__index__") or type(value).__name__ in _BOOLEANS:
        return value
    try:
        return value.__index__()
    except TypeError:  # an array
        return value


def count(value: Any) -> Any:
    """Return a whole number as an int; what is none comes back as it is."""
    is_whole = hasattr(value, "is_integer") and value.is_integer()
    return int(value) if is_whole and not isinstance(value, bool) else whole(value)


def seconds(value: Any) -> Any:
    """Return a number as an int or a float; what is none comes back as it is."""
    is_real = hasattr(value, "is_integer") and not hasattr(value, "__index__")
    return float(value) if is_real else whole(value)


def flag(value: Any) -> Any:
    """Return 1, 0 and NumPy's booleans as a bool; what is neither comes back as it is.

    Texts do: `"False"` would be true.
    """
    is_bit = type(number := whole(value)) is int and number in (0, 1)
    return bool(value) if is_bit or type(value).__name__ in _BOOLEANS else value
