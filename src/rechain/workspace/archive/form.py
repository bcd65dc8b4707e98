"""What an archive of runs is made of: its first member, its links, its compression."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CONTENTS", "stays", "zstandard"]

CONTENTS = "rechain-export.json"


def stays(name: str, target: str, base: str) -> bool:
    """Return whether a link leads to somewhere in its own run."""
    whole = os.path.normpath(os.path.join(os.path.dirname(name), target))
    return not os.path.isabs(target) and f"{whole}/".startswith(f"{base}/")


def zstandard() -> Any:
    """Return Python's module for Zstandard.

    Raises:
        UserErrorException: this Python has none.
    """
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise UserErrorException(
            "Zstandard comes with Python 3.14, and Rechain runs on an older one: use .tar.gz"
        ) from None
    return zstd
