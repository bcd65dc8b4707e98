"""Paths in datastores, and in folders of this machine."""

from __future__ import annotations

import os
import re

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["below", "inside", "match", "root_of"]


def inside(name: str, path: str | None) -> str:
    """Return a path in a datastore in its normal form; empty for all of it.

    Raises:
        UserErrorException: it leads out of the datastore.
    """
    found = os.path.normpath((path or "").lstrip("/") or ".")
    if found == os.pardir or found.startswith(os.pardir + os.sep) or "\0" in found:
        raise UserErrorException(f"the path {path!r} leads out of the datastore {name!r}.")
    return "" if found == "." else found


def root_of(pattern: str) -> str:
    """Return what of a pattern comes before its first wildcard, whole folders only."""
    found = re.search(r"[*?\[]", pattern)
    return pattern if found is None else pattern[: found.start()].rpartition("/")[0]


def match(folder: str, place: str) -> Iterator[str]:
    """Yield the files that a path in a folder, or a pattern, means."""
    from pathlib import Path

    whole = Path(place)
    chosen: Iterable[Path] = [whole]
    if not whole.exists():
        chosen = sorted(Path(folder).glob(whole.relative_to(folder).as_posix()))
    for path in chosen:
        if path.is_dir():
            yield from below(str(path))
        elif path.is_file():
            yield str(path)


def below(root: str) -> Iterator[str]:
    """Yield the files below a folder, those behind links too."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(names))
