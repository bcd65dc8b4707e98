"""SHA-256 at the price of what is hashed.

`hashlib` loads OpenSSL, which costs more than storing a small source folder; CPython's own SHA-256
is loaded in a tenth of that but hashes several times slower. So the amount to hash decides.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Hash(Protocol):
        """What a SHA-256 object can do."""

        def update(self, data: bytes | memoryview, /) -> None: ...
        def hexdigest(self) -> str: ...


__all__ = ["sha256"]

# From here on the faster hash has earned its import.
_LARGE = 512 << 10


_builtin: Callable[[bytes], Hash] | None = None


def sha256(amount: int) -> Callable[[bytes], Hash]:
    """Return the SHA-256 constructor to use for about `amount` bytes."""
    global _builtin  # noqa: PLW0603
    if amount < _LARGE and "hashlib" not in sys.modules:
        if _builtin is None:
            _builtin = _import()
        return _builtin
    import hashlib

    return hashlib.sha256


def _import() -> Callable[[bytes], Hash]:
    try:
        module = __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256")
    except ImportError:  # a Python that was built without it
        module = __import__("hashlib")
    found: Callable[[bytes], Hash] = module.sha256
    return found
