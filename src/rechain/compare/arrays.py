"""NumPy's files by array, read with the standard library: Rechain itself has no NumPy.

Nothing is unpickled. The format is that of
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import array
import ast
import math
import struct
import sys
import zipfile
import zlib

from rechain.compare import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["compare"]

_CODES = {
    "b1": "B", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I",
    "u8": "Q", "f4": "f", "f8": "d", "c8": "f", "c16": "d",
}  # fmt: skip


class _Array:
    """What an npy file holds: `kind` as NumPy's `descr`, `shape`, and its bytes."""

    def __init__(self, data: bytes) -> None:
        if data[:6] != b"\x93NUMPY":
            raise ValueError("no npy file")
        wide = data[6] > 1
        length = struct.unpack_from("<I" if wide else "<H", data, 8)[0]
        begin = 12 if wide else 10
        header = ast.literal_eval(data[begin : begin + length].decode())
        self.kind: Any = header["descr"]
        self.shape: tuple[int, ...] = header["shape"]
        self.transposed = bool(header["fortran_order"]) and len(self.shape) > 1
        self.data = data[begin + length :]

    def numbers(self) -> Any:
        """Return the values one after the other; None if they are no numbers."""
        order, code = self.kind[0], self.kind[1:]
        if code == "f2":
            return struct.unpack(f"{order}{len(self.data) // 2}e", self.data)
        if code not in _CODES:
            return None
        numbers = array.array(_CODES[code])
        numbers.frombytes(self.data)
        if order == ("<" if sys.byteorder == "big" else ">"):
            numbers.byteswap()
        return numbers

    def texts(self) -> list[str] | None:
        """Return the values if they are texts."""
        kind, size = (self.kind[1:2], self.kind[2:]) if isinstance(self.kind, str) else ("", "")
        if kind not in ("U", "S") or not int(size or 0):
            return None
        width = int(size) * (4 if kind == "U" else 1)
        encoding = (
            ("utf-32-be" if self.kind[0] == ">" else "utf-32-le") if kind == "U" else "latin1"
        )
        whole = range(0, len(self.data), width)
        return [self.data[at : at + width].decode(encoding).rstrip("\0") for at in whole]


def compare(first: str, second: str) -> list[str] | None:
    """Return how the arrays of two npz or npy files differ; None if they are other files."""
    try:
        one, other = _read(first), _read(second)
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile, struct.error):
        return None
    found = []
    # Chainer writes a link's parameters in the order of a set: another one in each process.
    for name in sorted({*one, *other}):
        if values.is_time(name):
            continue
        if name not in one or name not in other:
            found.append(f"{name}: only in the {'first' if name in one else 'second'}")
        elif one[name] != other[name]:
            found += [f"{name}: {text}" for text in _compare(one[name], other[name])]
    return found


def _read(path: str) -> dict[str, bytes]:
    with open(path, "rb") as file:
        if file.read(6) == b"\x93NUMPY":
            file.seek(0)
            return {"array": file.read()}
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if not all(name.endswith(".npy") for name in names):
            raise ValueError("a zip file of something else")
        return {name[:-4]: archive.read(name) for name in names}


def _compare(first: bytes, second: bytes) -> list[str]:
    try:
        one, other = _Array(first), _Array(second)
    except (ValueError, SyntaxError, LookupError, struct.error):
        return ["differs, and is no array that can be read"]
    if one.shape != other.shape:
        return [f"shape {one.shape} and {other.shape}"]
    texts = one.texts(), other.texts()
    if texts[0] is not None and texts[1] is not None:
        return _compare_texts(texts[0], texts[1])
    if one.kind != other.kind:
        return [f"type {one.kind} and {other.kind}"]
    if one.data == other.data and one.transposed == other.transposed:
        return []
    if not isinstance(one.kind, str) or one.transposed != other.transposed:
        return ["other bytes"]
    numbers, others = one.numbers(), other.numbers()
    if numbers is None:
        return ["other bytes"]
    return _compare_numbers(one, numbers, others)


def _compare_texts(first: list[str], second: list[str]) -> list[str]:
    found = []
    for one, other in zip(first, second, strict=True):
        if one == other:
            continue
        documents = values.parse(one), values.parse(other)
        if None in documents:  # as Chainer's extensions keep what they have logged
            found.append(f"{one[:40]!r} and {other[:40]!r}")
        else:
            found += values.compare(*documents)
    return found


def _compare_numbers(one: _Array, numbers: Any, others: Any) -> list[str]:
    count, most, where = 0, -1.0, 0
    for at, (x, y) in enumerate(zip(numbers, others, strict=True)):
        if x != y and not (math.isnan(x) and math.isnan(y)):
            count += 1
            by = abs(x - y)
            by = math.inf if math.isnan(by) else by  # one is NaN
            if by > most:
                most, where = by, at
    if not count:
        return []
    x, y = numbers[where], others[where]
    pairs = 2 if one.kind[1] == "c" else 1
    place = _place(where // pairs, one.shape, one.transposed)
    total = len(numbers) // pairs
    many = f"{count} of {total} values differ" if total > 1 else "differs"
    return [f"{many}, by {most:.3g}{' at most' if count > 1 else ''}{place}: {x:.7g} and {y:.7g}"]


def _place(at: int, shape: tuple[int, ...], transposed: bool) -> str:
    if not shape:
        return ""
    index = []
    for size in shape if transposed else reversed(shape):
        at, inside = divmod(at, size)
        index.append(inside)
    index = index if transposed else index[::-1]
    return f" at [{', '.join(map(str, index))}]"
