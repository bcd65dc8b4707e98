"""The environments of the cache: which there are, who uses them, whether they are whole."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import time
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from rechain.environment import packed, seal, store
from rechain.environment.build import packages_of, workbench
from rechain.exceptions import UserErrorException
from rechain.record import jsonl

__all__ = [
    "Stored",
    "all_stored",
    "collect",
    "collect_carried",
    "collect_unpacked",
    "find",
    "frees",
    "locks_of",
    "remove",
    "size",
    "verify",
]

_A_DAY = 86400.0  # seconds; no engine writes an archive that slowly

# What stands in an environment beside the files that its packages list.
_NOT_RECORDED = ("_virtualenv.py", "_virtualenv.pth", "distutils-precedence.pth")


class Stored(NamedTuple):
    """A built environment.

    Attributes:
        name: its folder's name in the cache.
        prefix: its folder, absolute.
        lock: its lock document.
        made: when it was built, seconds since 1970.
        runs: the folders of the runs that used it, or were submitted and will, and are still
            there.
        shells: the pids of the shells that are open in it.
    """

    name: str
    prefix: str
    lock: dict[str, Any]
    made: float
    runs: list[str]
    shells: list[int]


def all_stored(cache: str) -> list[Stored]:
    """Return all environments that are built, the newest first."""
    folder = store.environments(cache)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    wanted = _wanted(cache)
    found = []
    for name in names:
        lock = store.read_known(f"{folder}/{name}/lock.json")
        if not name.startswith(".") and lock is not None:
            made = os.stat(f"{folder}/{name}").st_mtime
            users = {*store.users(cache, name), *wanted.get(name, ())}
            runs = sorted(one for one in users if not one.startswith("/proc/"))
            shells = sorted(int(one[len("/proc/") :]) for one in users - {*runs})
            found.append(Stored(name, f"{folder}/{name}", lock, made, runs, shells))
    return sorted(found, key=lambda one: (-one.made, one.name))


def _wanted(cache: str) -> dict[str, list[str]]:
    """Return the run folders of each environment whose spec was submitted."""
    found: dict[str, list[str]] = {}
    for digest, name in _pointers(cache):
        found.setdefault(name, []).extend(store.users(cache, digest))
    return found


def _pointers(cache: str) -> Iterator[tuple[str, str]]:
    for path in glob.glob(f"{glob.escape(cache)}/resolved/*.json"):
        known = store.read_known(path)
        if known is not None:
            yield os.path.basename(path)[: -len(".json")], known["environment"]


def _is_preparing(cache: str) -> bool:
    """Return whether some process of this host is about to point to what it builds."""
    for path in glob.glob(f"{glob.escape(cache)}/resolved/*.lock"):
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                continue  # a file system without such locks
    return False


def find(cache: str, beginning: str) -> Stored:
    """Return the environment whose name, a digest, begins so.

    Raises:
        UserErrorException: there is none, or more than one.
    """
    found = [one for one in all_stored(cache) if beginning and one.name.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserErrorException(
            f"there is no environment {beginning!r} in {cache}; `rechain env list` shows them all"
        )
    raise UserErrorException(
        f"{beginning!r} is the beginning of {len(found)} environments: "
        f"{', '.join(one.name for one in found[:3])}"
    )


def size(stored: Stored) -> int:
    """Return the bytes of an environment's files; many are shared with uv's own cache."""
    total = 0
    for folder, _, names in os.walk(stored.prefix):
        for name in names:
            total += os.lstat(f"{folder}/{name}").st_size
    return total


def frees(stored: Stored) -> int:
    """Return the bytes that removing an environment frees: what uv's cache shares stays there."""
    total = 0
    for folder, _, names in os.walk(stored.prefix):
        for name in names:
            status = os.lstat(f"{folder}/{name}")
            total += status.st_blocks * 512 * (status.st_nlink == 1)
    return total


def verify(stored: Stored) -> list[str]:
    """Return what is wrong with an environment: nothing, if each file is as it was installed.

    That includes what it stands on in the same cache: a Python that was downloaded, an MPI of the
    package index, and the mpi4py that was built for it.
    """
    from rechain.environment.resolve import identity

    found = []
    lock = stored.lock
    if identity(lock) != lock["digest"] or not stored.name.startswith(lock["digest"]):
        found.append("lock.json: was changed")
    site = packages_of(stored.prefix, lock)
    locked = {one["name"]: one["version"] for one in lock["packages"]}
    recorded: set[str] = set()
    if "conda" in lock:
        from rechain.environment.conda.install import differences

        found += differences(stored.prefix, lock["conda"], recorded)
    for info in sorted(name for name in os.listdir(site) if name.endswith(".dist-info")):
        if f"{site}/{info}/METADATA" in recorded:
            continue  # conda's
        name, version = _installed(f"{site}/{info}")
        wanted = locked.pop(name, None)
        if wanted is None:
            found.append(f"{name} {version}: is not in the lock")
        elif wanted != version:
            found.append(f"{name} {version}: the lock has {wanted}")
        for path, digest in seal.record(f"{site}/{info}/RECORD"):
            full = os.path.normpath(f"{site}/{path}")
            recorded.add(full)
            if digest and (wrong := seal.differs(full, digest)):
                found.append(f"{os.path.relpath(full, stored.prefix)}: {wrong}")
    found += [f"{name} {version}: is missing" for name, version in locked.items()]
    found += _below(os.path.dirname(os.path.dirname(stored.prefix)), lock)
    for folder, _, names in os.walk(site):
        if os.path.basename(folder) == "__pycache__":
            continue
        for file in names:
            full = f"{folder}/{file}"
            if full not in recorded and file not in _NOT_RECORDED and not file.endswith(".pyc"):
                found.append(f"{os.path.relpath(full, stored.prefix)}: was added")
    return found


