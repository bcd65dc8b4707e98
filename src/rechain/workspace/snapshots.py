"""Snapshots of a workspace: taken for a run that has none, and written out again."""

from __future__ import annotations

import os
import shutil
import tempfile

from rechain.exceptions import SnapshotException
from rechain.job import snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.workspace.workspace import Workspace

__all__ = ["keep", "restore", "take"]


def take(workspace: Workspace, path: str) -> str:
    """Store a folder, or a file alone, and return the snapshot's digest.

    Raises:
        SnapshotException: it is not there or cannot be stored.
    """
    if os.path.isdir(path):
        return snapshot.take(os.path.abspath(path), workspace._paths.store).digest
    with tempfile.TemporaryDirectory() as folder:
        try:
            shutil.copy(path, folder)
        except OSError as error:
            raise SnapshotException(f"{path} cannot be stored: {error.strerror}", error) from error
        return snapshot.take(folder, workspace._paths.store).digest


def keep(workspace: Workspace, folder: str) -> str:
    """Store all of a folder, whatever an ignore file says, and return the snapshot's digest.

    Raises:
        SnapshotException: it is not there or cannot be stored.
    """
    whole = snapshot.Limits(None, None)
    path = os.path.abspath(folder)
    return snapshot.take(path, workspace._paths.store, limits=whole, whole=True).digest


def restore(workspace: Workspace, digest: str, folder: str, name: str) -> str:
    """Write a snapshot to `<folder>/<name>.zip`, and return that path.

    Raises:
        SnapshotException: there is no such snapshot, or it cannot be written.
    """
    with tempfile.TemporaryDirectory() as beside:
        content = f"{beside}/content"
        snapshot.checkout(workspace._paths.store, digest, content)
        try:
            os.makedirs(folder, exist_ok=True)
            return shutil.make_archive(os.path.join(folder, name), "zip", content)
        except (OSError, ValueError) as error:
            raise SnapshotException(f"{folder} cannot be written: {error}", error) from error
