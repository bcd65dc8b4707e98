"""A built environment as one file, and unpacked on a node's own disk.

Importing a framework asks a shared file system for thousands of small files, once for each rank.
One large file is what such a file system is good at.

    <cache>/packs/<folder>.tar, .json      an environment, and its digest; the second written last
    <node store>/rechain-<uid>/<folder>/   one unpacked on this node; renamed here when whole
    .../<folder>.json                      what is in it; written last
    .../<folder>.lock, .use                held by who unpacks it, and by who uses it

An environment can be moved: it is made with relative paths (`uv venv --relocatable`). Its
interpreter, to which it has a link, stays where it is.
"""

from __future__ import annotations

import contextlib
import os
import time

from rechain.environment import store
from rechain.record import host, jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

__all__ = ["NotUnpacked", "Pack", "forget", "hold", "known", "pack", "unpack"]

_MOST_IDLE = 14 * 86400.0  # seconds after which an unpacked environment goes
_LEAST_IDLE = 3600.0  # and within which it stays, even when there is no room
_BLOCK = 4096  # bytes of disk that a small file takes
_SEEN = 60.0  # seconds for another node to see a file that was just written
_CHUNK = 1 << 20


class NotUnpacked(Exception):
    """An environment cannot be unpacked here; the message says why.

    Args:
        message: one line.
        damaged: whether the packed file itself is to blame.
    """

    def __init__(self, message: str, *, damaged: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.damaged = damaged


class Pack:
    """A packed environment.

    Attributes:
        path: the file.
        document: `sha256` of the file; `files` and `bytes`: what is in it.
    """

    def __init__(self, path: str, document: dict[str, Any]) -> None:
        self.path = path
        self.document = document

    @property
    def name(self) -> str:
        """The name of the environment's folder."""
        return os.path.basename(self.path).removesuffix(".tar")


def _path(cache: str, name: str) -> str:
    return f"{cache}/packs/{name}.tar"


def _facts(path: str) -> str:
    return f"{path.removesuffix('.tar')}.json"


def known(cache: str, prefix: str) -> Pack | None:
    """Return the packed file of an environment, if it is there; for the arguments see `pack`."""
    path = _path(cache, os.path.basename(prefix))
    document = store.read_known(_facts(path))
    return Pack(path, document) if document is not None and os.path.exists(path) else None


def forget(cache: str, name: str) -> None:
    """Remove the packed file of an environment that is gone, or that is damaged."""
    path = _path(cache, name)
    for one in (_facts(path), path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(one)


def pack(cache: str, prefix: str, say: Callable[[str], None] = lambda line: None) -> Pack:
    """Return an environment as one file, making it if need be.

    When several processes do so, on whatever hosts, the file of the last is the one; all of them
    hold the same.

    Args:
        cache: what `store.cache_root` returned.
        prefix: the environment's folder in it.
        say: takes lines for people.

    Raises:
        OSError: the cache cannot be written.
    """
    from rechain.environment.build import alone

    path = _path(cache, os.path.basename(prefix))
    with alone(f"{path.removesuffix('.tar')}.lock", say):
        found = known(cache, prefix)
        if found is not None:
            return found
        return _make(path, prefix, say)


def _make(path: str, prefix: str, say: Callable[[str], None]) -> Pack:
    import tarfile
    import tempfile

    started = time.monotonic()
    descriptor, making = tempfile.mkstemp(prefix=".packing.", dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            through = _Through(file)
            with tarfile.open(fileobj=through, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
                tar.add(prefix, ".", filter=_kept)
            file.flush()
            os.fsync(file.fileno())
        files, count = _count(prefix)
        document = {"schema": 1, "sha256": through.digest, "files": files, "bytes": count}
        os.rename(making, path)
    except BaseException:
        os.unlink(making)
        raise
    jsonl.write_atomic(_facts(path), document)
    say(f"packed to one file of {_mib(through.amount)} in {time.monotonic() - started:.1f} s")
    return Pack(path, document)


def _kept(member: Any) -> Any:
    """Return what is packed of a file; nothing of what Python itself makes again."""
    if os.path.basename(member.name) == "__pycache__":
        return None
    if member.isdir():
        member.mode |= 0o200  # so that Python can make it there, and that it can be removed
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _count(prefix: str) -> tuple[int, int]:
    """Return how many files there are in a folder, and their bytes."""
    files = count = 0
    for folder, folders, names in os.walk(prefix):
        folders[:] = [name for name in folders if name != "__pycache__"]
        files += len(names)
        count += sum(os.lstat(f"{folder}/{name}").st_size for name in names)
    return files, count


class _Through:
    """A file that hashes what goes through it."""

    def __init__(self, file: IO[bytes]) -> None:
        from hashlib import sha256

        self._file = file
        self._hash = sha256()
        self.amount = 0

    def write(self, data: bytes) -> int:
        self._take(data)
        return self._file.write(data)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._take(data)
        return data

    def _take(self, data: bytes) -> None:
        self._hash.update(data)
        self.amount += len(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


# On a node.


def unpack(packed: Pack, folder: str) -> tuple[str, bool]:
    """Return an environment's folder on this node's own disk, unpacking it if need be.

    Several processes that do so at once unpack it once. What is there is looked over: it must have
    been unpacked since the node started, and no file may be missing.

    Args:
        packed: the packed environment.
        folder: the node's folder for such things; `$NAME` in it is a variable of this process.

    Returns:
        The folder, absolute, and whether it was unpacked now.

    Raises:
        NotUnpacked: that is not possible here; nothing half-done is left.
    """
    try:
        own = _own(folder)
        final = f"{own}/{packed.name}"
        with _lock(f"{final}.lock"):
            os.utime(_touch(f"{final}.use"))
            if _whole(final, packed):
                return final, False
            if not _discard(own, packed.name):
                raise NotUnpacked(f"{final} is damaged, and a job uses it")
            _make_room(own, packed)
            _extract(packed, final)
            return final, True
    except OSError as error:
        raise NotUnpacked(f"{error.strerror or error}") from error


def hold(prefix: str) -> int | None:
    """Keep an unpacked environment from being removed for as long as this process lives.

    Args:
        prefix: what `unpack` returned.
    """
    import fcntl

    try:
        descriptor = os.open(f"{prefix}.use", os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:
        return None  # within an hour it is not removed anyway
    return descriptor


def _own(folder: str) -> str:
    """Return this user's folder in a node's folder, which many may write."""
    place = os.path.expandvars(folder)
    if "$" in place or not place.startswith("/"):
        raise NotUnpacked(f"{folder} is {place!r} there, which is no absolute path")
    own = f"{place}/rechain-{os.getuid()}"
    os.makedirs(place, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(own, 0o700)
    status = os.lstat(own)
    if status.st_uid != os.getuid() or status.st_mode & 0o170022 != 0o040000:
        raise NotUnpacked(f"{own} is not a folder that only its owner can write")
    return own


def _touch(path: str) -> str:
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return path


@contextlib.contextmanager
def _lock(path: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock of this node.

    Raises:
        BlockingIOError: somebody holds it, and `wait` is false.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _whole(final: str, packed: Pack) -> bool:
    wanted = {**packed.document, "boot_id": host.identity()["boot_id"]}
    if store.read_known(f"{final}.json") != wanted:
        return False
    return _count(final) == (wanted["files"], wanted["bytes"])


def _extract(packed: Pack, final: str) -> None:
    import shutil
    import tarfile

    making = _making(final)
    os.mkdir(making)
    try:
        with _see(packed.path) as file:
            through = _Through(file)
            try:
                with tarfile.open(fileobj=through, mode="r|") as tar:  # type: ignore[call-overload]
                    # It is our own, as its digest says: links may lead to the interpreter.
                    tar.extraction_filter = lambda member, path: member
                    tar.extractall(making)
                while through.read(_CHUNK):
                    pass
            except tarfile.TarError as error:
                raise NotUnpacked(f"{packed.path}: {error}", damaged=True) from error
        if through.digest != packed.document["sha256"]:
            raise NotUnpacked(f"{packed.path} is not what was packed", damaged=True)
        os.rename(making, final)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    jsonl.write_atomic(f"{final}.json", {**packed.document, "boot_id": host.identity()["boot_id"]})


def _see(path: str) -> IO[bytes]:
    """Open a file that another node may have written just now."""
    until = time.monotonic() + _SEEN
    while True:
        try:
            return open(path, "rb")
        except FileNotFoundError:
            if time.monotonic() > until or not os.path.isdir(os.path.dirname(path)):
                raise  # the store is not shared, or does not have it
            time.sleep(0.2)


def _make_room(own: str, packed: Pack) -> None:
    """Remove what was not used for long; and more, the longest unused first, if room lacks."""
    need = packed.document["bytes"] + packed.document["files"] * _BLOCK
    for name, idle in _others(own):
        if idle < _LEAST_IDLE or (idle < _MOST_IDLE and _free(own) >= need):
            continue
        _discard(own, name)
    free = _free(own)
    if free < need:
        raise NotUnpacked(f"{_mib(free)} are free in {own}, and it needs {_mib(need)}")


def _others(own: str) -> list[tuple[str, float]]:
    """Return the unpacked environments and since when each is unused, the longest first."""
    now = time.time()
    found = [
        (entry.name.removesuffix(".use"), now - entry.stat().st_mtime)
        for entry in os.scandir(own)
        if entry.name.endswith(".use")
    ]
    return sorted(found, key=lambda one: -one[1])


def _making(final: str) -> str:
    """Return where an environment is unpacked: what a killed process left, the next removes."""
    own, name = os.path.split(final)
    return f"{own}/.unpacking.{name}"


def _discard(own: str, name: str) -> bool:
    """Remove an unpacked environment; return False if somebody uses it."""
    import shutil

    try:
        with _lock(f"{own}/{name}.use", wait=False):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{own}/{name}.json")
            for folder in (f"{own}/{name}", _making(f"{own}/{name}")):
                shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    return True


def _free(folder: str) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
