"""A run that goes on from what another run left: which snapshot, and how the script takes it up.

The snapshot is stored like a source folder, and copied from there to the place in `work/` that it
had in the run it comes from. So the run can be replayed when that one is gone, scripts that look
for snapshots themselves find it, and a later attempt does too.
"""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException
from rechain.supervisor import resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.job.job import Job
    from rechain.record.paths import RunPaths
    from rechain.workspace.workspace import Workspace

__all__ = ["in_words", "resumed", "store_snapshot"]

_OF_V1 = "--resume-from"
_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"  # how files begin that Chainer can load


def resumed(workspace: Workspace, given: Any, job: Job) -> Job:
    """Return a job that goes on from what an estimator's `resume_from` names.

    Writes nothing, but fetches what lies in storage elsewhere, to see what it is.

    Args:
        workspace: where runs are looked for.
        given: `resume_from`.
        job: the compiled job.

    Raises:
        UserErrorException: there is no such run or path, or no snapshot there that can be read.
    """
    source, command = job.source["directory"], job.command
    script = command[0]
    seen = resume.habits(os.path.join(source, script), source)
    facts: dict[str, Any]
    elsewhere = ""
    if hasattr(given, "datastore_name"):
        named = f"{given.datastore_name}/{given.path_on_datastore or ''}"
        place = command[-1] if command[-2:-1] == [_OF_V1] else ""
        asks = not seen.of_v1 and (seen.option or seen.itself)
        if asks and place and not given._datastore.folder:
            place, elsewhere = _fetched(given), os.path.normpath(given.path_on_datastore or "")
        if not asks or not os.path.exists(place):
            # v1's contract: the folder as it lies, whatever is in it.
            facts = {"run": None, "path": named, "how": "argument", "option": _OF_V1}
            return job.replace(resumed={**facts, "snapshot": None, "iteration": None})
        given = place
        job = job.replace(command=command[:-2])  # an option that the script does not have
    run, root = _located(workspace, given)
    try:
        path, iteration, broken = _newest(run, root)
    except UserErrorException as error:
        other = _with_snapshot(workspace) if given == "latest" else None
        if other is None:
            raise
        raise UserErrorException(
            f"{error.message}; the newest run that has one is {other}"
        ) from None
    inside = _place(run, root, path, source)
    if elsewhere and os.path.isdir(root):  # the cache's own name of the folder says nothing
        inside = os.path.join(os.path.basename(elsewhere), os.path.relpath(path, root))
    facts = {"run": run and run.run_id, "path": path, "snapshot": inside}
    arguments = job.command[1:]
    if seen.itself:
        facts |= {"how": "itself", "option": seen.itself}
    else:
        if not seen.option:
            seen.option = _OF_V1  # as v1 would; a script may read its arguments in many ways
        facts |= {"how": "argument", "option": seen.option}
        arguments = resume.told(seen, inside, arguments)
    facts |= {"iteration": iteration, "passed_over": broken}
    text = f"goes on {in_words(facts)}"
    if broken:
        text += f"; passed over because broken: {', '.join(broken)}"
    return job.replace(command=[script, *arguments], resumed=facts, notes=[*job.notes, text])


def _fetched(given: Any) -> str:
    """Return the machine's copy of what a `DataPath` into storage elsewhere names."""
    from rechain.data.cache import DataCache
    from rechain.data.paths import inside
    from rechain.environment import store

    datastore, path = given._datastore, given.path_on_datastore
    cache = DataCache(store.cache_root())
    tree = cache.tree(datastore.storage, inside(datastore.name, path), "/nonexistent/resumed")
    return str(tree["place"])


def in_words(facts: dict[str, Any]) -> str:
    """Return what a run goes on from, in one line."""
    at = "" if facts["iteration"] is None else f" (iteration {facts['iteration']})"
    if facts["snapshot"] is None:
        return f"from {facts['path']}, by {facts['option']}"
    whence = f"{facts['run']}: {facts['snapshot']}" if facts["run"] else facts["path"]
    by = (
        f"which {facts['option']} takes up"
        if facts["how"] == "itself"
        else f"by {facts['option']}"
    )
    return f"from {whence}{at}, {by}"


