"""Containers: which image an environment is, and how a run uses one."""

from __future__ import annotations

import enum
import os
import re

from rechain.exceptions import UserErrorException
from rechain.runconfig.container_registry import ContainerRegistry
from rechain.runconfig.section import Field, Section, log
from rechain.runconfig.yaml import text_or_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = [
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "DockerBuildContext",
    "DockerConfiguration",
    "DockerImagePlatform",
    "DockerSection",
]

# v1's images (azureml-core 1.61).
DEFAULT_CPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:20251130.v1"
DEFAULT_GPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.8-cudnn8-ubuntu22.04"

_OLD = "use DockerConfiguration"
_KEPT = "snapshot:"  # what follows is the digest of a folder that a workspace keeps


class DockerConfiguration(Section):
    """How a run uses a container.

    Args:
        use_docker: whether the run is in a container at all.
        shared_volumes: whether folders of the host are shared with it.
        arguments: further options for the container engine's `run`.
        shm_size: size of `/dev/shm` in it, such as `2g`.
    """

    use_docker = Field(bool, False)
    shared_volumes = Field(bool, True)
    arguments = Field(list, list)
    shm_size = Field(str, "2g")

    def __init__(
        self,
        use_docker: bool = False,
        shared_volumes: bool = True,
        arguments: Sequence[str] = [],  # v1's default; it is copied
        shm_size: str | None = "2g",
    ) -> None:
        super().__init__(
            use_docker=use_docker,
            shared_volumes=shared_volumes,
            arguments=list(arguments) if isinstance(arguments, (list, tuple)) else arguments,
            shm_size=shm_size,
        )


class DockerBuildContext(Section):
    """A folder that an image is built from.

    Args:
        location_type: an element of `DockerBuildContext.LocationType`, or its value.
        location: where it is; what `from_local_directory` returns has one that is kept.
        dockerfile_path: the Dockerfile, relative to it.
    """

    class LocationType(enum.Enum):
        """Where build contexts can lie."""

        Git = "git"
        StorageAccount = "storageAccount"

    location_type = Field((str, LocationType))
    location = Field(str)
    dockerfile_path = Field(str, "Dockerfile")

    def __init__(
        self,
        location_type: LocationType | str | None = None,
        location: str | None = None,
        dockerfile_path: str = "Dockerfile",
    ) -> None:
        super().__init__(
            location_type=_location_type(location_type),
            location=location,
            dockerfile_path=dockerfile_path,
        )

    @staticmethod
    def from_local_directory(
        workspace: Any, path: str | os.PathLike[str], dockerfile_path: str = "Dockerfile"
    ) -> DockerBuildContext:
        """Return a build context of a folder's files as they are now.

        Args:
            workspace: it keeps them by their content, as it keeps runs' source folders.
            path: the folder. Ignore files do not count, but for the `.dockerignore` that the
                engine obeys.
            dockerfile_path: the Dockerfile, relative to it.

        Raises:
            UserErrorException: there is no such folder or Dockerfile, or it cannot be kept.
        """
        dockerfile = os.path.join(os.fspath(path), dockerfile_path)
        if not os.path.isfile(dockerfile):
            raise UserErrorException(f"dockerfile_path names {dockerfile}, which is not a file.")
        inside = os.path.normpath(dockerfile_path)
        if os.path.isabs(inside) or inside.split(os.sep)[0] == os.pardir:
            raise UserErrorException(
                f"dockerfile_path is {dockerfile_path!r}, which is not in the folder {path}."
            )
        kept = f"{_KEPT}{workspace._keep_folder(os.fspath(path))}"
        kind = DockerBuildContext.LocationType.StorageAccount
        return DockerBuildContext(kind, kept, inside)

    def _source(self, whose: str) -> dict[str, str]:
        """Return what a job records of it: the snapshot's digest, and the Dockerfile in it."""
        kept = str(self.location or "")
        if not re.fullmatch(f"{_KEPT}[0-9a-f]{{64}}", kept):
            where = (
                "a git repository"
                if _location_type(self.location_type) is (DockerBuildContext.LocationType.Git)
                else "no folder that the workspace keeps"
            )
            raise UserErrorException(
                f"the build context of {whose} is {self.location!r}, {where}: give it as "
                "DockerBuildContext.from_local_directory(workspace, FOLDER)"
            )
        return {"snapshot": kept.removeprefix(_KEPT), "dockerfile": self.dockerfile_path}

    @classmethod
    def from_document(cls, document: Any, where: str = "") -> DockerBuildContext:
        """Return the build context of a document.

        Raises:
            UserErrorException: it is no mapping, or a value is not what it must be.
        """
        kind = document.get("locationType") if hasattr(document, "keys") else None
        rest = super().from_document(
            {**document, "locationType": None} if kind is not None else document, where
        )
        rest.location_type = _location_type(kind)
        return rest

    def to_document(self) -> dict[str, Any]:
        """Return its document."""
        kind = _location_type(self.location_type)
        return {**super().to_document(), "locationType": None if kind is None else kind.value}


