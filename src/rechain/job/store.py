"""The content-addressed store: file contents and snapshot manifests, each under its SHA-256."""

from __future__ import annotations

import os

from rechain.exceptions import SnapshotException
from rechain.job.hashing import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["CHUNK", "Store", "chunks", "digest_of", "write_all"]

CHUNK = 1 << 20


class Store:
    """The `store` folder of a workspace.

    Every file in it is written elsewhere in the store and renamed into place, so that any number
    of processes may write to it at once, and a reader never sees half a file.

    Args:
        root: the folder; made when first written to.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def object_path(self, digest: str) -> str:
        """Return where the content with this digest is kept."""
        return f"{self.root}/objects/{digest[:2]}/{digest[2:]}"

    def manifest_path(self, digest: str) -> str:
        """Return where the manifest with this digest is kept."""
        return f"{self.root}/snapshots/{digest}.json"

    def put_object(self, descriptor: int, size: int) -> tuple[str, int]:
        """Store the content of an open file unless it is there already.

        Args:
            descriptor: the file, open for reading.
            size: how much of it to store.

        Returns:
            The digest and the size of exactly what is stored, even if the file is written to
            meanwhile.

        Raises:
            OSError: the store cannot be written, or the file cannot be read.
        """
        if size <= CHUNK:
            data = b"".join(chunks(descriptor, size))
            digest = digest_of([data], size)
            if not self._has(self.object_path(digest), len(data)):
                temporary, _, _ = self._write([data], size)
                _place(temporary, self.object_path(digest))
            return digest, len(data)
        digest = digest_of(chunks(descriptor, size), size)
        if self._has(self.object_path(digest), size):
            return digest, size
        # Hashed again while it is copied: the name must be that of what was written.
        temporary, digest, written = self._write(chunks(descriptor, size), size)
        _place(temporary, self.object_path(digest))
        return digest, written

    def receive(self, digest: str, content: Callable[[], Iterable[bytes]], size: int) -> bool:
        """Store content that came from elsewhere under a digest, unless it is there already.

        Args:
            digest: its name.
            content: returns it, from its start.
            size: its size in bytes, about.

        Returns:
            Whether that is its digest; what has another is not stored.

        Raises:
            OSError: the store cannot be written.
        """
        if self._has(self.object_path(digest), size):
            return digest_of(content(), size) == digest
        temporary, found, _ = self._write(content(), size)
        if found != digest:
            os.unlink(temporary)
            return False
        _place(temporary, self.object_path(digest))
        return True

    def put_manifest(self, data: bytes) -> str:
        """Store a manifest unless it is there already, and return its digest."""
        digest = digest_of([data], len(data))
        path = self.manifest_path(digest)
        if not self._has(path, len(data)):
            temporary, _, _ = self._write([data], len(data))
            _place(temporary, path)
        return digest

    def manifest(self, digest: str) -> bytes:
        """Return a manifest.

        Raises:
            SnapshotException: it is not in the store, or is damaged.
        """
        path = self.manifest_path(digest)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError as error:
            raise SnapshotException(
                f"The snapshot {digest} is not in the store {self.root}: it was removed, or "
                "belongs to another workspace.",
                error,
            ) from error
        if digest_of([data], len(data)) != digest:
            raise SnapshotException(
                f"The snapshot's list of files is damaged: {path}. Remove that file and submit "
                "again from the source folder, or restore it from a backup."
            )
        return data

    def _has(self, path: str, size: int) -> bool:
        # A file of another size was left by a machine that lost power: it is written again.
        try:
            return os.stat(path).st_size == size
        except FileNotFoundError:
            return False

    def _write(self, content: Iterable[bytes], size: int) -> tuple[str, str, int]:
        """Write a file without a place yet; return its path, its digest and its size."""
        temporary = f"{self.root}/objects/.{os.urandom(8).hex()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(temporary, flags, 0o444)
        except FileNotFoundError:
            os.makedirs(f"{self.root}/objects", exist_ok=True)
            descriptor = os.open(temporary, flags, 0o444)
        hashed = sha256(size)(b"")
        written = 0
        try:
            for data in content:
                hashed.update(data)
                written += len(data)
                write_all(descriptor, data)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        return temporary, hashed.hexdigest(), written


def chunks(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield at most `size` bytes of an open file, from its start."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    while size > 0 and (data := os.read(descriptor, min(size, CHUNK))):
        size -= len(data)
        yield data


def digest_of(content: Iterable[bytes], size: int) -> str:
    """Return the SHA-256 of about `size` bytes."""
    hashed = sha256(size)(b"")
    for data in content:
        hashed.update(data)
    return hashed.hexdigest()


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, which one `write` need not do."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _place(temporary: str, path: str) -> None:
    try:
        try:
            os.rename(temporary, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.rename(temporary, path)
    except BaseException:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass  # a signal came when it had been renamed
        raise
