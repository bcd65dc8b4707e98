"""Read and write the record's JSON.

`import json` costs as much as starting a bare interpreter (it brings `re` and `enum`), and the
supervisor sits between the user's command and the user's script. So this module calls the same C
scanner and encoder that `json` itself calls, and falls back to `json` where they are missing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["append", "dumps", "loads", "read", "read_lines", "write_atomic", "write_new"]

try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    class _Context:
        strict = True
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = {
            "NaN": float("nan"),
            "Infinity": float("inf"),
            "-Infinity": -float("inf"),
        }.__getitem__

    _scan = make_scanner(_Context)  # type: ignore[arg-type]

    def _refuse(value: object) -> object:
        raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")

    _encode = make_encoder(
        None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True
    )

    def dumps(value: Any) -> str:
        """Return `value` as one line of JSON."""
        return "".join(_encode(value, 0))

    def loads(text: str) -> Any:
        """Return the value of a JSON text.

        Raises:
            ValueError: the text is not exactly one JSON value.
        """
        body = text.strip()
        try:
            value, end = _scan(body, 0)
        except StopIteration as stop:
            raise ValueError(f"not JSON at character {stop.value}") from None
        except (SystemError, RecursionError) as error:
            # Before 3.12 the scanner wants `json.decoder`, to raise its error, and is silent
            # where nobody has imported it; lists in lists without end are no document of ours.
            raise ValueError("not JSON") from error
        if end != len(body):
            raise ValueError(f"something follows the JSON value at character {end}")
        return value

except ImportError:  # another interpreter than CPython
    from json import dumps, loads  # type: ignore[assignment]


def read(path: str | os.PathLike[str]) -> Any:
    """Return the JSON document in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold one JSON value; the message names the file.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        return loads(text)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def read_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; a missing file has none.

    A last line without its newline is still being written, or was torn by a crash or a full
    disk: it is left out. So is any line that is not an object, since one bad line must not hide
    the good ones.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return []
    rows = []
    for line in data.split(b"\n")[:-1]:
        try:
            row = loads(line.decode("utf-8"))
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def append(descriptor: int, row: dict[str, Any], *, sync: bool = False) -> None:
    """Append one line to an `O_APPEND` descriptor with a single write.

    Raises:
        OSError: the line was not written whole (disk full, quota).
    """
    data = dumps(row).encode() + b"\n"
    written = os.write(descriptor, data)
    if written != len(data):
        raise OSError(28, "only part of a record line was written: the disk is full")
    if sync:
        os.fdatasync(descriptor)


def write_new(path: str | os.PathLike[str], value: Any) -> bool:
    """Write a document that must not exist yet; whole or not at all.

    Returns:
        False if the file was there already (somebody else was first).
    """
    temporary = _write_beside(path, value)
    try:
        os.link(temporary, path)  # link, not rename: it refuses to replace, also on NFS
    except FileExistsError:
        return False
    finally:
        os.unlink(temporary)
    return True


def write_atomic(path: str | os.PathLike[str], value: Any) -> None:
    """Write a document, replacing an older one; a reader sees the old or the new, never half."""
    temporary = _write_beside(path, value)
    try:
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _write_beside(path: str | os.PathLike[str], value: Any) -> str:
    data = dumps(value).encode() + b"\n"
    temporary = f"{os.fspath(path)}.{os.urandom(4).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        os.close(descriptor)
        os.unlink(temporary)
        raise
    os.close(descriptor)
    return temporary
