"""Snapshots: what a source folder held when a run was submitted, stored once by content.

`take` stores a folder, `checkout` makes a private copy of what was stored. A snapshot's digest
covers paths, kinds and contents, nothing else: who owns a file or when it was written does not
make another snapshot.
"""

from __future__ import annotations

import os

from rechain.exceptions import SnapshotException
from rechain.job.hashing import sha256
from rechain.job.scan import Limits, Scan, shown
from rechain.job.store import CHUNK, Store, chunks, digest_of, write_all
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Entry = tuple[str, str, str, int]

__all__ = [
    "STAMP", "Limits", "Snapshot", "checkout", "manifest", "take",
    "take_files", "unmodified",
]  # fmt: skip

# The modification time of every file that comes from a snapshot: 2000-01-01 in UTC. Whatever the
# job writes is newer, so that what it made or changed is found with one lstat per file.
STAMP = 946_684_800

FILE, PROGRAM, LINK, FOLDER = "file", "program", "link", "folder"

_FICLONE = 0x40049409
_SHOWN = 20
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe that took a file's place cannot block


class Snapshot:
    """What `take` stored.

    Attributes:
        digest: the snapshot's identity.
        files: how many files it holds.
        size: how many bytes they have.
        ignore_file: the ignore file that decided, or None.
        excluded: the first of what was left out by it or by default; folders end with a slash.
        excluded_count: how many were left out; a folder counts once.
        notes: what the user should know about it.
    """

    __slots__ = ("digest", "excluded", "excluded_count", "files", "ignore_file", "notes", "size")

    def __init__(self, digest: str, files: int, size: int, scan: Scan) -> None:
        self.digest = digest
        self.files = files
        self.size = size
        self.ignore_file = scan.rules.file
        self.excluded = tuple(sorted(scan.excluded)[:_SHOWN])
        self.excluded_count = len(scan.excluded)
        self.notes = tuple(scan.notes)

    def __repr__(self) -> str:
        return f"Snapshot({self.digest[:12]}, {self.files} files, {self.size} bytes)"


def take(
    source: str,
    store: str,
    *,
    limits: Limits | None = None,
    required: Iterable[str] = (),
    whole: bool = False,
) -> Snapshot:
    """Store the files of a folder.

    Args:
        source: the folder.
        store: the workspace's store.
        limits: how large it may be; by default what the environment variables say.
        whole: whether all belongs to it, whatever an ignore file says.
        required: paths, relative to the folder, that the snapshot must hold: the entry script.

    Raises:
        SnapshotException: the folder cannot be stored; nothing refers to what was stored of it.
    """
    root = os.path.realpath(source)
    workspace = os.path.dirname(os.path.realpath(store))
    if root == workspace:
        raise SnapshotException(
            f"The source folder {source} is the Rechain workspace itself. Put the script into a "
            "folder of its own."
        )
    scan = Scan(root, workspace, limits or Limits.of(os.environ), whole)
    held = Store(os.path.abspath(store))
    entries: list[Entry] = [(path, LINK, target, 0) for path, target in scan.links]
    entries += [(path, FOLDER, "", 0) for path in scan.folders]
    count = total = 0
    for path, size in scan.files:
        entry = _store_file(held, scan, path, size)
        if entry is not None:
            entries.append(entry)
            count += 1
            total += entry[3]
    entries.sort()
    _check_required(required, entries, scan)
    try:
        digest = _put(held, entries)
    except OSError as error:
        raise _store_failed(held, error) from error
    return Snapshot(digest, count, total, scan)


def take_files(files: Mapping[str, str], store: str) -> str:
    """Store single files as a snapshot, and return its digest.

    Args:
        files: where they lie, by their paths in the snapshot.
        store: the workspace's store.

    Raises:
        OSError: one cannot be read, or not stored.
    """
    held = Store(os.path.abspath(store))
    entries: list[Entry] = []
    for path, place in sorted(files.items()):
        descriptor = os.open(place, _READ)
        try:
            entries.append(
                (path, FILE, *held.put_object(descriptor, os.fstat(descriptor).st_size))
            )
        finally:
            os.close(descriptor)
    return _put(held, entries)


def _put(held: Store, entries: list[Entry]) -> str:
    text = jsonl.dumps({"schema": 1, "entries": [list(entry) for entry in entries]})
    return held.put_manifest(text.encode() + b"\n")


def manifest(store: str, digest: str) -> list[Entry]:
    """Return the entries of a snapshot, sorted: `(path, kind, digest or link target, size)`.

    Raises:
        SnapshotException: the snapshot is not there, is damaged, or is of a newer Rechain.
    """
    document = jsonl.loads(Store(store).manifest(digest).decode("ascii"))
    if document["schema"] != 1:
        raise SnapshotException(
            f"The snapshot {digest} was written by a newer Rechain (schema {document['schema']}; "
            "this one reads 1). Upgrade Rechain."
        )
    entries = [(path, kind, held, size) for path, kind, held, size in document["entries"]]
    for path, *_ in entries:
        if path.startswith("/") or ".." in path.split("/"):
            raise SnapshotException(f"The snapshot {digest} has a path outside of it: {path!r}.")
    return entries


