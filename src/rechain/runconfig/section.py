"""How the sections of a run configuration hold their values and become documents.

A section is a class whose attributes are `Field`s. From these follow its defaults, the check of
what is assigned, and its form in YAML and JSON, with v1's names: `node_count` is `nodeCount`.
"""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException
from rechain.runconfig import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, TypeVar

    S = TypeVar("S", bound="Section")

__all__ = ["Field", "Section", "log"]

_NOT_GIVEN: Any = object()
_WORDS = {
    str: "a str",
    int: "an int",
    bool: "True or False",
    list: "a list",
    dict: "a dict",
    object: "a value",
}
_PLAIN: dict[Any, Any] = {bool: plain.flag, int: plain.count, (int, float): plain.seconds}


class Field:
    """An attribute of a section. None is a value of every field.

    Args:
        kind: what its values are: `str`, `int`, `bool`, `list`, `dict`, `object` (anything), a
            `Section`, `[Section]` for a list of these, `{str: Section}` for a dict of these; or
            several sections as a tuple.
        default: the first value, or a class or function that makes it.
        absent: the value when a document lacks the field, where that is not the default.
        omit_none: whether the field is left out of documents while it is None.
        key: its name in documents, where that is not its own in camel case.
        old: what replaces it, if v1 calls it deprecated.
    """

    def __init__(
        self,
        kind: Any,
        default: Any = None,
        *,
        absent: Any = _NOT_GIVEN,
        omit_none: bool = False,
        key: str = "",
        old: str = "",
    ) -> None:
        self.kind = kind
        self.default = default
        self.absent = absent
        self.omit_none = omit_none
        self.key = key
        self.old = old

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        first, *others = name.strip("_").split("_")
        self.key = self.key or first + "".join(word.capitalize() for word in others)

    def __get__(self, section: Section | None, owner: type | None = None) -> Any:
        return self if section is None else section.__dict__[self.name]

    def __set__(self, section: Section, value: Any) -> None:
        if self.old:
            log(f"{type(section).__name__}.{self.name} is deprecated in v1: {self.old}")
        where = f"{type(section).__name__}.{self.name}"
        section.__dict__[self.name] = _checked(self.kind, value, where)
        section._assigned(self.name, value)


class Section:
    """A part of a run configuration.

    Args:
        values: first values of its fields; the others have their defaults.

    Raises:
        AttributeError: it has no such field.
        UserErrorException: a value is of another type than the field's.
    """

    _fields: ClassVar[dict[str, Field]] = {}
    # Where its values come from: what else is there, and its comments, is kept when it is saved.
    _source: Any = None

    def __init_subclass__(cls) -> None:
        own = {name: field for name, field in vars(cls).items() if isinstance(field, Field)}
        cls._fields = {**cls._fields, **own}

    def __init__(self, **values: Any) -> None:
        for name, field in self._fields.items():
            self.__dict__[name] = _made(field.default)
        for name, value in values.items():
            field = self._fields.get(name)  # type: ignore[assignment]
            if field is None:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            self.__dict__[name] = _checked(field.kind, value, f"{type(self).__name__}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        # As in v1: what is misspelt must not go unseen.
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}; it has "
                f"{', '.join(sorted(n for n in self._fields if not n.startswith('_')))}"
            )
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        changed = (
            f"{name}={self.__dict__[name]!r}"
            for name, field in self._fields.items()
            if field.kind in _WORDS and self.__dict__[name] != _made(field.default)
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    def _assigned(self, name: str, value: Any) -> None:
        """Do what follows from an assignment."""

    def to_document(self) -> dict[str, Any]:
        """Return its document: plain JSON values, with v1's names, in v1's order."""
        return {
            field.key: _document(self.__dict__[name])
            for name, field in self._fields.items()
            if not (field.omit_none and self.__dict__[name] is None)
        }

    @classmethod
    def from_document(cls: type[S], document: Any, where: str = "") -> S:
        """Return the section of a document.

        Args:
            document: as `to_document` returns it; what it lacks has the default, what is unknown
                is ignored.
            where: the document's place, for messages.

        Raises:
            UserErrorException: it is no mapping, or a value is of another type than the field's.
        """
        where = where or cls.__name__
        if not hasattr(document, "keys"):
            raise UserErrorException(
                f"{where} is {document!r}, a {type(document).__name__}; it must be a mapping with "
                f"keys such as {', '.join(field.key for field in list(cls._fields.values())[:3])}."
            )
        section = cls.__new__(cls)
        Section.__init__(section)
        for name, field in cls._fields.items():
            section.__dict__[name] = (
                _loaded(field.kind, document[field.key], f"{where}.{field.key}")
                if field.key in document
                else _absent(field)
            )
        section._source = document
        return section


def log(text: str, logger: str | None = "azureml.core.environment") -> None:
    """Warn in the user's logging, by the logger that v1 has for it; None is the root logger."""
    import logging

    logging.getLogger(logger).warning("%s", text)


def _absent(field: Field) -> Any:
    """Return the value of a field that a document lacks."""
    if field.absent is not _NOT_GIVEN:
        return _made(field.absent)
    if isinstance(field.default, type) and issubclass(field.default, Section):
        return field.default.from_document({})
    return _made(field.default)


def _made(default: Any) -> Any:
    return default() if callable(default) else default


def _checked(kind: Any, value: Any, where: str) -> Any:
    """Return the value of a field, if it is of its kind."""
    if value is None:
        return None
    if isinstance(kind, (list, dict)):
        whole, (inner,) = type(kind), kind if isinstance(kind, list) else kind.values()
        if not isinstance(value, whole):
            raise _wrong(value, _WORDS[whole], where)
        for item in value.values() if isinstance(value, dict) else value:
            if not isinstance(item, inner):
                raise _wrong(item, f"a {inner.__name__}", f"an element of {where}")
        return value
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind is list and isinstance(value, tuple):
        return list(value)
    if kind in _PLAIN:
        value = _PLAIN[kind](value)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if isinstance(value, kinds) and not (isinstance(value, bool) and int in kinds):
        return value
    words = " or ".join(_WORDS.get(one, f"a {one.__name__}") for one in kinds)
    raise _wrong(value, words, where)


def _loaded(kind: Any, value: Any, where: str) -> Any:
    """Return the value of a field from its value in a document."""
    if value is None:
        return None
    if isinstance(kind, tuple):
        sections = [one for one in kind if hasattr(one, "_means") and one._means(value)]
        kind = sections[0] if sections else kind
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise _wrong(value, "a list", where)
        return [_loaded(kind[0], item, f"{where}[{at}]") for at, item in enumerate(value)]
    if isinstance(kind, dict):
        if not hasattr(value, "keys"):
            raise _wrong(value, "a mapping", where)
        (inner,) = kind.values()
        return {str(name): _loaded(inner, value[name], f"{where}.{name}") for name in value}
    if hasattr(kind, "from_document"):
        return kind.from_document(value, where)
    value = _document(value)
    if kind is str and type(value) in (int, float):  # a version such as 3.6 without quotes
        return str(value)
    if kind is int and isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return _checked(kind, value, where)


def _wrong(value: Any, words: str, where: str) -> UserErrorException:
    return UserErrorException(
        f"{where} is {value!r}, a {type(value).__name__}; it must be {words}."
    )


def _document(value: Any) -> Any:
    """Return a value as plain JSON values."""
    if hasattr(value, "to_document"):
        return value.to_document()
    if isinstance(value, dict):
        return {str(key): _document(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_document(item) for item in value]
    # What the YAML reader makes (numbers that know how they were written) becomes plain.
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return value if type(value) is kind else kind(value)
    return value
