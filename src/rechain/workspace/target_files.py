"""The descriptions of a workspace's compute targets: one JSON file each."""

from __future__ import annotations

import os
import re

from rechain.exceptions import ComputeTargetException, UserErrorException
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.workspace.workspace import Workspace

__all__ = ["absent", "check_name", "default_cluster", "names", "read", "record"]

_RESERVED = ("amlcompute", "local", "containerinstance")  # v1 keeps them for itself
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def check_name(name: object) -> None:
    """Refuse what cannot be the name of a target.

    Raises:
        UserErrorException: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserErrorException(
            f"name is {name!r}; a compute target's name is at most 64 letters, digits, '-' and "
            "'_', and begins with a letter."
        )
    if name.lower() in _RESERVED:
        raise UserErrorException(
            f"name is {name!r}, which means something else already; take another name."
        )


def record(workspace: Workspace, name: str, document: dict[str, Any]) -> bool:
    """Keep the description of a new target; False if there is one of that name."""
    path = workspace._paths.compute_target(name)
    workspace._make()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return jsonl.write_new(path, document)
    except OSError as error:
        raise ComputeTargetException(
            f"the compute target {name!r} cannot be recorded in {workspace.path}: "
            f"{error.strerror or error}"
        ) from error


def names(workspace: Workspace) -> list[str]:
    """Return the names of a workspace's targets."""
    try:
        found = os.listdir(workspace._paths.compute)
    except FileNotFoundError:
        return []
    return sorted(name[:-5] for name in found if name.endswith(".json"))


def read(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return the description of a target.

    Raises:
        ComputeTargetException: there is no such target, or it cannot be read.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise absent(workspace, name)
    path = workspace._paths.compute_target(name)
    try:
        settings: dict[str, Any] = jsonl.read(path)
    except FileNotFoundError:
        raise absent(workspace, name) from None
    except (OSError, ValueError) as error:
        raise ComputeTargetException(
            f"the compute target {name!r} cannot be read: {error}. Restore that file, or remove "
            "it and make the target again."
        ) from error
    return settings


def default_cluster(workspace: Workspace) -> str | None:
    """Return the Slurm target that an `AmlCompute` is made on: the newest of those so marked."""
    found = {name: read(workspace, name) for name in names(workspace)}
    marked = [name for name, settings in found.items() if settings.get("default")]
    return max(marked, key=lambda name: float(found[name]["created"]), default=None)


def absent(workspace: Workspace, name: object) -> ComputeTargetException:
    """Return what to raise where there is no such target."""
    if name == "local":
        return ComputeTargetException(
            "ComputeTargetNotFound: 'local' is this machine; it has no settings and is always "
            "there, so it is named and neither shown, changed nor removed."
        )
    there = ", ".join(["local", *names(workspace)])
    return ComputeTargetException(
        f"ComputeTargetNotFound: there is no compute target {name!r} in the workspace "
        f"{workspace.path}; there is: {there}. ComputeTarget.create makes a pool, "
        "`rechain target add` knows of a cluster from then on."
    )
