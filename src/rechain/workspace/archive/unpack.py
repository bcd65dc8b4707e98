"""From an archive to runs of a workspace."""

from __future__ import annotations

import contextlib
import os
import shutil
import tarfile

from rechain.exceptions import UserErrorException
from rechain.record import index, jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths, experiment_of
from rechain.workspace.archive.check import checked, opened
from rechain.workspace.archive.form import CONTENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rechain.workspace.workspace import Workspace

__all__ = ["import_runs"]

_STAGED = ".import-"


def import_runs(workspace: Workspace, path: str) -> tuple[list[str], list[str]]:
    """Bring the runs of an archive into a workspace.

    All of it is looked at before anything is written; each run is there whole or not at all,
    whatever happens meanwhile. A run that is there already is left as it is.

    Args:
        workspace: where to.
        path: the archive.

    Returns:
        The ids of the runs that were brought in, and of those that were there already.

    Raises:
        UserErrorException: it is no archive of runs, or not what it says, or it cannot be read or
            written out; nothing was changed then.
    """
    try:
        contents = checked(path)
        there = [run for run in contents["runs"] if os.path.lexists(_home(workspace, run))]
        new = [run for run in contents["runs"] if run not in there]
        if not new:
            return [], there
        workspace._make()
        with _staging(workspace) as staged:
            free = shutil.disk_usage(workspace.path).free
            if contents["bytes"] > free:
                raise UserErrorException(
                    f"{path} holds {contents['bytes']} bytes, and there are {free} left on the "
                    f"disk of {workspace.path}"
                )
            _unpack(path, staged, new)
            _verify(staged, new)
            _enter(workspace, staged, new)
    except (tarfile.TarError, EOFError, ValueError) as error:
        # tarfile tells of each way to open it, a line each.
        why = "" if "\n" in str(error) else f", or damaged: {error}"
        raise UserErrorException(f"{path} is no archive of runs{why}") from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename not in (None, path) else ""
        raise UserErrorException(
            f"{path} cannot be imported: {error.strerror or error}{where}", error
        ) from error
    return new, there


def _home(workspace: Workspace, run_id: str) -> str:
    return workspace._paths.run(run_id).root


@contextlib.contextmanager
def _staging(workspace: Workspace) -> Iterator[str]:
    """Make a folder in the workspace, gone in the end; a lock tells others that we live."""
    import fcntl

    folder = f"{workspace.path}/{_STAGED}{os.urandom(4).hex()}"
    whole = os.open(workspace.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(whole, fcntl.LOCK_EX)  # else another import takes ours for one that was killed
        _forget_unfinished(workspace)
        os.mkdir(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(whole)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _forget_unfinished(workspace: Workspace) -> None:
    """Remove what an import left that was killed."""
    import fcntl

    for name in os.listdir(workspace.path):
        if not name.startswith(_STAGED):
            continue
        folder = f"{workspace.path}/{name}"
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its owner lives
            pass
        finally:
            os.close(descriptor)


def _unpack(path: str, staged: str, new: list[str]) -> None:
    """Write out what belongs to some runs; the archive was checked, and has not changed since."""
    wanted = tuple(f"experiments/{experiment_of(run)}/{run}" for run in new)
    links: list[tarfile.TarInfo] = []
    folders: list[tarfile.TarInfo] = []
    with opened(path) as archive:
        for row in archive:
            ours = "/".join(row.name.split("/")[:3]) in wanted or row.name.startswith("store/")
            if row.name == CONTENTS or not ours:
                continue
            place = f"{staged}/{row.name}"
            if row.issym():
                links.append(row)
                continue
            if row.isdir():
                os.makedirs(place, exist_ok=True)
                folders.append(row)
                continue
            os.makedirs(os.path.dirname(place), exist_ok=True)
            source = archive.extractfile(row)
            assert source is not None
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(place, flags, 0o600), "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fchmod(target.fileno(), row.mode & 0o777)
                os.utime(target.fileno(), (row.mtime, row.mtime))
    for row in links:
        os.symlink(row.linkname, f"{staged}/{row.name}")
    for row in reversed(folders):
        os.chmod(f"{staged}/{row.name}", (row.mode & 0o777) | 0o700)
        os.utime(f"{staged}/{row.name}", (row.mtime, row.mtime))


def _verify(staged: str, new: list[str]) -> None:
    """Check that each run is one, and that the store's files are what their names say.

    Raises:
        ValueError: something is not.
    """
    import hashlib

    for run_id in new:
        root = f"{staged}/experiments/{experiment_of(run_id)}/{run_id}"
        job = jsonl.read(f"{root}/job.json")
        try:
            _submitted_at(job)
            whole = job["run_id"] == run_id and isinstance(job["command"], list)
        except (KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise ValueError(f"{run_id}/job.json is not that of this run")
        # Else readers would look for its processes, to end what is left of them.
        if fold(RunPaths(root)).end is None:
            raise ValueError(f"the run {run_id} has not ended")
    for folder, _, names in os.walk(f"{staged}/store"):
        for name in names:
            place = f"{folder}/{name}"
            hashed = hashlib.sha256()
            with open(place, "rb") as file:
                while data := file.read(1 << 20):
                    hashed.update(data)
            of_object = os.path.basename(folder) + name
            if hashed.hexdigest() not in (of_object, name.removesuffix(".json")):
                raise ValueError(f"{os.path.relpath(place, staged)} is not what its name says")


def _enter(workspace: Workspace, staged: str, new: list[str]) -> None:
    """Put the store's files and then the runs into their places; children before parents."""
    for folder, _, names in os.walk(f"{staged}/store"):
        home = f"{workspace.path}/{os.path.relpath(folder, staged)}"
        for name in names:
            if not os.path.exists(f"{home}/{name}"):
                os.makedirs(home, exist_ok=True)
                os.chmod(f"{folder}/{name}", 0o444)
                os.rename(f"{folder}/{name}", f"{home}/{name}")
    jobs = {}
    for run_id in new:
        root = f"{staged}/experiments/{experiment_of(run_id)}/{run_id}"
        jobs[run_id] = jsonl.read(RunPaths(root).job)
    for run_id in sorted(new, key=lambda one: _depth(one, jobs), reverse=True):
        job = jobs[run_id]
        home = _home(workspace, run_id)
        os.makedirs(os.path.dirname(home), exist_ok=True)
        # Those whose parent did not come along are listed like any other.
        if job.get("parent") not in jobs:
            index.add(workspace._paths, run_id, _submitted_at(job))
        try:
            os.rename(f"{staged}/experiments/{experiment_of(run_id)}/{run_id}", home)
        except OSError:
            if not os.path.lexists(home):
                index.remove(workspace._paths, run_id)
                raise
            # Somebody else has brought it in meanwhile.


def _submitted_at(job: dict[str, Any]) -> int:
    return int(job["submitted"]["time"] * 1e9)


def _depth(run_id: str, jobs: dict[str, Any]) -> int:
    depth = 0
    while (parent := jobs.get(run_id, {}).get("parent")) in jobs and depth <= len(jobs):
        run_id, depth = parent, depth + 1
    return depth
