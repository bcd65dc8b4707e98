"""What keeps a stored environment as it was built.

Each file is compared with the hash that its package names, once: uv's cache shares its files with
the environments, so whatever writes into one file writes into all of them. Then the environment
is closed to writing, and a line for each file is put down (`seal`), which each run compares.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Collection, Iterator

from rechain.environment import store

__all__ = ["changes", "copy", "damaged", "differs", "discard", "put", "record", "remember"]

_WRITE = 0o222


def changes(prefix: str) -> list[str]:
    """Return what differs from the seal: the files that were changed, added or removed."""

    def lines(text: str) -> dict[str, str]:
        return dict(line.split("\0") for line in text.splitlines())

    before, now = lines(store.seal_of(prefix)), lines(store.contents(prefix))
    if not before:
        return ["seal: is missing"]
    words = {path: "was changed" for path in before if now.get(path) != before[path]}
    words |= {path: "is missing" for path in before.keys() - now.keys()}
    words |= {path: "was added" for path in now.keys() - before.keys()}
    return [f"{path}: {words[path]}" for path in sorted(words)]


def put(prefix: str) -> None:
    """Close a folder to writing, but for its bytecode, and put its seal on it.

    It stays open itself, or it could not be renamed.

    Args:
        prefix: the folder, of an environment or of what those stand on.
    """
    found = store.contents(prefix, _close)
    for folder, folders, names in os.walk(prefix):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        elif any(name.endswith(".py") for name in names):
            os.mkdir(f"{folder}/__pycache__")
        if folder != prefix:
            _close(folder, os.lstat(folder))
    with open(f"{prefix}/seal", "x", encoding="utf-8", errors="surrogateescape") as file:
        file.write(found)
    _close(f"{prefix}/seal", os.lstat(f"{prefix}/seal"))


def remember(prefix: str, checked: str) -> None:
    """Note that each file of a sealed environment was compared with its hash.

    Args:
        prefix: the environment's folder, beside which there is room; `damaged` has found nothing.
        checked: a file that remembers what was found to be right.
    """
    os.makedirs(os.path.dirname(checked), exist_ok=True)
    beside = f"{os.path.dirname(prefix)}/checked"
    shutil.copyfile(f"{prefix}/seal", beside)
    os.replace(beside, checked)


def _close(path: str, status: os.stat_result) -> None:
    link = status.st_mode & 0o170000 == 0o120000
    if not link and status.st_mode & _WRITE:
        os.chmod(path, status.st_mode & 0o7777 & ~_WRITE)


def copy(prefix: str, target: str) -> None:
    """Make an environment that is open to changes of a stored one: its files are links."""
    for folder, folders, names in os.walk(prefix):
        folders[:] = [name for name in folders if name != "__pycache__"]
        inside = target + folder[len(prefix) :]
        os.mkdir(inside)
        for name in (*names, *(one for one in folders if os.path.islink(f"{folder}/{one}"))):
            if folder != prefix or name not in ("seal", "lock.json"):
                os.link(f"{folder}/{name}", f"{inside}/{name}", follow_symlinks=False)


def damaged(site: str, packages: Collection[str], checked: str) -> list[str]:
    """Return the packages with files that are not what the package says that they are.

    Args:
        site: the folder of an environment that has its packages.
        packages: the names of those to look at.
        checked: a file that remembers what was found to be right; it need not be there.
    """
    prefix = os.path.dirname(os.path.dirname(os.path.dirname(site)))
    try:
        with open(checked, encoding="utf-8", errors="surrogateescape") as file:
            known = set(file)
    except OSError:
        known = set()
    lines = store.contents(prefix).splitlines(keepends=True)
    right = {line.partition("\0")[0] for line in lines if line in known}
    found = []
    for info in _infos(site, packages):
        name = _name(info)
        files = list(record(f"{info}/RECORD"))
        full = ((os.path.normpath(f"{site}/{path}"), digest) for path, digest in files)
        wrong = any(
            digest and path[len(prefix) + 1 :] not in right and differs(path, digest)
            for path, digest in full
        )
        if wrong or not files:
            found.append(name)
    return sorted(found)


def forget(site: str, packages: Collection[str]) -> None:
    """Remove what says that packages are installed: one whose RECORD is torn cannot be replaced.

    Args:
        site: the folder of an environment that has its packages.
        packages: their names.

    Raises:
        OSError: it cannot be removed.
    """
    for info in _infos(site, packages):
        shutil.rmtree(info)


def _infos(site: str, packages: Collection[str]) -> list[str]:
    return [info for info in glob.glob(f"{site}/*.dist-info") if _name(info) in packages]


def _name(info: str) -> str:
    """Return the canonical name of a package by its dist-info: PEP 503's, without packaging.

    Each build needs it, and importing that costs as much as looking at each file.
    """
    return re.sub(r"[-_.]+", "-", os.path.basename(info).partition("-")[0]).lower()


def record(path: str) -> Iterator[tuple[str, str]]:
    """Yield the paths and hashes of a package's RECORD; nothing if it cannot be read."""
    import csv

    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, ValueError):
        rows = []
    for row in rows:
        if len(row) == 3:
            yield row[0], row[1]


def differs(path: str, digest: str) -> str:
    """Return what is wrong with a file of a RECORD; empty if nothing is."""
    import base64

    from rechain.job.hashing import sha256

    algorithm, _, wanted = digest.partition("=")
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return "is missing"
    if algorithm != "sha256":
        return ""
    raw = bytes.fromhex(sha256(len(data))(data).hexdigest())
    made = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return "" if made == wanted else "was changed"


def discard(folder: str) -> None:
    """Remove a folder, closed to writing or not, as far as that goes."""
    for one, folders, _ in os.walk(folder):
        for name in folders:
            path = f"{one}/{name}"
            if not os.path.islink(path) and not os.access(path, os.W_OK):
                os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
