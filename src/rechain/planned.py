"""Names of v1 whose turn has not come: they can be imported, and say so when they are used."""

from __future__ import annotations

from rechain.exceptions import NotBuiltError, UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TypeVar

    Class = TypeVar("Class", bound=type)

__all__ = ["azures", "planned", "unbuilt"]


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


def unbuilt(meanwhile: str, *names: str) -> Callable[[Class], Class]:
    """Return a decorator that gives a class members of v1 whose turn has not come.

    Calling one raises `NotBuiltError`.

    Args:
        meanwhile: what to do until they are there, a sentence.
        names: their names.
    """
    return _refusing(NotBuiltError, f"is planned and not built yet. {meanwhile}", names)


def azures(instead: str, *names: str) -> Callable[[Class], Class]:
    """Return a decorator that gives a class members of v1 which only make sense in Azure.

    Calling one raises `UserErrorException`.

    Args:
        instead: what there is here, a sentence.
        names: their names.
    """
    return _refusing(UserErrorException, f"needs Azure, which Rechain has not. {instead}", names)


def _refusing(
    kind: type[UserErrorException], words: str, names: tuple[str, ...]
) -> Callable[[Class], Class]:
    def decorate(owner: Class) -> Class:
        for name in names:
            setattr(owner, name, staticmethod(_refusal(kind, f"{owner.__name__}.{name} {words}")))
        return owner

    return decorate


def _refusal(kind: type[UserErrorException], words: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise kind(words)

    refuse.__doc__ = words
    return refuse
