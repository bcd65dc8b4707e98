"""Whether two files hold the same: arrays by value, images by pixel, logs without their times."""

from __future__ import annotations

import os

__all__ = ["compare_files"]

_CHUNK = 1 << 20
_LARGEST_TEXT = 64 << 20
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def compare_files(first: str, second: str) -> list[str]:
    """Return in which way two files differ: one line for each place; none if they do not.

    Args:
        first: a path.
        second: another path.

    Raises:
        OSError: one cannot be read.
    """
    at = _first_difference(first, second)
    if at is None:
        return []
    head = _head(first)
    if head.startswith((b"PK\x03\x04", b"\x93NUMPY")):
        from rechain.compare import arrays

        found = arrays.compare(first, second)
    elif head.startswith(_IMAGES):
        from rechain.compare import images

        found = images.compare(first, second)
    else:
        found = _compare_text(first, second, head)
    if found is not None:
        return found
    sizes = os.path.getsize(first), os.path.getsize(second)
    said = f"{sizes[0]} bytes" if sizes[0] == sizes[1] else f"{sizes[0]} and {sizes[1]} bytes"
    return [f"{said}, {_digest(first)} and {_digest(second)}, from byte {at} on"]


def _first_difference(first: str, second: str) -> int | None:
    at = 0
    with open(first, "rb") as one, open(second, "rb") as other:
        while True:
            here, there = one.read(_CHUNK), other.read(_CHUNK)
            if here != there:
                pairs = enumerate(zip(here, there, strict=False))
                return at + next((n for n, (x, y) in pairs if x != y), min(len(here), len(there)))
            if not here:
                return None
            at += len(here)


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(64)


def _compare_text(first: str, second: str, head: bytes) -> list[str] | None:
    from rechain.compare import texts, values

    if max(os.path.getsize(first), os.path.getsize(second)) > _LARGEST_TEXT or b"\0" in head:
        return None
    try:
        read = [_text(path) for path in (first, second)]
    except UnicodeDecodeError:
        return None
    if head.lstrip().startswith(b"digraph"):
        from rechain.compare import graphs

        return graphs.compare(*read)
    documents = [values.parse(text) for text in read]
    if None in documents:
        return texts.compare(*read)
    return list(values.compare(*documents))


def _text(path: str) -> str:
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def _digest(path: str) -> str:
    import hashlib

    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(_CHUNK):
            hashed.update(data)
    return f"sha256 {hashed.hexdigest()[:12]}"
