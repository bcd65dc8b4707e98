"""Names of v1 whose turn has not come: they can be imported, and say so when they are used."""

from __future__ import annotations

from rechain.exceptions import NotBuiltError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["planned"]


class _Planned(type):
    _words: str

    def __call__(cls, *_: Any, **__: Any) -> NoReturn:
        raise NotBuiltError(cls._words)

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):  # what Python itself asks for
            raise AttributeError(name)
        raise NotBuiltError(cls._words)


def planned(module: str, name: str, meanwhile: str) -> type:
    """Return a class that stands for a name of v1.

    Calling it, and asking it for an attribute, raises `NotBuiltError`.

    Args:
        module: the module of v1 that has the name.
        name: the name.
        meanwhile: what to do until it is there, a sentence.
    """
    words = f"{module}.{name} is planned and not built yet. {meanwhile}"
    return _Planned(name, (), {"__module__": module, "__doc__": words, "_words": words})