class DockerImagePlatform(Section):
    """What an image runs on.

    Attributes:
        os: the operating system.
        architecture: the processor's architecture, in Docker's words.
    """

    os = Field(str, "Linux")
    architecture = Field(str, "amd64")


class _Dockerfile(Field):
    """The text of a Dockerfile; assigned as that, or as its path."""

    def __set__(self, section: Section, value: Any) -> None:
        super().__set__(section, text_or_file(value))


class DockerSection(Section):
    """The image of an environment: one of `base_image`, `base_dockerfile`, `build_context`.

    Setting one of these resets the others.

    Attributes:
        enabled: deprecated in v1; `DockerConfiguration(use_docker=True)` says the same.
        base_image: the image's name.
        base_dockerfile: the text of a Dockerfile; may be set to the file's path.
        build_context: a `DockerBuildContext`.
        shared_volumes: deprecated in v1, see `DockerConfiguration`.
        shm_size: deprecated in v1, see `DockerConfiguration`.
        arguments: deprecated in v1, see `DockerConfiguration`.
        base_image_registry: the `ContainerRegistry` that the image comes from.
        platform: a `DockerImagePlatform`.
    """

    enabled = Field(bool, False, old=f"{_OLD}(use_docker=...)")
    base_image = Field(str, DEFAULT_CPU_IMAGE, absent=None)
    base_dockerfile = _Dockerfile(str)
    build_context = Field(DockerBuildContext)
    shared_volumes = Field(bool, True, old=f"{_OLD}(shared_volumes=...)")
    shm_size = Field(str, "2g", absent=None, old=f"{_OLD}(shm_size=...)")
    arguments = Field(list, list, old=f"{_OLD}(arguments=...)")
    base_image_registry = Field(ContainerRegistry, ContainerRegistry)
    platform = Field(DockerImagePlatform, DockerImagePlatform)

    @property
    def gpu_support(self) -> bool:
        """True: whether there is a GPU is found out where the run is."""
        return True

    @gpu_support.setter
    def gpu_support(self, value: bool) -> None:
        log("gpu_support has no effect: a GPU is used where there is one")

    def _assigned(self, name: str, value: Any) -> None:
        sources = ("base_image", "base_dockerfile", "build_context")
        if name not in sources:
            return
        if not value:  # an empty text names no image
            self.__dict__[name] = None
            return
        for other in sources:
            if other != name and self.__dict__[other] is not None:
                log(f"an environment has one image: {name} replaces {other}")
                self.__dict__[other] = None


def _location_type(value: Any) -> DockerBuildContext.LocationType | None:
    if value is None:
        return None
    try:
        return DockerBuildContext.LocationType(value)
    except ValueError:
        names = ", ".join(repr(kind.value) for kind in DockerBuildContext.LocationType)
        raise UserErrorException(
            f"location_type is {value!r}; it must be one of {names}."
        ) from None
