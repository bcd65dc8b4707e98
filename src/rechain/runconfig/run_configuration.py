"""v1's `RunConfiguration`: how a script runs, and its `.runconfig` file."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException
from rechain.runconfig import yaml
from rechain.runconfig.conda_dependencies import CondaDependencies
from rechain.runconfig.data import (
    Data,
    DatacacheConfiguration,
    DataReferenceConfiguration,
    OutputData,
)
from rechain.runconfig.distributed import (
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from rechain.runconfig.docker import DockerConfiguration
from rechain.runconfig.environment import Environment, EnvironmentReference
from rechain.runconfig.section import Field, Section, log
from rechain.runconfig.settings import (
    AmlComputeConfiguration,
    ApplicationEndpointConfiguration,
    HdiConfiguration,
    HistoryConfiguration,
    KubernetesComputeConfiguration,
)
from rechain.runconfig.spark import SparkConfiguration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Path = str | os.PathLike[str]

__all__ = ["RunConfiguration"]

_FOLDERS = ("aml_config", ".azureml")  # where both are, v1 takes the first
_SUFFIX = ".runconfig"


class _Target(Field):
    """The compute target's name; assigned as a name, or as an object that has one.

    None leaves it as it is, as in v1.
    """

    def __set__(self, section: Section, value: Any) -> None:
        if value is not None:
            super().__set__(section, getattr(value, "name", value))


class RunConfiguration(Section):
    """How a script runs: its arguments, where, in which environment, with which data.

    Args:
        script: the script, relative to the source folder.
        arguments: its arguments.
        framework: `Python`, `PySpark`, `TensorFlow` or `PyTorch`.
        communicator: `None`, `IntelMpi`, `OpenMpi`, `ParameterServer`, `Gloo` or `Nccl`.
        conda_dependencies: what the environment has installed.
        command: the command to run, in place of script and arguments.

    Attributes:
        target: the compute target's name; may be set to a compute target.
        max_run_duration_seconds: after this time (s) the run is stopped.
        node_count: how many nodes it runs on.
        priority: its priority in the queue.
        environment: an `Environment`, or an `EnvironmentReference`.
        history: a `HistoryConfiguration`.
        spark: a `SparkConfiguration`.
        docker: a `DockerConfiguration`.
        hdi: an `HdiConfiguration`.
        tensorflow: a `TensorflowConfiguration`.
        mpi: an `MpiConfiguration`.
        pytorch: a `PyTorchConfiguration`.
        paralleltask: a `ParallelTaskConfiguration`.
        data_references: `DataReferenceConfiguration`s by name.
        data: `Data` by name.
        datacaches: a list of `DatacacheConfiguration`.
        output_data: `OutputData` by name.
        source_directory_data_store: name of the datastore that the source folder goes through.
        amlcompute: an `AmlComputeConfiguration`.
        auto_cluster_compute_specification: read and written, without an effect.
        kubernetescompute: a `KubernetesComputeConfiguration`.
        credential_passthrough: read and written, without an effect.
        environment_variables: variables of the run.
        services: `ApplicationEndpointConfiguration`s by name.
    """

    script = Field(str)
    arguments = Field(list, list)
    target = _Target(str, "local")
    framework = Field(str, "Python")
    communicator = Field(str, "None")
    max_run_duration_seconds = Field((int, float))
    node_count = Field(int, 1)
    priority = Field(int)
    environment = Field(
        (EnvironmentReference, Environment), lambda: Environment("default-environment")
    )
    history = Field(HistoryConfiguration, HistoryConfiguration)
    spark = Field(SparkConfiguration, SparkConfiguration)
    docker = Field(DockerConfiguration, DockerConfiguration)
    hdi = Field(HdiConfiguration, HdiConfiguration)
    tensorflow = Field(TensorflowConfiguration, TensorflowConfiguration)
    mpi = Field(MpiConfiguration, MpiConfiguration)
    pytorch = Field(PyTorchConfiguration, PyTorchConfiguration)
    paralleltask = Field(ParallelTaskConfiguration, ParallelTaskConfiguration)
    data_references = Field({str: DataReferenceConfiguration}, dict)
    data = Field({str: Data}, dict)
    datacaches = Field([DatacacheConfiguration], list)
    output_data = Field({str: OutputData}, dict)
    source_directory_data_store = Field(str)
    amlcompute = Field(AmlComputeConfiguration, AmlComputeConfiguration)
    auto_cluster_compute_specification = Field(dict)
    kubernetescompute = Field(KubernetesComputeConfiguration, KubernetesComputeConfiguration)
    credential_passthrough = Field(bool, False)
    command = Field((str, list), "")
    environment_variables = Field(dict, dict)
    services = Field({str: ApplicationEndpointConfiguration}, dict, key="applicationEndpoints")

    def __init__(
        self,
        script: str | None = None,
        arguments: Sequence[object] | None = None,
        framework: str | None = None,
        communicator: str | None = None,
        conda_dependencies: CondaDependencies | None = None,
        _history_enabled: bool | None = None,
        _path: str | None = None,
        _name: str | None = None,
        command: str | Sequence[object] | None = None,
    ) -> None:
        given = {"framework": framework, "communicator": communicator, "command": command}
        super().__init__(
            script=script,
            arguments=[] if arguments is None else arguments,
            **{name: value for name, value in given.items() if value},
        )
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies
        self._path, self._name = _path, _name

    @property
    def auto_prepare_environment(self) -> bool:
        """True: environments are always prepared."""
        return True

    @auto_prepare_environment.setter
    def auto_prepare_environment(self, value: bool) -> None:
        log(
            "auto_prepare_environment has no effect: environments are always prepared",
            "azureml.core.runconfig",
        )

    def save(
        self,
        path: Path | None = None,
        name: str | None = None,
        separate_environment_yaml: bool = False,
    ) -> None:
        """Write the run configuration to a file.

        What the environment needs from conda goes to `conda_dependencies.yml` beside it, or, where
        that is another run configuration's, to `conda_dependencies_<name>.yml`: v1 overwrites it.
        A file that was loaded keeps its comments, and what Rechain does not know of it.

        Args:
            path: a project's folder, where the file is `.azureml/<name>` (or `aml_config/<name>`,
                where that folder is there); or the file itself, in a folder that is there. Where
                it was loaded from, or the current folder, if left out.
            name: the file's name; that it was loaded under if left out.
            separate_environment_yaml: whether the environment gets a file of its own,
                `environment.yml`.

        Raises:
            UserErrorException: there is no name, or the folder is not there.
        """
        path = os.fspath(path) if path is not None else self._path or "."
        name = name or self._name
        if os.path.isdir(path):
            if not name:
                raise UserErrorException(
                    f"name is missing: it is the file's name in {os.path.join(path, '.azureml')}."
                )
            inside = next((f for f in _FOLDERS if os.path.isdir(os.path.join(path, f))), None)
            folder = os.path.join(path, inside or _FOLDERS[-1])
            if inside is None:
                os.mkdir(folder)
            file = os.path.join(folder, name)
        else:
            file, folder = path, os.path.dirname(path) or "."
            if not os.path.isdir(folder):
                raise UserErrorException(
                    f"path is {path!r}, and the folder {folder} is not there."
                )
        document = self.to_document()
        project = _project(folder)
        python = (document["environment"] or {}).get("python")
        if python and "condaDependencies" in python:
            del python["condaDependencies"]
            conda = self._conda_file(file, folder, project)
            python["condaDependenciesFile"] = os.path.relpath(conda, project)
            yaml.write(conda, self.environment.python.conda_dependencies._conda_dependencies)
        whole = yaml.merged(self._source, document)
        environment = whole["environment"] or {}
        if hasattr(environment.get("python"), "pop"):  # it lies in a file of its own now
            environment["python"].pop("condaDependencies", None)
        if separate_environment_yaml:
            separate = os.path.join(folder, "environment.yml")
            yaml.write(separate, environment)
            whole["environment"] = os.path.relpath(separate, project)
        yaml.write(file, whole)

    @staticmethod
    def load(path: Path, name: str | None = None) -> RunConfiguration:
        """Return the run configuration of a file, YAML or JSON.

        Args:
            path: the file; or a project's folder, with the file in `.azureml`, in `aml_config` or
                in itself.
            name: the file's name, with or without `.runconfig`.

        Raises:
            UserErrorException: there is no such file, or it is no run configuration.
        """
        path = os.fspath(path)
        file = _find(path, name)
        if file is None:
            names = f"{name} or {name}{_SUFFIX}" if name else "a name"
            raise UserErrorException(
                f"there is no run configuration {names} in {path}, its .azureml or aml_config."
                if name
                else f"path is {path!r}, which is no file; in a folder, name says which one."
            )
        project = path if os.path.isdir(path) else _project(os.path.dirname(file) or ".")
        document = yaml.read(file)
        if not hasattr(document, "keys"):
            raise UserErrorException(f"{file} is no run configuration: it must be a mapping.")
        _include(document, project, file)
        loaded = RunConfiguration.from_document(document, file)
        loaded._path, loaded._name = path, name
        return loaded

    @staticmethod
    def delete(path: Path, name: str) -> None:
        """Delete a run configuration's file.

        Raises:
            UserErrorException: there is no such file.
        """
        file = _find(os.fspath(path), name)
        if file is None:
            raise UserErrorException(f"there is no run configuration {name} in {path}.")
        os.remove(file)

    def _conda_file(self, file: str, folder: str, project: str) -> str:
        """Return where the conda dependencies go: not over another run configuration's."""
        own = self.environment.python.conda_dependencies_file
        if own is None and os.path.isfile(file):
            replaced: Any = yaml.read(file)
            for key in ("environment", "python", "condaDependenciesFile"):
                replaced = replaced.get(key) if hasattr(replaced, "get") else None
            own = replaced
        if own and os.path.isdir(os.path.dirname(os.path.join(project, own))):
            return os.path.join(project, own)
        conda = os.path.join(folder, "conda_dependencies.yml")
        if not os.path.exists(conda):
            return conda
        wanted = self.environment.python.conda_dependencies.as_dict()
        if CondaDependencies(conda).as_dict() == wanted:
            return conda
        stem = os.path.basename(file).removesuffix(_SUFFIX)
        return os.path.join(folder, f"conda_dependencies_{stem}.yml")

    def __repr__(self) -> str:
        import json

        document = self.to_document()
        registry = ((document["environment"] or {}).get("docker") or {}).get("baseImageRegistry")
        if registry and registry["password"]:
            registry["password"] = "..."
        return json.dumps(document, indent=4)


