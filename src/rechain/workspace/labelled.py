"""What is said of a run: its tags and properties."""

from __future__ import annotations

from rechain.exceptions import UserErrorException
from rechain.record import requests
from rechain.workspace.interactive import Interactive

__all__ = ["Labelled"]


class Labelled(Interactive):
    """The part of `Run` that labels it."""

    def tag(self, key: str, value: str | None = None) -> None:
        """Set a tag."""
        self.set_tags({key: value if value is not None else ""})

    def set_tags(self, tags: dict[str, str]) -> None:
        """Set several tags."""
        requests.set_labels(self._paths, "tag", {str(k): str(v) for k, v in tags.items()})

    def remove_tags(self, tags: list[str]) -> None:
        """Take tags away."""
        requests.set_labels(self._paths, "tag", {}, tuple(tags))

    def get_tags(self) -> dict[str, str]:
        """Return the tags."""
        return self.tags

    def add_properties(self, properties: dict[str, str]) -> None:
        """Add properties; those there are stay as they are.

        Raises:
            UserErrorException: one of them is there already.
        """
        there = self.properties
        for name in properties:
            if name in there:
                raise UserErrorException(f"the property {name!r} is set and cannot be changed")
        requests.set_labels(
            self._paths, "properties", {str(k): str(v) for k, v in properties.items()}
        )

    def get_properties(self) -> dict[str, str]:
        """Return the properties."""
        return self.properties

    @property
    def tags(self) -> dict[str, str]:
        """The run's tags."""
        from rechain.guest.rechain_guest import lines

        tags: dict[str, str] = lines.read_tags(self._paths.root)
        return tags

    @property
    def properties(self) -> dict[str, str]:
        """The run's properties."""
        from rechain.guest.rechain_guest import lines

        properties: dict[str, str] = lines.read_properties(self._paths.root)
        return properties
