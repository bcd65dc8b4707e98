"""YAML files: read with their comments, written without losing those of a file that was read."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["dumps", "merged", "read", "read_text", "text_or_file", "write"]


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    return yaml


def read(path: str | os.PathLike[str]) -> Any:
    """Return what a YAML file holds; its comments are kept with it. JSON is YAML.

    Raises:
        FileNotFoundError: there is no such file.
        UserErrorException: it cannot be read, or is no YAML.
    """
    from ruamel.yaml.error import YAMLError

    text = read_text(path)
    try:
        return _yaml().load(text)
    except YAMLError as error:
        at = getattr(error, "problem_mark", None)
        line = "" if at is None else f", line {at.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserErrorException(f"{path}{line}: this is not YAML: {problem}.", error) from error


def read_text(path: str | os.PathLike[str]) -> str:
    """Return what a text file holds.

    Raises:
        FileNotFoundError: there is no such file.
        UserErrorException: it cannot be read, or is no text.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise UserErrorException(
            f"{path} is not UTF-8 text (byte {error.start}).", error
        ) from error
    except OSError as error:
        raise UserErrorException(f"{path} cannot be read: {error.strerror}.", error) from error


def text_or_file(given: Any) -> Any:
    """Return a text that is given as itself or as the path of its file."""
    is_file = isinstance(given, (str, os.PathLike)) and os.path.isfile(given)
    return read_text(given) if is_file else given


def dumps(value: Any) -> str:
    """Return a value as YAML."""
    import io

    stream = io.StringIO()
    _yaml().dump(value, stream)
    return stream.getvalue()


def write(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as a YAML file, whole or not at all.

    Raises:
        FileNotFoundError: its folder is not there.
        UserErrorException: it cannot be written.
    """
    text = dumps(value)
    beside = f"{os.fspath(path)}.{os.getpid()}~"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(beside, path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} cannot be written: its folder is not there") from None
    except OSError as error:
        raise UserErrorException(f"{path} cannot be written: {error.strerror}.", error) from error


def merged(source: Any, document: Any) -> Any:
    """Return a document with the comments and the unknown keys of what it was read from.

    Args:
        source: what was read; None if nothing was.
        document: plain JSON values.
    """
    if not (isinstance(document, dict) and hasattr(source, "ca") and hasattr(source, "keys")):
        return document
    import copy

    result = copy.deepcopy(source)
    for key, value in document.items():
        old = source.get(key)
        result[key] = old if old == value and old is not None else merged(old, value)
    return result
