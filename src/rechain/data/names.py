"""The names that inputs and outputs have: they become names of environment variables."""

from __future__ import annotations

import os
import re

from rechain.exceptions import UserErrorException

__all__ = ["checked", "made"]


def checked(what: str, name: str) -> str:
    """Return the name of an input or output.

    Raises:
        UserErrorException: it cannot be the name of a variable.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise UserErrorException(
            f"the {what}'s name is {name!r}; it must be letters, digits and underscores, and not "
            "begin with a digit."
        )
    return name


def made(prefix: str) -> str:
    """Return a name that nothing else has."""
    return f"{prefix}_{os.urandom(4).hex()}"