def _below(cache: str, lock: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with that on which a lock's environment stands in the cache."""
    from rechain.environment.mpi4py import folder_of

    for folder in filter(None, (*store.foundations(cache, lock), folder_of(lock, cache))):
        wrong = dict.fromkeys(seal.changes(folder))
        for record in glob.glob(f"{glob.escape(folder)}/**/*.dist-info/RECORD", recursive=True):
            site = os.path.dirname(os.path.dirname(record))
            for path, digest in seal.record(record):
                full = os.path.normpath(f"{site}/{path}")
                if digest and (what := seal.differs(full, digest)):
                    wrong[f"{os.path.relpath(full, folder)}: {what}"] = None
        yield from (f"{os.path.relpath(folder, cache)}/{line}" for line in wrong)


def _installed(info: str) -> tuple[str, str]:
    from packaging.utils import canonicalize_name

    name, version = os.path.basename(info)[: -len(".dist-info")].split("-")[:2]
    return canonicalize_name(name), version


def remove(cache: str, stored: Stored) -> None:
    """Remove an environment. It is gone at once or not at all.

    Its resolution stays known: who asks for it again gets the same.

    Raises:
        OSError: it cannot be removed.
    """
    with workbench(cache) as bench:
        os.rename(stored.prefix, f"{bench}/{stored.name}")
    packed.forget(cache, stored.name)
    store.forget_users(cache, stored.name)
    with contextlib.suppress(OSError):
        os.unlink(store.checked(cache, stored.name))


def collect(
    cache: str, seconds: float, runs: Collection[dict[str, Any]] = (), dry: bool = False
) -> list[Stored]:
    """Remove the environments that no run folder refers to any more.

    Args:
        cache: what `store.cache_root` returned.
        seconds: one that is younger stays: a run may be about to use it.
        runs: locks of further runs, whose environments stay.
        dry: whether nothing is removed.

    Returns:
        Those that are removed.
    """
    kept = {lock.get("digest") for lock in runs}
    if _is_preparing(cache):
        pointed = {name for _, name in _pointers(cache)}
        kept |= {one.lock["digest"] for one in all_stored(cache) if one.name not in pointed}
    old = time.time() - seconds

    def unused() -> list[Stored]:
        return [
            one
            for one in all_stored(cache)
            if not (one.runs or one.shells or one.lock["digest"] in kept or one.made > old)
        ]

    if dry:
        return unused()
    removed = []
    for one in unused():
        if one in unused():  # nobody has come in the meantime
            remove(cache, one)
            removed.append(one)
    return removed


def collect_unpacked(
    cache: str, seconds: float, gone: Collection[Stored], dry: bool = False
) -> int:
    """Remove the unpacked packages of conda that no stored environment has.

    Args:
        cache: what `store.cache_root` returned.
        seconds: one that was unpacked or used since stays: a build may be about to link it.
        gone: environments that count as removed.
        dry: whether nothing is removed.

    Returns:
        The bytes that this frees.
    """
    if _is_preparing(cache):
        return 0
    removed, old = {one.name for one in gone}, time.time() - seconds
    stay = [one.lock for one in all_stored(cache) if one.name not in removed]
    has = [package for lock in stay for package in lock.get("conda", {}).get("packages", ())]
    kept = {package["sha256"] for package in has}
    total = 0
    for folder in glob.glob(f"{glob.escape(cache)}/conda/pkgs/*"):
        if os.path.basename(folder) in kept or os.stat(folder).st_mtime > old:
            continue
        # What an environment that stays shares with it would have kept it.
        total += sum(
            os.lstat(f"{inside}/{name}").st_blocks * 512
            for inside, _, names in os.walk(folder)
            for name in names
        )
        if not dry:
            with workbench(cache) as bench:
                os.rename(folder, f"{bench}/{os.path.basename(folder)}")
    return total


def collect_carried(cache: str, seconds: float, dry: bool = False) -> int:
    """Remove the archives of images for other nodes that no run folder refers to any more.

    An image of which there is none is built again where it is missing.

    Args:
        cache: what `store.cache_root` returned.
        seconds: one that was written or loaded since stays.
        dry: whether nothing is removed.

    Returns:
        The bytes that this frees.
    """
    total, now = 0, time.time()
    for path, name in store.carried(cache):
        facts = os.stat(path)
        if store.users(cache, name) or facts.st_mtime > now - seconds:
            continue
        total += facts.st_blocks * 512
        if not dry:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}.json")  # without it nobody loads the archive
            os.unlink(path)
            store.forget_users(cache, name)
    for path in glob.glob(f"{glob.escape(cache)}/images/*.tar.*.part"):  # of who was killed
        facts = os.stat(path)
        if facts.st_mtime < now - max(seconds, _A_DAY):
            total += facts.st_blocks * 512
            if not dry:
                os.unlink(path)
    return total


def locks_of(roots: Iterator[str]) -> list[dict[str, Any]]:
    """Return the locks of run folders, where they have one."""
    found = []
    for root in roots:
        try:
            found.append(jsonl.read(f"{root}/lock.json"))
        except (OSError, ValueError):
            continue
    return found