def store_snapshot(store: str, facts: dict[str, Any]) -> str:
    """Store what a run goes on from; return the digest.

    Args:
        store: the workspace's store.
        facts: what `resumed` wrote into the job.

    Raises:
        UserErrorException: it is not there any more, or was damaged meanwhile.
        OSError: it cannot be stored.
    """
    from rechain.job import snapshot

    files = {facts["snapshot"]: facts["path"]}
    if facts["how"] == "itself" and facts["iteration"] is not None:  # each rank takes up its own
        folder, home = os.path.dirname(facts["path"]), os.path.dirname(facts["snapshot"])
        for name in resume.of_iteration(folder, facts["iteration"]):
            files[os.path.join(home, name)] = f"{folder}/{name}"
    try:
        return snapshot.take_files(files, store)
    except FileNotFoundError as error:
        raise UserErrorException(
            f"{error.filename} is not there any more; what it was to go on from was removed"
        ) from error


def _located(workspace: Workspace, given: Any) -> tuple[RunPaths | None, str]:
    """Return the run that is meant, if it is one, and the file or folder to look at."""
    from rechain.record.paths import RunPaths

    if hasattr(given, "folder"):
        paths = RunPaths(given.folder)
        return paths, paths.work
    text = os.fspath(given)
    path = os.path.abspath(os.path.expanduser(text))
    if os.path.exists(path):
        return _run_around(path), path
    if isinstance(given, str) and "/" not in text:
        try:
            paths = workspace.get_run(text)._paths if text != "latest" else _latest(workspace)
        except UserErrorException as error:
            raise UserErrorException(
                f"{error.message}; nor is there a file or folder of this name to resume from"
            ) from None
        return paths, paths.work
    raise UserErrorException(f"{path} is not there; resume from a run, a snapshot or a folder")


def _latest(workspace: Workspace) -> RunPaths:
    for run in workspace.get_runs():
        return run._paths
    raise UserErrorException(f"there is no run yet in the workspace {workspace.path}")


def _with_snapshot(workspace: Workspace) -> str | None:
    """Return the newest run that has a trainer's snapshot."""
    for run in workspace.get_runs():
        if resume.find_snapshots(run._paths.work)[0]:
            return run.id
    return None


def _run_around(path: str) -> RunPaths | None:
    """Return the run whose folder a path is in."""
    from rechain.record.paths import RunPaths, experiment_of

    parts = os.path.realpath(path).split(os.sep)
    for at in range(len(parts) - 1, 2, -1):
        try:
            if parts[at - 2] == "experiments" and experiment_of(parts[at]) == parts[at - 1]:
                return RunPaths(os.sep.join(parts[: at + 1]))
        except ValueError:
            continue
    return None


def _newest(run: RunPaths | None, root: str) -> tuple[str, int | None, list[str]]:
    """Return the newest snapshot that can be read, its iteration, and the broken ones' paths."""
    if os.path.isfile(root):
        with open(root, "rb") as file:
            head = file.read(8)
        if not head.startswith((_ZIP, _HDF5)):
            raise UserErrorException(
                f"{root} is no snapshot: neither an npz file, as Chainer's save_npz and trainer "
                "write it, nor HDF5; name a run, or a snapshot of one"
            )
        if head.startswith(_ZIP) and not resume.can_be_read(root):
            raise UserErrorException(
                f"{root} cannot be read to its end: it is broken, as a process leaves it that "
                "dies while it writes; take an older one"
            )
        iteration = resume.iteration_of(root)
        return root, None if iteration < 0 else iteration, []
    what = f"the run {run.run_id}" if run else root
    if not os.path.isdir(root):
        raise UserErrorException(f"{what} has no files to resume from")
    snapshots, broken = resume.find_snapshots(root)
    if not snapshots:
        why = f"; broken: {', '.join(broken)}" if broken else ""
        raise UserErrorException(
            f"{what} has no snapshot of a trainer that can be read{why}; name the file to resume "
            "from if it is another kind"
        )
    path, iteration = snapshots[0]
    return f"{root}/{path}", None if iteration < 0 else iteration, broken


def _place(run: RunPaths | None, root: str, path: str, source: str) -> str:
    """Return where a snapshot is put in `work/`: where it was, seen from the script."""
    bases = [run.work] if run else []
    bases += [source, os.path.dirname(root) if os.path.isdir(root) else ""]
    bases.append(os.path.dirname(os.path.dirname(path)))
    for base in filter(None, bases):
        inside = os.path.relpath(os.path.realpath(path), os.path.realpath(base))
        if not inside.startswith(".."):
            return inside
    return os.path.basename(path)
