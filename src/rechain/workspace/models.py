"""The files of models: where they are and what is said of them. The guest makes them."""

from __future__ import annotations

import os

from rechain.exceptions import WebserviceException
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.workspace.workspace import Workspace

    Labels = dict[str, str]
    Wanted = list[Any] | dict[str, str] | None

__all__ = ["as_text", "fits", "names", "path_of", "read", "versions"]


def path_of(workspace: Workspace, name: str, version: int) -> str:
    """Return the folder of a version."""
    return f"{workspace._paths.models}/{name}/{version}"


def names(workspace: Workspace) -> list[str]:
    """Return the names of the models there are."""
    try:
        return sorted(os.listdir(workspace._paths.models))
    except FileNotFoundError:
        return []


def versions(workspace: Workspace, name: str) -> list[int]:
    """Return the versions of a model, oldest first."""
    from rechain.guest.rechain_guest import models

    found: list[int] = models.versions(workspace._paths.models, name)
    return found


def read(workspace: Workspace, name: str, version: int) -> dict[str, Any] | None:
    """Return the description of a version, or None if it is not there any more.

    Raises:
        WebserviceException: it cannot be read.
    """
    try:
        document: dict[str, Any] = jsonl.read(f"{path_of(workspace, name, version)}/model.json")
    except FileNotFoundError:
        return None  # deleted since
    except (OSError, ValueError) as error:
        raise WebserviceException(
            f"the model {name}:{version} cannot be read: {error}", error
        ) from error
    return document


def fits(
    document: dict[str, Any],
    tags: Wanted,
    properties: Wanted,
    version: int | None,
    run_id: str | None,
    framework: str | None,
) -> bool:
    """Return whether a version is of what is looked for."""
    return (
        version in (None, document["version"])
        and run_id in (None, document["run_id"])
        and framework in (None, document["framework"])
        and _has(document["tags"], tags)
        and _has(document["properties"], properties)
    )


def _has(labels: Labels, wanted: Wanted) -> bool:
    pairs = wanted.items() if isinstance(wanted, dict) else wanted or ()
    for one in pairs:
        name, *value = (one,) if isinstance(one, str) else one
        if name not in labels or (value and labels[name] != value[0]):
            return False
    return True


def as_text(labels: Labels) -> Labels:
    """Return labels as they are kept."""
    return {str(name): str(value) for name, value in labels.items()}