def checkout(store: str, digest: str, destination: str) -> None:
    """Make a private copy of a snapshot.

    Files share disk blocks with the store where the file system can do that; they are never
    links to it. Every content is verified on the way.

    Args:
        store: the workspace's store.
        digest: the snapshot.
        destination: the folder to fill; made if it is not there, and must be empty.

    Raises:
        SnapshotException: the snapshot is not there or is damaged, or cannot be written out. What
            was written of it stays.
    """
    entries = manifest(store, digest)
    objects = _Objects(Store(store))
    try:
        os.makedirs(destination, exist_ok=True)
        made = {""}
        for path, kind, content, size in entries:
            folder = path if kind == FOLDER else path.rpartition("/")[0]
            if folder not in made:
                os.makedirs(f"{destination}/{folder}", exist_ok=True)
                made.add(folder)
            if kind in (FILE, PROGRAM):
                objects.copy(path, content, size, destination, kind == PROGRAM)
        # Links come last, so that nothing is ever written through one.
        for path, kind, target, _ in entries:
            if kind == LINK:
                os.symlink(target, f"{destination}/{path}")
    except OSError as error:
        raise SnapshotException(
            f"The snapshot cannot be copied to {shown(destination)}: {error.strerror}"
            f"{f' ({shown(str(error.filename))})' if error.filename else ''}. "
            f"Nothing was started.",
            error,
        ) from error


def unmodified(store: str, digest: str, work: str) -> set[str]:
    """Return the paths in a copy of a snapshot that are still what the snapshot holds.

    A file counts as unmodified if its size and time are those that `checkout` gave it, which
    costs one `lstat`. One that lost its time, say because the run folder was copied, is compared
    by content.
    """
    same = set()
    for path, kind, content, size in manifest(store, digest):
        place = f"{work}/{path}"
        try:
            if kind == LINK:
                if os.readlink(place) == content:
                    same.add(path)
                continue
            facts = os.lstat(place)
            if kind == FOLDER or facts.st_size != size or facts.st_mode & 0o170000 != 0o100000:
                continue
            if int(facts.st_mtime) == STAMP or _digest_file(place, size) == content:
                same.add(path)
        except OSError:
            continue  # removed, or made unreadable: not what it was
    return same


def _store_file(held: Store, scan: Scan, path: str, size: int) -> Entry | None:
    place = f"{scan.source}/{path}"
    name = shown(place)
    try:
        descriptor = os.open(place, _READ)
    except FileNotFoundError:
        scan.notes.append(f"{path!r} vanished while the snapshot was taken; it is not in it.")
        return None
    except OSError as error:
        raise SnapshotException(
            f"{name} cannot be read: {error.strerror}. Change its permissions or list it in "
            f"{scan.rules.file or '.amlignore'}.",
            error,
        ) from error
    try:
        for _ in range(3):
            before = os.fstat(descriptor)
            digest, size = held.put_object(descriptor, before.st_size)
            after = os.fstat(descriptor)
            if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
                break
        else:
            scan.notes.append(f"{path!r} was written to while the snapshot was taken.")
    except OSError as error:
        raise _store_failed(held, error, name) from error
    finally:
        os.close(descriptor)
    return path, PROGRAM if before.st_mode & 0o100 else FILE, digest, size


def _store_failed(held: Store, error: OSError, name: str = "") -> SnapshotException:
    what = f"{name} cannot be stored" if name else "The snapshot cannot be stored"
    return SnapshotException(f"{what} in {held.root}: {error.strerror}.", error)


def _check_required(required: Iterable[str], entries: list[Entry], scan: Scan) -> None:
    held = {path for path, kind, _, _ in entries if kind != FOLDER}
    for path in required:
        if os.path.normpath(path) in held or not os.path.lexists(f"{scan.source}/{path}"):
            continue
        if any(f"{path}/".startswith(f"{link}/") for link, _ in scan.links):
            continue  # reached through a link to another folder of the snapshot
        raise SnapshotException(
            f"{shown(path)} would not be part of the run: "
            f"{scan.rules.file or 'the default rule'} leaves it out of the snapshot of "
            f"{shown(scan.source)}. Allow it in {scan.rules.file or '.amlignore'}, or move it."
        )


class _Objects:
    """Copies objects out of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._can_clone = True

    def copy(self, path: str, digest: str, size: int, destination: str, program: bool) -> None:
        kept = self._store.object_path(digest)
        try:
            source = os.open(kept, _READ)
        except FileNotFoundError:
            raise _damaged(path, kept, "is missing") from None
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            copy = os.open(f"{destination}/{path}", flags, 0o777 if program else 0o666)
            try:
                if self._fill(copy, source, size) != digest:
                    raise _damaged(path, kept, "is damaged")
                os.utime(copy, (STAMP, STAMP))
            finally:
                os.close(copy)
        finally:
            os.close(source)

    def _fill(self, copy: int, source: int, size: int) -> str:
        """Fill a file from an object; return the digest of what it holds then."""
        if size >= CHUNK and self._can_clone:  # below that copying is as fast
            self._can_clone = _clone(source, copy)
            if self._can_clone:
                return digest_of(chunks(copy, size + 1), size)
        hashed = sha256(size)(b"")
        for data in chunks(source, size + 1):  # one more shows an object that is too long
            hashed.update(data)
            write_all(copy, data)
        return hashed.hexdigest()


def _clone(source: int, copy: int) -> bool:
    import fcntl

    try:
        fcntl.ioctl(copy, _FICLONE, source)
    except OSError:  # another file system, or one that cannot
        return False
    return True


def _damaged(path: str, kept: str, what: str) -> SnapshotException:
    return SnapshotException(
        f"The stored content of {path!r} {what}: {kept}. Remove that file and submit again from "
        "the source folder, or restore it from a backup."
    )


def _digest_file(place: str, size: int) -> str:
    descriptor = os.open(place, _READ | os.O_NOFOLLOW)
    try:
        return digest_of(chunks(descriptor, size), size)
    finally:
        os.close(descriptor)
