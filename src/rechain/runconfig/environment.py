"""v1's `Environment`: what a run finds installed, by name and version."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException
from rechain.runconfig import conda, curated
from rechain.runconfig.conda_dependencies import CondaDependencies
from rechain.runconfig.databricks import DatabricksSection
from rechain.runconfig.docker import DockerBuildContext, DockerSection
from rechain.runconfig.images import Images
from rechain.runconfig.python_section import PythonSection
from rechain.runconfig.r_section import RSection
from rechain.runconfig.registered import Registry
from rechain.runconfig.section import Field, Section, log
from rechain.runconfig.spark import SparkSection
from rechain.runconfig.yaml import read_text, text_or_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.runconfig.container_registry import ContainerRegistry

    Path = str | os.PathLike[str]

__all__ = ["Environment", "EnvironmentReference"]

# The files of `save_to_directory`.
_JSON, _CONDA, _DOCKERFILE = "azureml_environment.json", "conda_dependencies.yml", "BaseDockerfile"
_RESERVED = ("azureml", "microsoft")
_PYTHON = "3.10.18"  # what v1 takes where none is asked for


class EnvironmentReference(Section):
    """An environment that is registered, by name.

    Args:
        name: its name.
        version: its version; the newest if left out.
    """

    name = Field(str)
    version = Field(str)

    def __init__(self, name: str, version: str | None = None) -> None:
        super().__init__(name=name, version=version)

    def get_environment(self, workspace: Any) -> Environment:
        """Return the environment.

        Raises:
            UserErrorException: the workspace has none of this name and version.
        """
        return Environment.get(workspace, self.name, self.version)

    @classmethod
    def _means(cls, document: Any) -> bool:
        return hasattr(document, "keys") and set(document) <= {"name", "version"}


class Environment(Images, Section):
    """What a run finds installed.

    Args:
        name: its name.
        _: v1's further keywords are accepted and have no effect.

    Attributes:
        name: its name.
        version: its version, once it is registered.
        environment_variables: variables of the run.
        python: a `PythonSection`.
        docker: a `DockerSection`.
        spark: a `SparkSection`.
        databricks: a `DatabricksSection`.
        r: an `RSection`, or None.
        inferencing_stack_version: read and written, without an effect.
        asset_id: read and written, without an effect.
        as_of: not v1's: the day whose packages it has, such as `2018-12-31`; None for
            those of the recipe's date, or of today.
        lock: not v1's: the file that `rechain env lock` wrote, or the folder of `rechain env
            export`; it says all that is installed, in place of `python`.

    Raises:
        TypeError: the name is no str.
    """

    name = Field(str)
    version = Field(str)
    environment_variables = Field(dict, dict, old="use RunConfiguration.environment_variables")
    python = Field(PythonSection, PythonSection)
    docker = Field(DockerSection, DockerSection)
    spark = Field(SparkSection, SparkSection)
    databricks = Field(DatabricksSection, DatabricksSection)
    r = Field(RSection)
    inferencing_stack_version = Field(str)
    asset_id = Field(str)
    as_of = Field(str, omit_none=True)
    lock = Field(str, omit_none=True)

    def __init__(self, name: str | None, **_: Any) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name is {name!r}, a {type(name).__name__}; it must be a str")
        super().__init__(name=name)

    @staticmethod
    def get(
        workspace: Any, name: str, version: str | None = None, label: str | None = None
    ) -> Environment:
        """Return a registered environment, or a curated one.

        Curated are `AzureML-Chainer-<version>-CPU` and `-GPU`, for every version of Chainer that
        Rechain knows.

        Args:
            workspace: the workspace.
            name: the environment's name.
            version: its version; the newest if left out.
            label: `latest`, in place of a version.

        Raises:
            UserErrorException: there is none.
        """
        if version is not None and label is not None:
            raise UserErrorException(
                f"version={version!r} and label={label!r} both name a version; give one of them."
            )
        if label not in (None, "latest"):
            raise UserErrorException(f"label is {label!r}; Rechain has the label 'latest' only.")
        kept = Registry(workspace, "environment")
        document = kept.read(name, version)
        if document is not None:
            return Environment.from_document(document, f"the environment {name!r}")
        if version in (None, "1") and name in curated.names():
            return _curated(name)
        raise kept.lacks(name, version, " Curated are AzureML-Chainer-<version>-CPU and -GPU.")

    @staticmethod
    def list(workspace: Any) -> dict[str, Environment]:
        """Return the newest version of each registered environment, and the curated ones."""
        names = [*Registry(workspace, "environment").names(), *curated.names()]
        return {name: Environment.get(workspace, name) for name in names}

    def register(self, workspace: Any) -> Environment:
        """Keep this environment in a workspace.

        What is the same as the newest version of this name stays that version. Otherwise it
        becomes `version`, or the next number where none is set.

        Returns:
            A copy with its version set.

        Raises:
            UserErrorException: it has no name that can be kept, or its version is there and is
                something else.
        """
        if isinstance(self.name, str) and self.name.lower().startswith(_RESERVED):
            raise UserErrorException(
                f"the environment's name is {self.name!r}; names that start with AzureML or "
                "Microsoft are those of curated environments: clone it under another name."
            )
        document = self.to_document()
        registry = document["docker"]["baseImageRegistry"]
        if registry and registry["password"]:
            log(f"the password of {registry['address']} is not kept with {self.name!r}")
            registry["password"] = None
        kept = Registry(workspace, "environment")
        same = kept.read(self.name, self.version)
        if same is None or same != {**document, "version": same["version"]}:
            same = kept.write(document)
        return Environment.from_document(same, f"the environment {self.name!r}")

    def clone(self, new_name: str) -> Environment:
        """Return a copy under another name, without a version.

        Raises:
            UserErrorException: there is no new name.
        """
        if not new_name or not isinstance(new_name, str):
            raise UserErrorException(f"new_name is {new_name!r}; it must be a name.")
        import copy

        made = copy.deepcopy(self)
        made.name, made.version = new_name, None
        return made

    @staticmethod
    def from_conda_specification(name: str, file_path: Path) -> Environment:
        """Return an environment with what a conda specification asks for.

        Python is added, with a warning, where the specification has none.

        Args:
            name: the environment's name.
            file_path: the specification, a YAML file.

        Raises:
            FileNotFoundError: there is no such file.
            UserErrorException: it is not a conda environment specification.
        """
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        if made.python.conda_dependencies.get_python_version() is None:
            log(f"{file_path} asks for no Python; {_PYTHON} is added")
            made.python.conda_dependencies.set_python_version(_PYTHON)
        return made

    @staticmethod
    def from_pip_requirements(
        name: str, file_path: Path, pip_version: str | None = None
    ) -> Environment:
        """Return an environment with what a pip requirement file asks for.

        Args:
            name: the environment's name.
            file_path: the requirement file.
            pip_version: the version of pip that installs them.

        Raises:
            FileNotFoundError: there is no such file.
            UserErrorException: it cannot be read.
        """
        made = Environment(name)
        _require(made, file_path, pip_version)
        return made

    @staticmethod
    def from_existing_conda_environment(
        name: str, conda_environment_name: str
    ) -> Environment | None:
        """Return an environment with what a conda environment of this machine has installed.

        Args:
            name: the environment's name.
            conda_environment_name: the conda environment's name.

        Returns:
            None if there is no such conda environment.

        Raises:
            UserErrorException: there is no `conda` command, or it fails.
        """
        specification = conda.export(conda_environment_name)
        if specification is None:
            log(f"there is no conda environment {conda_environment_name!r}")
            return None
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies.from_document(
            specification, f"the conda environment {conda_environment_name!r}"
        )
        return made

    @staticmethod
    def from_docker_image(
        name: str,
        image: str,
        container_registry: ContainerRegistry | None = None,
        conda_specification: Path | None = None,
        pip_requirements: Path | None = None,
    ) -> Environment:
        """Return an environment that is a container image.

        Args:
            name: the environment's name.
            image: the image.
            container_registry: where it comes from.
            conda_specification: file with what is installed into it; without one, and without
                `pip_requirements`, its Python is used as it is.
            pip_requirements: file with what is installed into it.

        Raises:
            UserErrorException: both files are given, or one is not what it must be.
            FileNotFoundError: a file is not there.
        """
        made = _with_python(name, conda_specification, pip_requirements)
        made.docker.base_image = image
        if container_registry is not None:
            made.docker.base_image_registry = container_registry
        return made

    @staticmethod
    def from_dockerfile(
        name: str,
        dockerfile: Path,
        conda_specification: Path | None = None,
        pip_requirements: Path | None = None,
    ) -> Environment:
        """Return an environment that is a container image built from a Dockerfile.

        Args:
            name: the environment's name.
            dockerfile: the Dockerfile, or its text.
            conda_specification: see `from_docker_image`.
            pip_requirements: see `from_docker_image`.

        Raises:
            UserErrorException: both files are given, or one is not what it must be.
            FileNotFoundError: a file is not there.
        """
        text = text_or_file(os.fspath(dockerfile))
        made = _with_python(name, conda_specification, pip_requirements)
        made.docker.__dict__.update(base_image=None, base_dockerfile=text)
        return made

    @staticmethod
    def from_docker_build_context(
        name: str, docker_build_context: DockerBuildContext
    ) -> Environment:
        """Return an environment that is a container image built from a folder."""
        made = Environment.from_document({"name": name}, f"the environment {name!r}")
        made.docker.build_context = docker_build_context
        return made

    def save_to_directory(self, path: Path, overwrite: bool = False) -> None:
        """Write the environment to files in a folder, to be edited and read again.

        Args:
            path: the folder; it is made.
            overwrite: whether it may be there already.

        Raises:
            FileExistsError: it is there.
            UserErrorException: it cannot be written.
        """
        import json

        path = os.fspath(path)
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(
                f"path is {path!r}, which is there already; overwrite=True writes into it"
            )
        document = self.to_document()
        texts = {}
        if document["python"].pop("condaDependencies", None) is not None:
            texts[_CONDA] = self.python.conda_dependencies.serialize_to_string()
        dockerfile = document["docker"]["baseDockerfile"]
        if dockerfile is not None:
            texts[_DOCKERFILE] = document["docker"].pop("baseDockerfile")
        texts[_JSON] = json.dumps(document, indent=4) + "\n"
        try:
            os.makedirs(path, exist_ok=True)
            for name, text in texts.items():
                with open(os.path.join(path, name), "w", encoding="utf-8") as file:
                    file.write(text)
            for name in (_CONDA, _DOCKERFILE):  # of what was saved here before
                if name not in texts and os.path.exists(os.path.join(path, name)):
                    os.remove(os.path.join(path, name))
        except OSError as error:
            raise UserErrorException(
                f"{path} cannot be written: {error.strerror}.", error
            ) from error

    @staticmethod
    def load_from_directory(path: Path) -> Environment:
        """Return the environment that `save_to_directory` wrote.

        Raises:
            FileNotFoundError: there is none in this folder.
            UserErrorException: its files are not what they must be.
        """
        import json

        path = os.fspath(path)
        file = os.path.join(path, _JSON)
        try:
            document = json.loads(read_text(file))
        except ValueError as error:
            raise UserErrorException(f"{file} is not JSON: {error}.", error) from error
        made = Environment.from_document(document, file)
        if os.path.isfile(os.path.join(path, _CONDA)):
            made.python.conda_dependencies = CondaDependencies(os.path.join(path, _CONDA))
        if os.path.isfile(os.path.join(path, _DOCKERFILE)):
            text = read_text(os.path.join(path, _DOCKERFILE))
            made.docker.__dict__.update(base_image=None, base_dockerfile=text)
        return made

    def __str__(self) -> str:
        return f"Environment(Name: {self.name},\nVersion: {self.version})"

    def __repr__(self) -> str:
        import json

        document = self.to_document()
        registry = document["docker"]["baseImageRegistry"]
        if registry and registry["password"]:
            registry["password"] = "..."
        return json.dumps(document, indent=4, sort_keys=True)

    @classmethod
    def _means(cls, document: Any) -> bool:
        return True


def _with_python(name: str, specification: Path | None, pip: Path | None) -> Environment:
    if specification and pip:
        raise UserErrorException(
            "conda_specification and pip_requirements both say what is installed; give one."
        )
    made = Environment(name)
    if specification:
        made = Environment.from_conda_specification(name, specification)
    if pip:
        _require(made, pip, None)
    made.python.user_managed_dependencies = not (specification or pip)
    return made


def _require(environment: Environment, path: Path, pip_version: str | None) -> None:
    lines = read_text(os.fspath(path)).splitlines()
    environment.python.conda_dependencies.set_pip_requirements(lines)
    environment.python.conda_dependencies.add_conda_package(
        f"pip={pip_version}" if pip_version else "pip"
    )


def _curated(name: str) -> Environment:
    image, python, packages = curated.content(name)
    made = Environment(name)
    made.version = "1"
    made.docker.base_image = image
    made.python.conda_dependencies = CondaDependencies.create(
        pip_packages=packages, python_version=python
    )
    return made
