"""Whether an archive is what it says, looked at before anything is written."""

from __future__ import annotations

import errno
import tarfile

from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.paths import experiment_of
from rechain.workspace.archive.form import CONTENTS, stays, zstandard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["checked", "opened"]

_MOST_OF_CONTENTS = 16 << 20  # bytes


def checked(path: str) -> dict[str, Any]:
    """Look at all of an archive; return what it says of itself.

    Raises:
        UserErrorException: it is not what `export_runs` writes.
    """

    def bad(why: str) -> UserErrorException:
        return UserErrorException(f"{path} is refused: {why}; nothing was written")

    with opened(path) as archive:
        try:
            first = archive.next()
        except OSError as error:  # Python 3.10 seeks to -1 in an empty one
            if error.errno != errno.EINVAL:
                raise
            first = None
        if first is None or first.name != CONTENTS or not first.isreg():
            raise bad(f"it does not begin with {CONTENTS}, so it is no archive of runs")
        if first.size > _MOST_OF_CONTENTS:
            raise bad(f"its {CONTENTS} is too large")
        contents = _contents(_read(archive, first), bad)
        bases = {f"experiments/{experiment_of(run)}/{run}" for run in contents["runs"]}
        kinds: dict[str, str] = {}
        total = 0
        while (row := archive.next()) is not None:
            name = row.name
            shown = repr(name)
            parts = name.split("/")
            if (
                name.startswith("/")
                or ".." in parts
                or "." in parts
                or "" in parts
                or "\0" in name
            ):
                raise bad(f"the name {shown} leads elsewhere")
            base = "/".join(parts[:3])
            of_store = parts[0] == "store" and _is_of_store(parts)
            if not (of_store or base in bases):
                raise bad(f"{shown} belongs to none of its runs")
            if name in kinds:
                raise bad(f"{shown} is in it twice")
            if row.issym():
                if of_store or not stays(name, row.linkname, base):
                    raise bad(f"the link {shown} leads out of its run, to {row.linkname!r}")
                kinds[name] = "link"
            elif row.isdir() and not of_store:
                kinds[name] = "folder"
            elif row.isreg() and not row.issparse():
                kinds[name] = "file"
                total += row.size
            else:
                raise bad(f"{shown} is neither a file, a folder nor a link")
            if len(kinds) > contents["members"] or total > contents["bytes"]:
                raise bad("it holds more than it says")
        for name in kinds:  # nothing is written through a link, or in a file
            above = name.rpartition("/")[0]
            while above:
                if kinds.get(above, "folder") != "folder":
                    raise bad(f"{name!r} is below {above!r}, which is no folder")
                above = above.rpartition("/")[0]
        if len(kinds) != contents["members"] or total != contents["bytes"]:
            raise bad("it holds less than it says: it was cut off")
        for base in bases:
            if kinds.get(f"{base}/job.json") != "file":
                raise bad(f"it has no {base}/job.json")
    return contents


def _contents(data: bytes, bad: Callable[[str], UserErrorException]) -> dict[str, Any]:
    try:
        found = jsonl.loads(data.decode())
        runs = found["runs"]
        whole = isinstance(runs, list) and runs and len(set(runs)) == len(runs)
        if not (whole and type(found["members"]) is type(found["bytes"]) is int):
            raise TypeError
        names = [experiment_of(run) for run in runs]
        if not all(name and not name.startswith(".") for name in names):
            raise TypeError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise bad(f"its {CONTENTS} cannot be read") from None
    if found.get("schema") != 1:
        raise bad(f"it was written by a newer Rechain (schema {found.get('schema')})")
    result: dict[str, Any] = found
    return result


def _is_of_store(parts: list[str]) -> bool:
    def is_hex(text: str, length: int) -> bool:
        return len(text) == length and not set(text) - set("0123456789abcdef")

    if parts[1:2] == ["snapshots"] and len(parts) == 3:
        return parts[2].endswith(".json") and is_hex(parts[2][:-5], 64)
    return (
        parts[1:2] == ["objects"]
        and len(parts) == 4
        and is_hex(parts[2], 2)
        and is_hex(parts[3], 62)
    )


def _read(archive: tarfile.TarFile, row: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(row)
    assert file is not None
    return file.read()


def opened(path: str) -> tarfile.TarFile:
    """Open an archive to read, however it is compressed."""
    with open(path, "rb") as file:
        if file.read(4) == b"\x28\xb5\x2f\xfd":
            zstandard()
    return tarfile.open(path, "r:*", encoding="utf-8", errors="surrogateescape")
