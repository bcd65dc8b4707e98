"""What v1's environments do with container images: none of it is built yet."""

from __future__ import annotations

from rechain.exceptions import NotBuiltError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Images"]

_ON_USE = "the first run that needs an environment builds it, and it is kept"


class Images:
    """The members of `Environment` that are about images.

    Raises:
        NotBuiltError: every one of them, always.
    """

    def build(self, workspace: Any, image_build_compute: str | None = None) -> NoReturn:
        """Refuse to build an image."""
        raise _later("build", _ON_USE)

    def build_local(self, workspace: Any, platform: Any = None, **kwargs: Any) -> NoReturn:
        """Refuse to build an image on this machine."""
        raise _later("build_local", _ON_USE)

    def get_image_details(self, workspace: Any) -> NoReturn:
        """Refuse to describe an image."""
        raise _later("get_image_details", "there is no image; `rechain show` describes what ran")

    @staticmethod
    def label(workspace: Any, name: str, version: str, labels: list[str]) -> NoReturn:
        """Refuse to label a version."""
        raise _later("label", "every environment has the label 'latest'; use its versions")

    @staticmethod
    def add_private_pip_wheel(workspace: Any, file_path: Any, exist_ok: bool = False) -> NoReturn:
        """Refuse to keep a wheel."""
        raise _later(
            "add_private_pip_wheel",
            "put the wheel into a folder that UV_FIND_LINKS names, and require it by version",
        )


def _later(name: str, meanwhile: str) -> NotBuiltError:
    return NotBuiltError(f"Environment.{name} is not built yet: {meanwhile}.")
