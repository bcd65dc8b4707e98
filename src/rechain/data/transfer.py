"""Files on their way: each arrives whole or not at all; a transfer goes on where it stopped."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rechain.data.storage import Entry, Storage

__all__ = ["PARTIAL", "copy_all", "digest_of", "download", "fetch", "send", "show"]

PARTIAL = ".rechain-partial"
"""The folder, in the one that is copied to, of what is not whole yet."""

_SEGMENT = 16 << 20  # bytes that are asked for at once
_TRIES = 5
_PAUSE = 0.2  # seconds before the second try; doubled for each further
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def copy_all(files: list[tuple[str, str]], target: str, overwrite: bool) -> int:
    """Copy files below a folder; each is there whole or not at all.

    Args:
        files: their paths, and their paths below the folder.
        target: the folder; it is made.
        overwrite: whether files that are there already are replaced; else they are left.

    Returns:
        How many were copied.

    Raises:
        UserErrorException: one cannot be copied.
    """
    count = 0
    try:
        os.makedirs(target, exist_ok=True)
        for source, relative in files:
            whole = os.path.join(target, relative)
            if os.path.lexists(whole) and not overwrite:
                continue
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            beside = f"{whole}.{os.urandom(4).hex()}~"
            try:
                shutil.copyfile(source, beside)
                os.replace(beside, whole)
            except OSError:
                if os.path.lexists(beside):
                    os.unlink(beside)
                raise
            count += 1
    except OSError as error:
        raise UserErrorException(
            f"{error.filename or 'a file'} cannot be copied to {target}: {error.strerror}.", error
        ) from error
    return count


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(1 << 20):
            found.update(data)
    return found.hexdigest()


def fetch(
    storage: Storage,
    entries: Sequence[Entry],
    folder: str,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Copy files of a store below a folder, several parts at a time.

    What an earlier call left there is taken up: files that are whole, and parts of large ones.

    Args:
        storage: the store.
        entries: its files.
        folder: where to; it is made.
        say: takes how many bytes are there, and how many there will be.

    Raises:
        UserErrorException: a file cannot be read.
        OSError: it cannot be written.
    """
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    total = sum(entry.size or 0 for entry in entries)
    for place in {os.path.dirname(f"{folder}/{entry.path}") for entry in entries} | {folder}:
        os.makedirs(place, exist_ok=True)
    done = 0
    pool = ThreadPoolExecutor(storage.workers)
    try:
        waiting = {
            pool.submit(step)
            for entry in entries
            for step in _steps(storage, entry, f"{folder}/{entry.path}")
        }
        while waiting:
            finished, waiting = wait(waiting, 1, FIRST_EXCEPTION)
            done += sum(future.result() for future in finished)
            say(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    for entry in entries:
        _settle(storage, entry, f"{folder}/{entry.path}")


def _steps(storage: Storage, entry: Entry, path: str) -> list[Callable[[], int]]:
    """Return what has to be done for a file; each returns how many bytes it brought."""
    if os.path.exists(path):
        return []
    size = entry.size
    if size is None or not entry.ranges:
        return [lambda: _whole(storage, entry, path)]
    if size <= _SEGMENT:
        return [lambda: _small(storage, entry, path)]
    part = f"{path}.part"
    there = _segments(part)
    with open(part, "ab") as file:
        file.truncate(size)

    def segment(number: int) -> int:
        start = number * _SEGMENT
        data = _patiently(storage, entry, start, min(start + _SEGMENT, size))
        with open(part, "r+b") as file:
            file.seek(start)
            file.write(data)
            file.flush()
            os.fdatasync(file.fileno())  # or a crash leaves a hole that looks fetched
        with open(f"{part}.done", "a") as notes:
            notes.write(f"{number}\n")
        return len(data)

    count = (size + _SEGMENT - 1) // _SEGMENT
    return [lambda number=n: segment(number) for n in range(count) if n not in there]  # type: ignore[misc]


def _segments(part: str) -> set[int]:
    try:
        with open(f"{part}.done") as notes:
            lines = notes.read().split("\n")
    except FileNotFoundError:
        return set()
    return {int(line) for line in lines[:-1] if line.isdigit()} if os.path.exists(part) else set()


def _small(storage: Storage, entry: Entry, path: str) -> int:
    data = _patiently(storage, entry, 0, entry.size)
    part = f"{path}.part"
    with open(part, "wb") as file:
        file.write(data)
    os.replace(part, path)
    return len(data)


def _whole(storage: Storage, entry: Entry, path: str) -> int:
    part = f"{path}.part"
    _try(storage, entry, lambda: storage.get(entry, part))
    os.replace(part, path)
    return os.stat(path).st_size


def _settle(storage: Storage, entry: Entry, path: str) -> None:
    """Give a file that came in parts its name, and see whether it has its size."""
    if not os.path.exists(path):
        os.replace(f"{path}.part", path)
        os.unlink(f"{path}.part.done")
    size = os.stat(path).st_size
    if entry.size is not None and size != entry.size:
        os.unlink(path)
        raise UserErrorException(
            f"{entry.shown} of the datastore {storage.name} came with {size} bytes in place of "
            f"{entry.size}; it changes while it is read."
        )


def _patiently(storage: Storage, entry: Entry, start: int, end: int | None) -> bytes:
    def read() -> bytes:
        if not entry.size:
            return b""
        data = storage.read(entry, start, end)
        if end is not None and len(data) != end - start:
            raise OSError(f"{len(data)} bytes came in place of {end - start}")
        return data

    return _try(storage, entry, read)


def _try(storage: Storage, entry: Entry, read: Callable[[], object]) -> bytes:
    for number in range(_TRIES):
        try:
            return read()  # type: ignore[return-value]
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            if isinstance(error, _FINAL) or number == _TRIES - 1:
                raise storage.failure(error, f"be read: {entry.shown}") from None
            time.sleep(_PAUSE * 2**number)
    raise AssertionError("unreachable")


def download(
    storage: Storage,
    files: Sequence[tuple[Entry, str]],
    target: str,
    overwrite: bool,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Copy files of a store below a folder, and return how many were copied.

    What a call that was broken off has left is taken up.

    Args:
        storage: the store.
        files: its files, and their paths below the folder.
        target: the folder; it is made.
        overwrite: whether files that are there already are replaced; else they are left.
        say: takes how many bytes are there, and how many there will be.

    Raises:
        UserErrorException: one cannot be copied.
    """
    wanted = [
        pair for pair in files if overwrite or not os.path.lexists(os.path.join(target, pair[1]))
    ]
    if not wanted:
        return 0
    try:
        with _aside(target) as folder:
            for entry, name in wanted:
                # What another call has left is this file only if it was the same file then.
                state = [storage.identity, entry.key, entry.size, entry.version, name]
                entry.path = hashlib.sha256(repr(state).encode()).hexdigest()
            fetch(storage, [entry for entry, _ in wanted], folder, say)
            for entry, name in wanted:
                os.makedirs(os.path.dirname(os.path.join(target, name)), exist_ok=True)
                os.replace(f"{folder}/{entry.path}", os.path.join(target, name))
    except OSError as error:
        raise UserErrorException(
            f"{error.filename or 'a file'} cannot be copied to {target}: {error.strerror}.", error
        ) from error
    return len(wanted)


@contextmanager
def _aside(target: str) -> Iterator[str]:
    """Yield the folder for what is not whole yet; it stays if the transfer breaks off.

    Who finds another at work there gets a folder of its own, which does not stay.
    """
    folder = os.path.join(target, PARTIAL)
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = os.fstat(descriptor).st_ino == os.stat(folder).st_ino  # not removed meanwhile
    except OSError:
        alone = False
    if not alone:
        folder = f"{folder}.{os.urandom(4).hex()}"
        os.makedirs(folder)
    try:
        yield folder
        alone = False
    finally:
        if not alone:
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            os.rmdir(folder)  # nothing came
        os.close(descriptor)


def show(done: int, total: int) -> None:
    """Show on a terminal how far a transfer is."""
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{done / 1e6:.1f} of {total / 1e6:.1f} MB{end}")
        sys.stderr.flush()


def send(
    storage: Storage,
    files: Sequence[tuple[str, str]],
    say: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Copy files of this machine to a store, several at a time.

    Args:
        storage: the store.
        files: their paths, and their paths in the store.
        say: takes how many bytes are there, and how many there will be.

    Raises:
        UserErrorException: one cannot be copied.
    """
    from concurrent.futures import ThreadPoolExecutor

    def put(pair: tuple[str, str]) -> int:
        for number in range(_TRIES):
            try:
                storage.put(*pair)
                return os.stat(pair[0]).st_size
            except Exception as error:
                if isinstance(error, _FINAL) or number == _TRIES - 1:
                    raise storage.failure(error, f"be written: {pair[1]}") from None
                time.sleep(_PAUSE * 2**number)
        raise AssertionError("unreachable")

    total, done = sum(os.stat(path).st_size for path, _ in files), 0
    pool = ThreadPoolExecutor(storage.workers)
    try:
        for size in pool.map(put, files):
            done += size
            say(done, total)
    finally:
        pool.shutdown(cancel_futures=True)
