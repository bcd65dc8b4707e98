"""Files of a run by name: what the job uploaded, and what it left in its current folder."""

import os

from .chainer_log import SNAPSHOT_TIME
from .exceptions import AzureMLException, UserErrorException

__all__ = ["artifact_name", "copy_out", "find", "keep", "names", "put"]

_CLONE = 0x40049409  # ioctl FICLONE: a copy that shares blocks until one side changes
_NOT_MADE = ("__pycache__", ".packages")  # what the script did not make itself


def artifact_name(name):
    """Return an artifact's name in its normal form.

    Raises:
        UserErrorException: it leads out of the run.
    """
    text = str(name).replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in text:
        raise UserErrorException("{!r} is not a name for an artifact".format(name))
    return "/".join(parts)


def put(run_dir, name, source):
    """Store a file under a name; whole or not at all.

    Args:
        run_dir: the run folder.
        name: the artifact's name.
        source: a path, bytes, or an object with `read()`.

    Raises:
        AzureMLException: the run has an upload of this name.
        UserErrorException: there is no such file.
    """
    path = os.path.join(run_dir, "uploads", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = os.path.join(run_dir, ".upload-{}".format(os.urandom(4).hex()))
    try:
        with open(temporary, "xb") as target:
            _fill(target, source)
        os.link(temporary, path)  # not rename: link refuses to replace
    except FileExistsError:
        raise AzureMLException(
            "this run already has an artifact {} (Resource Conflict: ArtifactId "
            "ExperimentRun/dcid.{}/{} already exists.)".format(
                name, os.path.basename(run_dir), name
            )
        ) from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def keep(run_dir, name, folder):
    """Store all files of a folder; of a name that the run has already, what it has stays.

    Args:
        run_dir: the run folder.
        name: what their names begin with.
        folder: the folder; it need not be there.
    """
    for inside in sorted(_below(folder)):
        full = artifact_name("{}/{}".format(name, inside))
        if not os.path.exists(os.path.join(run_dir, "uploads", full)):
            put(run_dir, full, os.path.join(folder, inside))


def names(run_dir):
    """Return the names of what a run has uploaded, and of all it made in its current folder."""
    found = set(_below(os.path.join(run_dir, "uploads")))
    work = os.path.join(run_dir, "work")
    for name in _below(work):
        try:
            if int(os.lstat(os.path.join(work, name)).st_mtime) != SNAPSHOT_TIME:
                found.add(name)
        except OSError:  # removed in the meantime
            continue
    return sorted(found)


def find(run_dir, name):
    """Return the path of an artifact.

    Raises:
        UserErrorException: the run has none of this name.
    """
    name = artifact_name(name)
    for folder in ("uploads", "work"):
        path = os.path.join(run_dir, folder, name)
        if os.path.isfile(path):
            return path
    raise UserErrorException(
        "Cannot find the artifact '{}' in run {}".format(name, os.path.basename(run_dir))
    )


def copy_out(source, name, output):
    """Copy an artifact to where v1's `download_file` puts it.

    Args:
        source: the artifact's file, or its bytes.
        name: the artifact's name.
        output: a file or an existing folder; None for the current folder.
    """
    target = output or os.path.basename(name)
    if os.path.isdir(target):
        target = os.path.join(target, os.path.basename(name))
    folder = os.path.dirname(os.path.abspath(target))
    os.makedirs(folder, exist_ok=True)
    if isinstance(source, bytes) or not (
        os.path.exists(target) and os.path.samefile(source, target)
    ):
        with open(target, "wb") as file:
            _fill(file, source)


def _below(root):
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _NOT_MADE]
        prefix = os.path.relpath(folder, root).replace(os.sep, "/")
        for name in files:
            yield name if prefix == "." else "{}/{}".format(prefix, name)


def _fill(target, source):
    if isinstance(source, bytes):
        target.write(source)
    elif hasattr(source, "read"):
        for chunk in iter(lambda: source.read(1 << 20), source.read(0)):
            target.write(chunk.encode("utf-8") if isinstance(chunk, str) else chunk)
    else:
        path = os.fspath(source)
        if not os.path.isfile(path):
            raise UserErrorException("there is no file {}".format(os.path.abspath(path)))
        with open(path, "rb") as file:
            if not _clone(target, file):
                import shutil

                shutil.copyfileobj(file, target, 1 << 20)


def _clone(target, source):
    import fcntl

    try:
        fcntl.ioctl(target.fileno(), _CLONE, source.fileno())
    except OSError:
        return False
    return True
