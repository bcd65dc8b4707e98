"""From runs to an archive."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile

from rechain.exceptions import UserErrorException
from rechain.job import snapshot
from rechain.record import jsonl
from rechain.record.causes import TERMINAL
from rechain.workspace.archive.form import CONTENTS, stays, zstandard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from rechain.workspace.run import Run

__all__ = ["export_runs"]


def export_runs(runs: Sequence[Run], path: str) -> list[str]:
    """Write runs to an archive.

    Args:
        runs: they, and the runs that they made, have ended.
        path: the file: `.tar`, `.tar.gz`, `.tar.xz`, or `.tar.zst` where Python has Zstandard
            (3.14). It is there whole or not at all.

    Returns:
        What was left out: links that lead out of their run, sockets and pipes.

    Raises:
        UserErrorException: one has not ended, or the archive cannot be written.
    """
    chosen: dict[str, Run] = {}
    for run in runs:
        for one in (run, *run.get_children(recursive=True)):
            if one.get_status() not in TERMINAL:
                raise UserErrorException(
                    f"the run {one.id} has not ended: wait for it, or cancel it first"
                )
            chosen[one.id] = one
    left_out: list[str] = []
    files: dict[str, str] = {}
    for one in chosen.values():
        files.update(_files_of(one, left_out))
    contents = {
        "schema": 1,
        "runs": sorted(chosen),
        "members": len(files),
        "bytes": sum(
            os.lstat(place).st_size
            for place in files.values()
            if stat.S_ISREG(os.lstat(place).st_mode)
        ),
    }
    beside = f"{path}.{os.urandom(4).hex()}~"
    try:
        with _packed(beside, path) as target, tarfile.open(
            fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8",
            errors="surrogateescape",
        ) as archive:  # fmt: skip
            _add_bytes(archive, CONTENTS, jsonl.dumps(contents).encode() + b"\n")
            for name in sorted(files):
                _add(archive, name, files[name])
        os.replace(beside, path)
    except OSError as error:
        raise UserErrorException(f"{path} cannot be written: {error.strerror}", error) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
    return left_out


def _files_of(run: Run, left_out: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what belongs to a run: the name in the archive, and the path."""
    base = f"experiments/{run.experiment.name}/{run.id}"
    root = run.folder
    for folder, folders, names in os.walk(root):
        inside = os.path.relpath(folder, root)
        prefix = base if inside == "." else f"{base}/{inside}"
        yield prefix, folder
        linked = [name for name in folders if os.path.islink(f"{folder}/{name}")]
        for name in [*names, *linked]:
            place = f"{folder}/{name}"
            mode = os.lstat(place).st_mode
            if stat.S_ISREG(mode) or (
                stat.S_ISLNK(mode) and stays(f"{prefix}/{name}", os.readlink(place), base)
            ):
                yield f"{prefix}/{name}", place
            else:
                left_out.append(f"{run.id}/{os.path.relpath(place, root)}")
    paths = run.experiment.workspace._paths
    job = run._job
    for digest in (
        (job.get("source") or {}).get("snapshot"),
        (job.get("resumed") or {}).get("files"),
        ((job.get("environment") or {}).get("image") or {}).get("context", {}).get("snapshot"),
    ):
        if digest:
            yield f"store/snapshots/{digest}.json", f"{paths.store}/snapshots/{digest}.json"
            for _, kind, content, _ in snapshot.manifest(paths.store, digest):
                if kind in ("file", "program"):
                    held = f"store/objects/{content[:2]}/{content[2:]}"
                    yield held, f"{paths.root}/{held}"


@contextlib.contextmanager
def _packed(beside: str, path: str) -> Iterator[Any]:
    """Open a file to write to, which is compressed as its name says."""
    kind = _kind_by_name(path)
    with open(beside, "xb") as raw:
        if kind == "gz":
            import gzip

            # Without a name and a time: the same runs make the same file.
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                yield packed
        elif kind == "xz":
            import lzma

            with lzma.LZMAFile(raw, "wb") as packed:
                yield packed
        elif kind == "zst":
            with zstandard().ZstdFile(raw, "wb") as packed:
                yield packed
        else:
            yield raw


def _kind_by_name(path: str) -> str:
    for kind, endings in {
        "tar": (".tar",), "gz": (".tar.gz", ".tgz"), "xz": (".tar.xz",), "zst": (".tar.zst",),
    }.items():  # fmt: skip
        if path.endswith(endings):
            if kind == "zst":
                zstandard()
            return kind
    raise UserErrorException(
        f"{path} has no ending that says its form: .tar, .tar.gz, .tar.xz or .tar.zst"
    )


def _add(archive: tarfile.TarFile, name: str, place: str) -> None:
    facts = os.lstat(place)
    row = tarfile.TarInfo(name)
    row.mtime = int(facts.st_mtime)  # what the job made is told by it from what it was given
    row.mode = facts.st_mode & 0o777
    if stat.S_ISDIR(facts.st_mode):
        row.type = tarfile.DIRTYPE
        archive.addfile(row)
    elif stat.S_ISLNK(facts.st_mode):
        row.type, row.linkname = tarfile.SYMTYPE, os.readlink(place)
        archive.addfile(row)
    else:
        row.size = facts.st_size
        with open(place, "rb") as file:
            archive.addfile(row, file)


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    row = tarfile.TarInfo(name)
    row.size, row.mode = len(data), 0o644
    archive.addfile(row, io.BytesIO(data))
