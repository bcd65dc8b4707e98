"""What a source folder holds: its files, links and empty folders, and what is left out."""

from __future__ import annotations

import os
import stat
import sys

from rechain.exceptions import SnapshotException
from rechain.job.ignore import Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Limits", "Scan", "shown"]

MIB = 1 << 20


class Limits:
    """How large a snapshot may be; None is without a limit.

    Args:
        size: bytes.
        files: number of files.
    """

    __slots__ = ("files", "size")

    def __init__(self, size: int | None = 1024 * MIB, files: int | None = 20_000) -> None:
        self.size = size
        self.files = files

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Limits:
        """Return the limits that hold with these environment variables.

        `RECHAIN_SNAPSHOT_MAX_MB` changes the size, `RECHAIN_SNAPSHOT_MAX_FILES` the number (0 is
        without a limit), and v1's `AML_SNAPSHOT_NO_FILE_LIMIT` lifts the number. What a script of
        v1 has set in `azureml._restclient.snapshots_client` is the size, unless a variable is.

        Raises:
            SnapshotException: one of them is not a number.
        """
        limits = cls()
        of_v1 = sys.modules.get("azureml._restclient.snapshots_client")
        if of_v1 is not None:
            limits.size = int(of_v1.SNAPSHOT_MAX_SIZE_BYTES)
        megabytes = _number(environ, "RECHAIN_SNAPSHOT_MAX_MB")
        if megabytes is not None:
            limits.size = int(megabytes * MIB) or None
        files = _number(environ, "RECHAIN_SNAPSHOT_MAX_FILES")
        if files is not None:
            limits.files = int(files) or None
        if environ.get("AML_SNAPSHOT_NO_FILE_LIMIT", "").lower() not in ("", "0", "false"):
            limits.files = None
        return limits


