"""A run's files by name: its logs under v1's names, its uploads, and all that the script wrote."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from rechain.exceptions import SnapshotException
from rechain.guest.rechain_guest import chainer_log
from rechain.job import snapshot
from rechain.record import jsonl
from rechain.record.journal import fold_attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.record.paths import RunPaths

__all__ = ["RunFile", "copy", "listing", "logs", "text"]

_HEAD_BYTES = 256 << 10  # enough for the directory of names at the front of a small npz
_NOT_MADE = ("__pycache__", ".packages")  # what the script did not make itself


class RunFile(NamedTuple):
    """One file of a run.

    Attributes:
        name: its name, as `get_file_names` gives it.
        kind: what it is: `log`, `log-report`, `plot`, `graph`, `snapshot`, `model`, `file`.
        size: in bytes.
        paths: where it is; a driver log is made of two files, stdout and stderr.
        rank: the rank it is of, where its name says so.
    """

    name: str
    kind: str
    size: int
    paths: tuple[str, ...]
    rank: int | None = None


def logs(run: RunPaths) -> dict[str, tuple[str, ...]]:
    """Return the logs of the newest attempt under v1's names, with the files they are views of."""
    attempt = run.last_attempt()
    if attempt is None:
        return {}
    views: dict[str, tuple[str, ...]] = {
        "azureml-logs/20_image_build_log.txt": (attempt.prepare_log, attempt.image_log),
        "azureml-logs/60_control_log.txt": (attempt.mpi_log,),
    }
    ranks = sorted(fold_attempt(attempt).ranks) or [0]
    under_mpi = os.path.isdir(attempt.ranks)
    for rank in ranks:
        ending = f"_{rank}.txt" if under_mpi else ".txt"
        for name in (f"azureml-logs/70_driver_log{ending}", f"user_logs/std_log{ending}"):
            views[name] = (attempt.stdout(rank), attempt.stderr(rank))
    there = {name: tuple(filter(os.path.exists, paths)) for name, paths in views.items()}
    if not any(map(os.path.getsize, there["azureml-logs/60_control_log.txt"])):
        del there["azureml-logs/60_control_log.txt"]  # mpiexec speaks only when something is wrong
    return {name: paths for name, paths in there.items() if paths}


def listing(run: RunPaths) -> list[RunFile]:
    """Return the files of a run, logs first, then by name."""
    found = {
        name: RunFile(name, "log", sum(map(os.path.getsize, paths)), paths, _rank_of_log(name))
        for name, paths in logs(run).items()
        if not name.startswith("user_logs/")  # the same again, under the newer name
    }
    made = {**_made(run), **_below(run.uploads)}
    reports = {name for name, _ in chainer_log.find_reports(run.work)}
    for name in sorted(made):
        path = made[name]
        try:
            facts = os.stat(path)
            if not stat.S_ISREG(facts.st_mode):
                continue  # a pipe, socket or device
            kind = "log-report" if name in reports else _kind(name, path)
        except OSError:
            continue  # the script has just removed it, or it is a link to nothing
        rank = chainer_log.rank_of(name) if kind == "snapshot" else None
        found[name] = RunFile(name, kind, facts.st_size, (path,), rank)
    return list(found.values())


def _rank_of_log(name: str) -> int | None:
    rank = name.rpartition("_")[2].removesuffix(".txt")
    return int(rank) if rank.isdigit() else None


def copy(run: RunPaths, name: str, target: str) -> None:
    """Copy one of a run's files.

    Raises:
        LookupError: there is no file of this name.
        OSError: it cannot be copied.
    """
    import shutil

    paths = logs(run).get(name)
    if paths is None:
        inside = os.path.normpath(name)
        if inside.startswith(("../", "/")) or inside == "..":
            raise LookupError(name)
        candidates = [f"{run.uploads}/{inside}", f"{run.work}/{inside}"]
        paths = tuple(path for path in candidates if os.path.isfile(path))[:1]
    if not paths:
        raise LookupError(name)
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    with open(target, "wb") as copied:
        for path in paths:
            with open(path, "rb") as source:
                shutil.copyfileobj(source, copied)


def text(paths: tuple[str, ...]) -> str:
    """Return the content of a log, which may lie in several files."""
    found = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            found.append(file.read())
    return "".join(found)


def _made(run: RunPaths) -> dict[str, str]:
    """Return what is in the job's folder and was not there at first, or is not as it was."""
    try:
        job = jsonl.read(run.job)
    except (OSError, ValueError):
        return {}
    given = ((job.get("source") or {}).get("snapshot"), (job.get("resumed") or {}).get("files"))
    made = _below(run.work)
    if not any(given):
        return made
    workspace = os.path.dirname(os.path.dirname(os.path.dirname(run.root)))
    try:
        same = set()
        for digest in filter(None, given):
            same |= snapshot.unmodified(f"{workspace}/store", digest, run.work)
    except SnapshotException:  # the run folder was copied without its workspace
        same = {name for name, path in made.items() if _is_stamped(path)}
    return {name: path for name, path in made.items() if name not in same}


def _is_stamped(path: str) -> bool:
    try:
        return int(os.lstat(path).st_mtime) == snapshot.STAMP
    except OSError:
        return False


def _below(root: str) -> dict[str, str]:
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOT_MADE]
        prefix = os.path.relpath(folder, root)
        for name in names:
            inside = name if prefix == "." else f"{prefix}/{name}"
            found[inside] = f"{folder}/{name}"
    return found


def _kind(name: str, path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    kind: str = chainer_log.kind_of(name, head)
    return kind
