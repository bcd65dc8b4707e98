"""What a workspace keeps by name and version: `<kind>/<name>/<version>.json`."""

from __future__ import annotations

import os
import re

from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.paths import WorkspacePaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Registry", "check_name"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


class Registry:
    """The documents of one kind in a workspace. Versions are only added.

    Args:
        workspace: the workspace.
        kind: `environment` or `dataset`; the folder has its plural.
    """

    def __init__(self, workspace: Any, kind: str) -> None:
        self._workspace = workspace
        self.kind = kind
        self.root = getattr(WorkspacePaths(workspace.path), f"{kind}s")

    def names(self) -> list[str]:
        """Return the names there are."""
        return sorted(_listed(self.root))

    def versions(self, name: str) -> list[str]:
        """Return the versions there are, the newest last: 2 before 10, v2 before v10."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return []
        files = _listed(f"{self.root}/{name}")
        # Others are being written.
        found = [file.removesuffix(".json") for file in files if file.endswith(".json")]
        return sorted(
            found,
            key=lambda text: [int(p) if p.isdigit() else p for p in re.split("([0-9]+)", text)],
        )

    def read(self, name: str, version: str | None = None) -> dict[str, Any] | None:
        """Return a document, or None if there is none.

        Args:
            name: its name.
            version: its version; the newest if left out.

        Raises:
            UserErrorException: it cannot be read.
        """
        kept = self.versions(name)
        wanted = str(version) if version is not None else kept[-1] if kept else None
        if wanted not in kept:
            return None
        try:
            document = jsonl.read(f"{self.root}/{name}/{wanted}.json")
        except (OSError, ValueError) as error:
            raise UserErrorException(
                f"the {self.kind} {name!r} cannot be read: {error}", error
            ) from error
        return document[self.kind]  # type: ignore[no-any-return]

    def write(self, document: dict[str, Any]) -> dict[str, Any]:
        """Keep a document.

        Args:
            document: it has a `name`, and a `version`, which is None for the next number.

        Returns:
            The document with its version.

        Raises:
            UserErrorException: its name or version cannot be one, or that version is there.
        """
        name, version = document["name"], document["version"]
        check_name(self.kind, "name", name)
        if version is not None:
            check_name(self.kind, "version", version)
        self._workspace._make()
        os.makedirs(f"{self.root}/{name}", exist_ok=True)
        while True:
            numbers = [int(text) for text in self.versions(name) if text.isdigit()]
            whole = {**document, "version": version or str(max(numbers, default=0) + 1)}
            path = f"{self.root}/{name}/{whole['version']}.json"
            if jsonl.write_new(path, {"schema": 1, self.kind: whole}):
                return whole
            if version is not None:
                raise UserErrorException(
                    f"the {self.kind} {name!r} has a version {version!r} already, which is "
                    "something else; set its version to None for the next number."
                )
            # Somebody else has taken this number meanwhile.

    def lacks(self, name: str, version: str | None, more: str = "") -> UserErrorException:
        """Return the error that there is no such document, which says what there is."""
        kept = self.versions(name)
        if kept:
            return UserErrorException(
                f"the {self.kind} {name!r} has no version {version!r}; it has {', '.join(kept)}."
            )
        there = ", ".join(self.names()) or "none"
        return UserErrorException(
            f"the workspace has no {self.kind} {name!r}. Registered: {there}.{more}"
        )


def check_name(kind: str, what: str, text: object) -> None:
    """See whether something can be the name, or the version, of what is registered.

    Raises:
        UserErrorException: it cannot.
    """
    if not (isinstance(text, str) and _NAME.fullmatch(text)):
        raise UserErrorException(
            f"the {kind}'s {what} is {text!r}; what is registered has a {what} of up to 255 "
            "letters, digits, '.', '_' and '-', of which the first is a letter or digit."
        )


def _listed(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