def _project(folder: str) -> str:
    """Return the project's folder of a folder with run configurations."""
    whole = os.path.abspath(folder)
    return os.path.dirname(whole) if os.path.basename(whole) in _FOLDERS else whole


def _find(path: str, name: str | None) -> str | None:
    if os.path.isfile(path):
        return path
    for folder in (*_FOLDERS, ""):
        for file in (name, f"{name}{_SUFFIX}") if name else ():
            whole = os.path.join(path, folder, file)
            if os.path.isfile(whole):
                return whole
    return None


def _include(document: Any, project: str, file: str) -> None:
    """Put what lies in files of its own into the document."""

    def inside(name: str) -> str:
        whole = os.path.join(project, name)
        if not os.path.isfile(whole):
            raise UserErrorException(f"{file} refers to {name}, which is not in {project}.")
        return whole

    if isinstance(document.get("environment"), str):
        document["environment"] = yaml.read(inside(document["environment"]))
    environment: Any = document.get("environment")
    python: Any = environment.get("python") if hasattr(environment, "get") else None
    if not hasattr(python, "keys") or "condaDependencies" in python:
        return
    if python.get("condaDependenciesFile"):
        conda = CondaDependencies(inside(python["condaDependenciesFile"]))
        python["condaDependencies"] = conda._conda_dependencies
