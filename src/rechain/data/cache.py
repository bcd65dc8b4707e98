"""Copies of what lies in stores elsewhere, which all runs of a machine share.

    data/trees/<key>/files/...       what a path of a store held; renamed here when it was whole
    data/trees/<key>/manifest.json   its files: path, size, version, SHA-256
    data/fetching/<key>/             one on its way; taken up again if it was cut off
    data/locks/<key>                 held (flock) by the one process that fetches it
    data/uses/<key>/<run id>         a link to the folder of a run that uses it
    data/lock                        held to remove trees; shared to take one

The key is made of the store, the path, and each file's name, size and version. Files and folders
are read-only, which root alone does not heed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager

from rechain.data import transfer
from rechain.environment.build import alone
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rechain.data.storage import Entry, Storage

__all__ = ["DataCache", "listed"]

_SHARE = 5  # without a limit of the user's the cache takes a fifth of its disk
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class DataCache:
    """The copies below one folder.

    Args:
        cache: what `environment.store.cache_root` returned.
        say: takes lines for people.
    """

    def __init__(self, cache: str, say: Callable[[str], None] = lambda line: None) -> None:
        self.root = f"{cache}/data"
        self._say = say

    def tree(self, storage: Storage, path: str, run: str) -> dict[str, Any]:
        """Return the copy of a path of a store, fetched if need be.

        Args:
            storage: the store.
            path: the path in it; may have wildcards.
            run: the folder of the run that uses it, which keeps it until it has ended.

        Returns:
            `place`, a file or a folder; `key`; and `files`, the manifest's.

        Raises:
            UserErrorException: it cannot be read, or there is no room for it.
            OSError: the cache cannot be written.
        """
        entries, single = listed(storage, path)
        key = _key(storage, path, entries)
        if not self._take(key, run):
            with alone(f"{self.root}/locks/{key}", self._say):
                if not self._take(key, run):
                    self._fetch(storage, path, entries, key)
        folder = f"{self.root}/trees/{key}"
        files = jsonl.read(f"{folder}/manifest.json")["files"]
        place = f"{folder}/files" + (f"/{entries[0].path}" if single else "")
        return {"place": place, "key": key, "files": files}

    def _take(self, key: str, run: str) -> bool:
        """Note that a run uses a tree; return whether it is there as it was fetched."""
        with self._lock(fcntl.LOCK_SH):
            folder = f"{self.root}/uses/{key}"
            os.makedirs(folder, exist_ok=True)
            link = f"{folder}/{os.path.basename(run)}"
            if not os.path.lexists(link):
                try:
                    os.symlink(run, link)
                except FileExistsError:
                    pass
            os.utime(folder)
            return self._is_whole(key)

    def _is_whole(self, key: str) -> bool:
        folder = f"{self.root}/trees/{key}"
        try:
            files: list[list[Any]] = jsonl.read(f"{folder}/manifest.json")["files"]
            for path, size, _, _, stamp in files:
                found = os.stat(f"{folder}/files/{path}")
                if (found.st_size, found.st_mtime_ns) != (size, stamp):
                    self._say(f"note: {path} was changed in the cache: it is fetched again")
                    return False
        except (OSError, ValueError, KeyError):
            return False
        return True

    def _fetch(self, storage: Storage, path: str, entries: list[Entry], key: str) -> None:
        size = sum(entry.size or 0 for entry in entries)
        name = f"{storage.name}/{path}".rstrip("/")
        self._say(f"fetching {name}: {len(entries)} files, {size / 1e6:.1f} MB")
        self._make_room(size, key)
        building = f"{self.root}/fetching/{key}"
        os.makedirs(f"{building}/files", exist_ok=True)
        transfer.fetch(storage, entries, f"{building}/files")
        after, _ = listed(storage, path)
        if _key(storage, path, after) != key:
            shutil.rmtree(building)
            raise UserErrorException(
                f"{name} changed while it was read; let it be written, then submit the run again."
            )
        rows: list[list[Any]] = []
        for entry in entries:
            place = f"{building}/files/{entry.path}"
            os.chmod(place, 0o444)
            found = os.stat(place)
            digest = transfer.digest_of(place)
            rows.append([entry.path, found.st_size, entry.version, digest, found.st_mtime_ns])
        manifest = {
            "schema": 1, "store": storage.url, "path": path,
            "bytes": sum(row[1] for row in rows), "files": rows,
        }  # fmt: skip
        jsonl.write_atomic(f"{building}/manifest.json", manifest)
        for folder, _, _ in os.walk(f"{building}/files"):
            os.chmod(folder, 0o555)
        final = f"{self.root}/trees/{key}"
        os.makedirs(os.path.dirname(final), exist_ok=True)
        if os.path.exists(final):  # it was changed: see `_is_whole`
            _remove(final)
        os.rename(building, final)

    def _make_room(self, size: int, key: str) -> None:
        """Remove what no run uses, the longest unused first, until there is room.

        Raises:
            UserErrorException: there is not enough.
        """
        limit = self.limit()
        with self._lock(fcntl.LOCK_EX):
            kept = {one: _size(f"{self.root}/trees/{one}") for one in self._trees()}
            total = sum(kept.values())
            idle = [one for one in kept if one != key and not self._users(one)]
            idle.sort(key=lambda one: os.stat(f"{self.root}/uses/{one}").st_mtime)
            for one in idle:
                if total + size <= limit and shutil.disk_usage(self.root).free > size:
                    break
                self._say(f"removing {one[:12]} from the cache to make room")
                _remove(f"{self.root}/trees/{one}")
                shutil.rmtree(f"{self.root}/uses/{one}", ignore_errors=True)
                total -= kept[one]
        if total + size > limit:
            raise UserErrorException(
                f"the data cache {self.root} is limited to {limit / 1e9:.2f} GB, runs use "
                f"{total / 1e9:.2f} GB of it, and {size / 1e9:.2f} GB are to come; raise "
                "RECHAIN_DATA_LIMIT."
            )
        if shutil.disk_usage(self.root).free <= size:
            raise UserErrorException(
                f"the disk that holds {self.root} has no room for {size / 1e9:.3f} GB; make some, "
                "or put the cache elsewhere with RECHAIN_CACHE."
            )

    def limit(self) -> int:
        """Return how many bytes the cache may take: `RECHAIN_DATA_LIMIT`, or a part of the disk.

        Raises:
            UserErrorException: the variable is no size.
        """
        text = os.environ.get("RECHAIN_DATA_LIMIT", "")
        if not text:
            return shutil.disk_usage(self.root).total // _SHARE
        number = text.upper().removesuffix("B").removesuffix("I")
        unit = number[-1:] if number[-1:] in _UNITS and number[-1:].isalpha() else ""
        try:
            return int(float(number.removesuffix(unit)) * _UNITS[unit])
        except ValueError:
            raise UserErrorException(
                f"RECHAIN_DATA_LIMIT is {text!r}; it must be a size such as 50GiB."
            ) from None

    def _trees(self) -> list[str]:
        try:
            return os.listdir(f"{self.root}/trees")
        except FileNotFoundError:
            return []

    def _users(self, key: str) -> list[str]:
        """Return the runs that use a tree and have not ended."""
        folder = f"{self.root}/uses/{key}"
        os.makedirs(folder, exist_ok=True)
        links = [os.readlink(f"{folder}/{one}") for one in os.listdir(folder)]
        return [run for run in links if _lives(run)]

    @contextmanager
    def _lock(self, how: int) -> Iterator[None]:
        os.makedirs(self.root, exist_ok=True)
        descriptor = os.open(f"{self.root}/lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


def listed(storage: Storage, path: str) -> tuple[list[Entry], bool]:
    """Return what `Storage.listing` does, of a path that must be there.

    Raises:
        UserErrorException: there is nothing, or it cannot be read.
    """
    entries, single = storage.listing(path)
    if not entries:
        raise UserErrorException(f"the datastore {storage.name} has no files at {path or '/'!r}.")
    return entries, single


def _key(storage: Storage, path: str, entries: list[Entry]) -> str:
    import hashlib

    files = [[entry.path, entry.size, entry.version] for entry in entries]
    text = jsonl.dumps([storage.identity, path, files])
    return hashlib.sha256(text.encode()).hexdigest()


def _size(tree: str) -> int:
    try:
        return int(jsonl.read(f"{tree}/manifest.json")["bytes"])
    except (OSError, ValueError, KeyError):
        return 0


def _lives(run: str) -> bool:
    paths = RunPaths(run)
    if not os.path.exists(paths.job):
        # Its folder gets its name when it is complete; until then it has another.
        return False
    ended: object = fold(paths).end
    return ended is None


def _remove(tree: str) -> None:
    for folder, _, _ in os.walk(tree):
        os.chmod(folder, 0o755)
    aside = f"{tree}.{os.urandom(4).hex()}~"
    os.rename(tree, aside)
    shutil.rmtree(aside)
