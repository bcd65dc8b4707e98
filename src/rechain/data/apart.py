"""What a node needs of a run whose folder it does not see, on its way through a datastore.

The source folder and the inputs come as they come to the first node. What is in the working folder
already, as earlier attempts left it or from a run that is resumed, is one more snapshot in the
same datastore. Of the first node's cache, what the ranks read (the environment, a Python or an MPI
that was downloaded) travels packed to one file each: `rechain-environments/<digest>/<name>.tar`.
"""

from __future__ import annotations

import os
import shutil

from rechain.data import staging
from rechain.data.cache import DataCache
from rechain.data.datastore import Datastore
from rechain.data.source import bring_source, path_of, send_source, workspace_store
from rechain.environment import packed, store
from rechain.exceptions import UserErrorException
from rechain.job import snapshot
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rechain.record.paths import RunPaths

__all__ = ["bring_all", "lend"]


def lend(
    run: RunPaths, cache: str, folders: list[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Send to the datastore of a run's source what else the ranks need, unless it is there.

    Args:
        run: the run.
        cache: what `environment.store.cache_root` returned.
        folders: folders of the cache.
        say: takes lines for people.

    Returns:
        `lent`: of each folder its `folder`, its `path` in the datastore, and the `document` of the
        packed file; `made`: the snapshot of what is in the working folder already, or None.

    Raises:
        SnapshotException: what is there cannot be read.
        UserErrorException: the datastore cannot be read, or not written.
        OSError: it cannot be packed.
    """
    datastore = _datastore(run)
    lent = []
    for folder in folders:
        pack = packed.pack(cache, folder, say)
        target = f"rechain-environments/{pack.document['sha256']}"
        path = f"{target}/{os.path.basename(pack.path)}"
        if not datastore.files(path):
            say(f"sending {os.path.basename(pack.path)} to {datastore.name}")
            datastore.upload_files([pack.path], os.path.dirname(pack.path), target, False, False)
        lent.append({"folder": folder, "path": path, "document": pack.document})
    return {"lent": lent, "made": _send_made(run)}


def _send_made(run: RunPaths) -> str | None:
    """Send what the working folder has beside source and inputs, and return its digest."""
    source = jsonl.read(run.job)["source"]
    own = snapshot.unmodified(workspace_store(run), source["snapshot"], run.work)
    places = [f"{one['place']}/" for one in jsonl.read(run.inputs)["inputs"]]
    files = {}
    for folder, folders, names in os.walk(run.work):
        folders[:] = [name for name in folders if name not in (".packages", "__pycache__")]
        for name in names:
            place = f"{folder}/{name}"
            path = os.path.relpath(place, run.work)
            brought = any(f"{place}/".startswith(one) for one in places)
            if os.path.isfile(place) and not (brought or path in own or os.path.islink(place)):
                files[path] = place
    if not files:
        return None
    scratch = f"{run.root}/.lent"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        digest = snapshot.take_files(files, f"{scratch}/store")
        copy = {**source["copy"], "path": path_of(digest)}
        send_source({"snapshot": digest, "copy": copy}, f"{scratch}/store", scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return digest


def bring_all(run: RunPaths, cache: str, say: Callable[[str], None]) -> list[str]:
    """Bring to this node all that a run needs.

    Args:
        run: the run, whose folder is this node's own.
        cache: what `environment.store.cache_root` returned.
        say: takes lines for people.

    Returns:
        The folders to keep as long as the run uses them; see `environment.packed.hold`.

    Raises:
        UserErrorException: something cannot be had, or not where the first node has it.
        OSError: it cannot be written.
    """
    wanted = jsonl.read(run.apart)
    datastore = _datastore(run)
    path = jsonl.read(run.job)["source"]["copy"]["path"]
    if datastore.folder and not os.path.exists(datastore.local_path(path)):
        raise UserErrorException(
            f"there is no {path} in {datastore.folder}, the folder of the datastore "
            f"{datastore.name}: source_directory_data_store must be one that all nodes reach"
        )
    if made := wanted["made"]:  # first: what is there, the source folder leaves as it is
        bring_source(run, cache, say, {"snapshot": made, "path": path_of(made)})
    staging.bring(run, cache, say)
    for one in jsonl.read(run.inputs)["inputs"]:
        if one["place"] != wanted["places"][one["name"]]:
            raise UserErrorException(
                f"the input {one['name']} is at {one['place']} there, and the script is told "
                f"{wanted['places'][one['name']]}"
            )
    held = [place for one in wanted["lent"] if (place := _borrow(run, cache, datastore, one, say))]
    if not os.access(wanted["python"], os.X_OK):
        python = os.path.realpath(wanted["python"])
        raise UserErrorException(f"the job's Python, {python}, is not there")
    if wanted["packages"]:
        os.makedirs(wanted["packages"], exist_ok=True)  # Python looks for it once, at its start
    return held


def _datastore(run: RunPaths) -> Datastore:
    return Datastore._at(jsonl.read(run.job)["source"]["copy"]["store"])


def _borrow(
    run: RunPaths, cache: str, datastore: Datastore, lent: dict[str, Any],
    say: Callable[[str], None],
) -> str | None:  # fmt: skip
    """Have a folder of the first node's cache here; return where, unless it was here already."""
    folder: str = lent["folder"]
    if os.path.isdir(folder) and not os.path.islink(folder):
        seal = store.seal_of(folder)
        if not seal or store.contents(folder) == seal:
            return None  # this node's cache has the same, or is the same
        raise UserErrorException(f"{folder} was changed there since it was built; remove it")
    if datastore.folder:
        path = datastore.local_path(lent["path"])
    else:
        path = DataCache(cache, say).tree(datastore.storage, lent["path"], run.root)["place"]
    try:
        own = jsonl.read(run.job)["slurm"].get("node_store") or f"{cache}/borrowed"
        place, fresh = packed.unpack(packed.Pack(path, lent["document"]), own)
    except packed.NotUnpacked as error:
        raise UserErrorException(
            f"the environment cannot be unpacked there: {error.message}"
        ) from error
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    aside = f"{folder}.{os.getpid()}.tmp"
    os.symlink(place, aside)
    os.replace(aside, folder)  # the same path as on the first node, also while others look
    if fresh:
        say(f"{os.path.basename(folder)} came from {datastore.name}/{lent['path']}")
    return place
