"""What v1's environments do with container images: they are built here, or not at all yet."""

from __future__ import annotations

from rechain.exceptions import NotBuiltError, UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from rechain.runconfig.docker import DockerSection

__all__ = ["Images"]

_HERE = "build_local builds it on this machine, and so does the first run that needs it"


class Images:
    """The members of `Environment` that are about images.

    Raises:
        NotBuiltError: every one of them but `build_local`, always.
    """

    docker: DockerSection

    def build(self, workspace: Any, image_build_compute: str | None = None) -> NoReturn:
        """Refuse to build an image."""
        raise _later("build", _HERE)

    def build_local(self, workspace: Any, platform: str | None = None, **kwargs: Any) -> None:
        """Build the environment on this machine, ahead of the first run, and print what is said.

        It is kept as what a run builds is. It need not be registered.

        Args:
            workspace: the workspace.
            platform: `Linux`, which this machine is.
            kwargs: v1's `useDocker`: whether an image is built, as `docker.enabled` says if it is
                left out; `pushImageToWorkspaceAcr`: nothing is pushed, and that is said.

        Raises:
            UserErrorException: a parameter is not what it must be, or it cannot be built.
        """
        if platform is not None and str(platform).lower() != "linux":
            raise UserErrorException(f"platform is {platform!r}; what is built here is for Linux.")
        docker = kwargs.pop("useDocker", None)
        push = kwargs.pop("pushImageToWorkspaceAcr", False)
        if kwargs:
            raise UserErrorException(
                f"build_local has no parameter {', '.join(map(repr, kwargs))}; v1's are useDocker "
                "and pushImageToWorkspaceAcr."
            )
        if push:
            print("note: the workspace has no registry: an image stays on this machine")
        workspace._build(self, self.docker.enabled if docker is None else bool(docker))

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
