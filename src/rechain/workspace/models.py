"""The files of models: `models/<name>/<version>/` holds `model.json` and `files/`.

A version is made beside its place and renamed into it, so that it is there as a whole or not at
all, and never changes but for its tags, properties and description.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time

from rechain.exceptions import WebserviceException
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.workspace.workspace import Workspace

    Labels = dict[str, str]
    Wanted = list[Any] | dict[str, str] | None

__all__ = ["as_text", "fits", "keep", "names", "path_of", "read", "versions"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}")


def keep(
    workspace: Workspace,
    name: str,
    files: dict[str, str],
    *,
    tags: Labels | None = None,
    properties: Labels | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Keep files as the next version of a model, and return its description.

    Args:
        workspace: where to.
        name: the model's name.
        files: their paths on this machine by their paths in the model.
        tags: labels.
        properties: labels that stay as they are.
        **fields: more of the description.

    Raises:
        WebserviceException: the name cannot be one, or the files cannot be copied.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise WebserviceException(
            f"model_name is {name!r}; it is made of letters, digits, '-', '.' and '_', begins "
            "with a letter or digit, and has 255 characters at most."
        )
    workspace._make()
    root = f"{workspace._paths.models}/{name}"
    staged = f"{root}/.{os.urandom(4).hex()}"
    document = {
        "schema": 1, "name": name, "created": time.time(), "tags": as_text(tags or {}),
        "properties": as_text(properties or {}),
        **dict.fromkeys(("description", "framework", "framework_version", "run_id", "experiment")),
        **fields,
    }  # fmt: skip
    try:
        for inside, path in files.items():
            target = f"{staged}/files/{inside}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(path, target)
        while True:
            document["version"] = max(versions(workspace, name), default=0) + 1
            jsonl.write_atomic(f"{staged}/model.json", document)
            try:
                os.rename(staged, path_of(workspace, name, document["version"]))
                break
            except FileExistsError:
                continue  # somebody else has taken this number meanwhile
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise WebserviceException(f"the model {name!r} cannot be kept: {error}", error) from error
    return document


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
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return []
    try:
        found = os.listdir(f"{workspace._paths.models}/{name}")
    except FileNotFoundError:
        return []
    return sorted(int(version) for version in found if version.isdigit())


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
