"""Call C library functions that Python does not offer.

`ctypes` costs the supervisor's start more than all of Rechain's own modules; what it adds to its C
core, `_ctypes`, is not needed for functions of integers and byte strings. Where the core has
changed, `ctypes` itself does it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["error", "function"]

try:
    import _ctypes

    class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "i"

    class _Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = _Int

    class _Process:
        _handle = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]

    def function(name: str) -> Callable[..., int]:
        """Return a C function that takes ints and bytes and returns an int."""
        found: Callable[..., int] = _Function((name, _Process))  # type: ignore[arg-type]
        return found

    _errno: Callable[[], int] = _ctypes.get_errno
    function("getpid")()
except (ImportError, AttributeError, TypeError, ValueError):
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)

    def function(name: str) -> Callable[..., int]:
        """Return a C function that takes ints and bytes and returns an int."""
        found: Callable[..., Any] = getattr(_libc, name)
        return found

    _errno = ctypes.get_errno


def error(what: str) -> OSError:
    """Return the error of the last call."""
    number = _errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
