"""A run's source folder on its way through a datastore: sent once, checked where it arrives.

`rechain-snapshots/<digest>.tar` in the datastore is a part of a workspace's store: the snapshot's
list of files, and their contents, each under its SHA-256.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile

from rechain.data.cache import DataCache
from rechain.data.datastore import Datastore
from rechain.exceptions import SnapshotException, UserErrorException
from rechain.job import snapshot
from rechain.job.store import CHUNK, Store, digest_of
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO, Any

    from rechain.record.paths import RunPaths

__all__ = ["bring_source", "path_of", "send_source", "workspace_store"]


def path_of(digest: str) -> str:
    """Return the path of a snapshot in a datastore."""
    return f"rechain-snapshots/{digest}.tar"


def send_source(source: dict[str, Any], store: str, scratch: str) -> None:
    """Send a snapshot to its datastore, unless it is there.

    Args:
        source: the `source` of a job.
        store: the workspace's store.
        scratch: a folder for the packed file on its way.

    Raises:
        SnapshotException: the store does not have it either, or it is damaged there.
        UserErrorException: the datastore cannot be read, or not written.
        OSError: it cannot be packed.
    """
    path = source["copy"]["path"]
    datastore = Datastore._at(source["copy"]["store"])
    if datastore.files(path):
        return
    packed = f"{scratch}/{os.path.basename(path)}"
    try:
        _pack(Store(store), source["snapshot"], packed)
        datastore.upload_files([packed], scratch, os.path.dirname(path), False, False)
    finally:
        if os.path.exists(packed):
            os.unlink(packed)


def _pack(store: Store, digest: str, path: str) -> None:
    # Without times and owners: the same snapshot makes the same file.
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        listing = store.manifest(digest)
        row = tarfile.TarInfo(digest)
        row.size = len(listing)
        archive.addfile(row, io.BytesIO(listing))
        for content in sorted(_contents(store, digest)):
            row = tarfile.TarInfo(content)
            with open(store.object_path(content), "rb") as file:
                row.size = os.fstat(file.fileno()).st_size
                archive.addfile(row, file)


def workspace_store(run: RunPaths) -> str:
    """Return the store that a run's contents are taken from."""
    if os.path.exists(run.apart):
        return f"{run.root}/store"  # the node has no workspace
    # .../<workspace>/experiments/<experiment>/<run id>
    return f"{os.path.dirname(os.path.dirname(os.path.dirname(run.root)))}/store"


def bring_source(
    run: RunPaths,
    cache: str,
    say: Callable[[str], None],
    other: dict[str, str] | None = None,
) -> None:
    """Fill the working folder of a run from its datastore, if its source went that way.

    To be called before the script's first start only. What it finds there, such as the files of
    the run that it resumes, stays.

    Args:
        run: the run.
        cache: what `environment.store.cache_root` returned.
        say: takes lines for people.
        other: what is to be brought in place of the source: its `snapshot`, and its `path`.

    Raises:
        UserErrorException: the datastore cannot be read, or the snapshot in it is damaged.
        OSError: it cannot be written out.
    """
    source = jsonl.read(run.job)["source"]
    if "copy" not in source:
        return
    digest = (other or source)["snapshot"]
    path = (other or source["copy"])["path"]
    datastore = Datastore._at(source["copy"]["store"])
    if datastore.folder:
        place = datastore.local_path(path)
    else:
        place = DataCache(cache, say).tree(datastore.storage, path, run.root)["place"]
    store = Store(workspace_store(run))
    aside = f"{run.root}/.source"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with tarfile.open(place, "r:") as archive:
            _receive(archive, digest, store)
        snapshot.checkout(store.root, digest, aside)
    except FileNotFoundError as error:
        if error.filename != place:
            raise
        raise UserErrorException(
            f"the source folder is not in the datastore {datastore.name} any more: there is no "
            f"{path}. Submit the run again."
        ) from None
    except tarfile.TarError as error:
        raise UserErrorException(
            f"the source folder is damaged in the datastore {datastore.name}: {path} ({error}). "
            "Remove that file and submit the run again."
        ) from error
    except SnapshotException as error:
        raise UserErrorException(error.message, error) from error
    _move(snapshot.manifest(store.root, digest), aside, run.work)
    shutil.rmtree(aside)
    say(f"the source folder came from {datastore.name}/{path}")


def _receive(archive: tarfile.TarFile, digest: str, store: Store) -> None:
    """Take what an archive holds over into the store.

    Raises:
        TarError: it is damaged.
        OSError: it cannot be written.
    """
    came = set()
    for member in archive:
        file = archive.extractfile(member)
        if file is None:
            raise tarfile.TarError(f"it holds {member.name!r}, which is no file")
        if member.name == digest:
            data = file.read()
            whole = digest_of([data], len(data)) == digest
            if whole:
                store.put_manifest(data)
        else:
            whole = store.receive(member.name, lambda file=file: _chunks(file), member.size)  # type: ignore[misc]
        if not whole:
            raise tarfile.TarError(f"{member.name[:12]} in it is not what its name says")
        came.add(member.name)
    # Behind a header that cannot be read tarfile takes the archive to be at its end.
    if missing := ({digest} if digest not in came else _contents(store, digest)) - came:
        raise tarfile.TarError(f"{len(missing)} of its files are missing")


def _contents(store: Store, digest: str) -> set[str]:
    entries = snapshot.manifest(store.root, digest)
    return {content for _, kind, content, _ in entries if kind in ("file", "program")}


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while data := file.read(CHUNK):
        yield data


def _move(entries: list[tuple[str, str, str, int]], aside: str, work: str) -> None:
    for path, kind, *_ in entries:
        target = f"{work}/{path}"
        if kind == "folder":
            os.makedirs(target, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(target) and not os.path.islink(target):
            os.rmdir(target)  # `outputs` or `logs`, which the source has as a link
        if not os.path.lexists(target):
            os.rename(f"{aside}/{path}", target)
    for name in ("outputs", "logs"):
        os.makedirs(f"{work}/{name}", exist_ok=True)
