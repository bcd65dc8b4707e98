"""What a job will read beside its own folder: the files and folders that its arguments name.

Enough is kept of them to tell later whether they have changed, and no more: the digest of what is
small, size and time of the rest.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["look"]

_HASHED = 16 << 20  # bytes, of all that is looked at
_FILES = 2000  # in all


def look(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what lies at the absolute paths among texts.

    Args:
        texts: arguments and values of variables; of `--data=/x` the path is `/x`.

    Returns:
        By path, for a file `size` (bytes), `modified` (unix ns) and, of a small one, `sha256`;
        for a folder how many `files` it has, or `more` than are looked at, their `size` together
        and a digest of their names, sizes and times or contents. Nothing for what is not there.
    """
    from rechain.job.hashing import sha256

    found: dict[str, dict[str, Any]] = {}
    room = [_HASHED, _FILES]
    for text in texts:
        path = text.partition("=")[2] if text.startswith("-") else text
        if not path.startswith("/") or path in found:
            continue
        try:
            kind = os.stat(path).st_mode
            if stat.S_ISREG(kind):
                found[path] = _file(path, room)
            elif stat.S_ISDIR(kind) and os.path.realpath(path) != "/":
                names = list(_below(path, room[1] + 1))
                room[1] = max(0, room[1] - len(names))
                rows = [(os.path.relpath(name, path), _file(name, room)) for name in sorted(names)]
                listed = repr([(name, row.get("sha256", row["modified"]), row["size"])
                             for name, row in rows])  # fmt: skip
                found[path] = {
                    "files": len(rows),
                    "size": sum(row["size"] for _, row in rows),
                    "sha256": sha256(len(listed))(
                        listed.encode("utf-8", "surrogateescape")
                    ).hexdigest(),
                }
        except (OSError, ValueError):  # gone, or not for us; a NUL in it
            continue
    return found


def _file(path: str, room: list[int]) -> dict[str, Any]:
    from rechain.job.store import chunks, digest_of

    facts = os.stat(path)
    row: dict[str, Any] = {"size": facts.st_size, "modified": facts.st_mtime_ns}
    if facts.st_size <= room[0]:
        room[0] -= facts.st_size
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            row["sha256"] = digest_of(chunks(descriptor, facts.st_size), facts.st_size)
        finally:
            os.close(descriptor)
    return row


def _below(root: str, limit: int) -> Iterable[str]:
    count = 0
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = f"{folder}/{name}"
            if os.path.isfile(path):
                count += 1
                yield path
                if count >= limit:
                    return