class Scan:
    """The entries of a source folder that belong to its snapshot.

    Args:
        source: the folder.
        skip: absolute path of a folder that is left out (the workspace), or None.
        limits: how large it may be.
        whole: whether all belongs to it, whatever an ignore file says.

    Attributes:
        rules: the ignore rules that hold.
        files: `(path, size)` of each file; a link to a file outside counts as that file.
        links: `(path, target)` of each symbolic link.
        folders: paths of the folders in which nothing is left.
        excluded: what the rules leave out; folders end with a slash.
        notes: what else is left out, and why.
        size: bytes in all files.

    Raises:
        SnapshotException: the folder cannot be read, holds what cannot be stored, or is too
            large.
    """

    def __init__(self, source: str, skip: str | None, limits: Limits, whole: bool = False) -> None:
        self.source = source
        self.rules = Rules(source, whole)
        self.files: list[tuple[str, int]] = []
        self.links: list[tuple[str, str]] = []
        self.folders: list[str] = []
        self.excluded: list[str] = []
        self.notes: list[str] = []
        self.size = 0
        self._skip = skip
        # Beyond this a folder is not counted to its end: it may be somebody's home.
        self._enough = None if limits.files is None else 10 * limits.files
        whole = self._walk()
        if (limits.files is not None and len(self.files) > limits.files) or (
            limits.size is not None and self.size > limits.size
        ):
            raise SnapshotException(self._too_large(limits, whole))

    def _walk(self) -> bool:
        waiting = [""]
        while waiting:
            prefix = waiting.pop()
            entries = self._list(prefix)
            if prefix and self.rules.is_environment({entry.name for entry in entries}):
                self.excluded.append(prefix)
                continue
            kept = 0
            for entry in entries:
                if (folder := self._take(prefix + entry.name, entry)) is not None:
                    kept += 1
                    if folder:
                        waiting.append(f"{prefix}{entry.name}/")
            if prefix and not kept:
                self.folders.append(prefix[:-1])
            if self._enough is not None and len(self.files) > self._enough:
                return False
        return True

    def _list(self, prefix: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self.source}/{prefix}") as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            if not prefix:
                raise SnapshotException(
                    f"The source folder {shown(self.source)} does not exist."
                ) from None
            return []  # it went away meanwhile
        except OSError as error:
            raise SnapshotException(
                f"The folder {shown(f'{self.source}/{prefix}')} cannot be read: {error.strerror}. "
                f"Change its permissions or list it in {self.rules.file or '.amlignore'}.",
                error,
            ) from error

    def _take(self, path: str, entry: os.DirEntry[str]) -> bool | None:
        """Take up one entry; True if it is a folder to enter, None if it is left out."""
        try:
            link = entry.is_symlink()
            folder = entry.is_dir(follow_symlinks=False)
            if self.rules.excludes(path, entry.name, folder):
                self.excluded.append(f"{path}/" if folder else path)
                return None
            if folder:
                return entry.path != self._skip
            if link:
                return self._take_link(path, entry)
            facts = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            self.notes.append(f"{path!r} vanished while the snapshot was taken; it is not in it.")
            return None
        if not stat.S_ISREG(facts.st_mode):
            kind = "socket" if stat.S_ISSOCK(facts.st_mode) else "device or pipe"
            self.notes.append(f"{path!r} is a {kind}; it is not in the snapshot.")
            return None
        self._take_file(path, facts.st_size)
        return False

    def _take_file(self, path: str, size: int) -> None:
        self.files.append((path, size))
        self.size += size

    def _take_link(self, path: str, entry: os.DirEntry[str]) -> bool | None:
        target = os.readlink(entry.path)
        try:
            facts = os.stat(entry.path)
        except OSError:  # broken, or a circle of links: so it stays
            self.links.append((path, target))
            return False
        real = os.path.realpath(entry.path)
        if real == self.source or real.startswith(f"{self.source}/"):
            here = os.path.dirname(path)
            if target.startswith("/") or _leaves(os.path.join(here, target)):
                # Right in the source folder, but not in a copy of it.
                folder = os.path.realpath(os.path.dirname(entry.path))
                target = os.path.relpath(real, folder)
            self.links.append((path, target))
            return False
        if stat.S_ISREG(facts.st_mode):
            self._take_file(path, facts.st_size)
            return False
        if not stat.S_ISDIR(facts.st_mode):
            self.notes.append(f"{path!r} links to a device, pipe or socket; it is not in it.")
            return None
        if self.rules.excludes(path, entry.name, True):  # "data/" is meant for such a link too
            self.excluded.append(path)
            return None
        raise SnapshotException(
            f"{shown(f'{self.source}/{path}')} is a link to a folder outside the source folder "
            f"({shown(real)}), which a snapshot cannot hold. List {path!r} in "
            f"{self.rules.file or '.amlignore'} and give the script the folder's absolute path as "
            f"an argument, or copy the folder into the source folder."
        )

    def _too_large(self, limits: Limits, whole: bool) -> str:
        totals: dict[str, list[int]] = {}
        for path, size in self.files:
            name, slash, _ = path.partition("/")
            total = totals.setdefault(name + slash, [0, 0])
            total[0] += size
            total[1] += 1
        too_many = limits.files is not None and len(self.files) > limits.files
        order = sorted(totals.items(), key=lambda item: item[1][1 if too_many else 0])
        largest = "\n".join(
            f"  {_size(size):>9}  {count:>6} file{'s' if count != 1 else ''}  {shown(name)}"
            for name, (size, count) in reversed(order[-5:])
        )
        allowed = " and ".join(
            [_size(limits.size)] * (limits.size is not None)
            + [f"{limits.files} files"] * (limits.files is not None)
        )
        variable = "RECHAIN_SNAPSHOT_MAX_FILES" if too_many else "RECHAIN_SNAPSHOT_MAX_MB"
        found = f"{_size(self.size)} in {len(self.files)} files"
        return (
            f"The source folder {shown(self.source)} is too large for a snapshot: "
            f"{found if whole else f'at least {found}'}; the limit is {allowed}. "
            f"The largest in it:\n{largest}\n"
            f"List what the script does not need in {self.rules.file or '.amlignore'} (one "
            f"pattern a line, as in .gitignore), or raise the limit with {variable}."
        )


def _leaves(path: str) -> bool:
    normal = os.path.normpath(path)
    return normal == ".." or normal.startswith("../")


def _number(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e15:
        raise SnapshotException(f"{name} is {text!r}; it must be a number, 0 for no limit.")
    return value


def _size(size: int | None) -> str:
    value = float(size or 0)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def shown(name: str) -> str:
    """Return a path as a message shows it: quoted where it could not be printed."""
    return name if name.isprintable() else repr(name)
