"""The run configuration that an estimator stands for, as v1 made it, and back.

v1's rules for images and packages are those of azureml-train-core 1.62: the image that it had for
a framework version is taken as it is where nothing else is asked for; otherwise the packages of
that version are added to what is asked for.
"""

from __future__ import annotations

import copy
import os

from rechain.estimator import arguments, inputs
from rechain.estimator.distributed import Gloo, Mpi, Nccl, ParameterServer
from rechain.estimator.validation import is_notebook, parameter_of
from rechain.exceptions import NotBuiltError, UserErrorException
from rechain.runconfig import curated
from rechain.runconfig.conda_dependencies import CondaDependencies
from rechain.runconfig.distributed import MpiConfiguration, TensorflowConfiguration
from rechain.runconfig.docker import DEFAULT_CPU_IMAGE, DEFAULT_GPU_IMAGE, DockerConfiguration
from rechain.runconfig.packages import base_name
from rechain.runconfig.run_configuration import RunConfiguration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Given = dict[str, Any]

__all__ = ["build", "changes"]

# Where v1 kept the images of its framework versions; nobody can pull from it any more.
_REGISTRY = "viennaprivate.azurecr.io"
# What v1 runs notebooks in.
_NOTEBOOK_IMAGES = {
    "cpu": "mcr.microsoft.com/azureml/openmpi3.1.2-ubuntu16.04",
    "gpu": "mcr.microsoft.com/azureml/openmpi3.1.2-cuda10.0-cudnn7-ubuntu16.04",
}


def build(
    given: Given, pip: list[str], framework: str | None, version: str | None
) -> RunConfiguration:
    """Return the run configuration of an estimator.

    Args:
        given: the estimator's parameters, checked; `script_params` frozen. Not changed.
        pip: what its pip parameters ask for, in order.
        framework: the estimator's framework, such as `Chainer`, if it is for one.
        version: its version.

    Raises:
        UserErrorException: a file of conda dependencies or pip requirements cannot be used.
    """
    made = RunConfiguration(
        script=given["entry_script"],
        arguments=[
            inputs.text(element) if inputs.as_data(element) is not None else element
            for element in arguments.flat(given["script_params"])
        ],
    )
    inputs.describe(inputs.find(given), made)
    if given["source_directory_data_store"] is not None:
        made.source_directory_data_store = given["source_directory_data_store"].name
    made.node_count = given["node_count"]
    _distribute(made, given)
    made.amlcompute.vm_size = given["vm_size"]
    made.amlcompute.vm_priority = given["vm_priority"]
    made.amlcompute._cluster_max_node_count = given["node_count"]
    made.target = given["compute_target"] or "amlcompute"
    made.max_run_duration_seconds = given["max_run_duration_seconds"]
    made.environment_variables = dict(given["environment_variables"] or {})
    kind = "gpu" if given["use_gpu"] else "cpu"
    if given["environment_definition"] is not None:
        made.environment = copy.deepcopy(given["environment_definition"])
        docker = made.environment.docker
        made.docker = DockerConfiguration(
            docker.enabled, docker.shared_volumes, docker.arguments, docker.shm_size
        )
    else:
        made.docker = DockerConfiguration(given["use_docker"], shm_size=given["shm_size"])
        _describe_environment(made, given, pip, framework, version, kind)
    own = given["environment_definition"] is None and _image(given)
    user_managed = made.environment.python.user_managed_dependencies
    if is_notebook(given["entry_script"]) and not own and not user_managed:
        made.environment.docker.base_image = _NOTEBOOK_IMAGES[kind]
    return made


def _image(given: Given) -> str | None:
    image: str | None = given["custom_docker_image"] or given["custom_docker_base_image"]
    return image


def _distribute(made: RunConfiguration, given: Given) -> None:
    training = given["distributed_training"]
    if given["distributed_backend"]:
        made.communicator = "IntelMpi"
        made.mpi.process_count_per_node = given["process_count_per_node"]
    if isinstance(training, Mpi):
        made.communicator, made.framework = "Mpi", "python"
        made.mpi = MpiConfiguration(training.process_count_per_node)
    elif isinstance(training, MpiConfiguration):
        made.communicator, made.mpi = "IntelMpi", copy.copy(training)
    elif isinstance(training, (Gloo, Nccl)):
        made.communicator, made.framework = type(training).__name__, "pytorch"
    elif isinstance(training, ParameterServer):
        made.communicator, made.framework = "ParameterServer", "tensorflow"
        made.tensorflow = TensorflowConfiguration(
            training.worker_count, training.parameter_server_count
        )
    elif training is not None:
        made.communicator, made.paralleltask = "ParallelTask", copy.copy(training)


def _describe_environment(
    made: RunConfiguration,
    given: Given,
    pip: list[str],
    framework: str | None,
    version: str | None,
    kind: str,
) -> None:
    python, docker = made.environment.python, made.environment.docker
    made.environment.spark.precache_packages = False
    python.user_managed_dependencies = given["user_managed"]
    python.conda_dependencies = wanted = _dependencies(given, pip)
    image = _image(given)
    docker.base_image = image or (DEFAULT_GPU_IMAGE if kind == "gpu" else DEFAULT_CPU_IMAGE)
    if given["image_registry_details"] is not None:
        docker.base_image_registry = copy.copy(given["image_registry_details"])
    if framework is None:
        return
    default = CondaDependencies().as_dict()
    plain = wanted.as_dict() == default
    on_azure = not isinstance(given["compute_target"], str)  # v1 knew it by the object
    takes_image = on_azure and not image and not is_notebook(given["entry_script"])
    if takes_image and (plain or given["_enable_optimized_mode"]):
        docker.base_image = f"{framework.lower()}:{version}-{kind}"
        docker.base_image_registry.address = _REGISTRY
        if plain:
            python.user_managed_dependencies = True
        else:
            python._base_conda_environment = "base"
        return
    base_image, python_version, packages = curated.content(
        f"AzureML-{framework}-{version}-{kind.upper()}"
    )
    if not given[parameter_of(given, "conda_dependencies_file")]:
        if not any(_is_python(item) for item in given["conda_packages"] or ()):
            wanted.set_python_version(python_version)
        _add_framework(wanted, packages)
    if not image:
        docker.base_image = base_image


def _dependencies(given: Given, pip: list[str]) -> CondaDependencies:
    """Return what the user asks for, beside what every environment of v1 has."""
    parameter = parameter_of(given, "conda_dependencies_file")
    if given[parameter]:
        path = os.path.join(given["source_directory"], os.fspath(given[parameter]))
        try:
            return CondaDependencies(path)
        except FileNotFoundError as error:
            raise UserErrorException(
                f"{parameter} names {path}, which does not exist. The path is relative to "
                "source_directory.",
                error,
            ) from error
        except UserErrorException as error:
            raise UserErrorException(
                f"{parameter} names {path}: {error.message}", error
            ) from error
    found = CondaDependencies()
    if given[parameter_of(given, "pip_requirements_file")]:
        pip = CondaDependencies.merge_requirements(pip)
    if pip:
        found.set_pip_requirements(["azureml-defaults", *pip])
    for package in given["conda_packages"] or ():
        found.add_conda_package(package)
    return found


def _is_python(conda_package: str) -> bool:
    return base_name(conda_package.rpartition("::")[2]) == "python"


def _add_framework(wanted: CondaDependencies, packages: list[str]) -> None:
    """Add what v1 installs for a framework version; what the user names stays the user's."""
    own = CondaDependencies()
    named = {base_name(item) for item in (*wanted.pip_packages, *wanted.conda_packages)}
    named -= {base_name(item) for item in (*own.pip_packages, *own.conda_packages)}
    for package in packages:
        if base_name(package) not in named:
            wanted.add_pip_package(package)


# Where a run configuration says what a parameter of the estimator says.
_PARAMETERS = {
    "script": "entry_script",
    "target": "compute_target",
    "nodeCount": "node_count",
    "maxRunDurationSeconds": "max_run_duration_seconds",
    "environmentVariables": "environment_variables",
    "amlcompute.vmSize": "vm_size",
    "amlcompute.vmPriority": "vm_priority",
    "docker.useDocker": "use_docker",
    "docker.shmSize": "shm_size",
    "environment.python.userManagedDependencies": "user_managed",
    "environment.docker.baseImage": "custom_docker_image",
    "environment.docker.baseImageRegistry": "image_registry_details",
}


def changes(made: RunConfiguration, now: RunConfiguration) -> Given:
    """Return the estimator's parameters that say what was changed in its run configuration.

    Args:
        made: the run configuration as `build` made it.
        now: what its user made of it.

    Returns:
        Parameters by name; `arguments` are the script's arguments, flat.

    Raises:
        NotBuiltError: something was changed that no parameter says.
    """
    found: Given = {}
    before, after = made.to_document(), now.to_document()
    for path in _differing(before, after):
        if path == "arguments":
            found["arguments"] = list(now.arguments)
        elif path.startswith("mpi.") or path in ("communicator", "framework"):
            found["distributed_training"] = _training(now)
        elif path.startswith("environment.python.condaDependencies"):
            found["pip_packages"] = _added(made, now)
        else:
            for known, parameter in _PARAMETERS.items():
                if path == known or path.startswith(f"{known}."):
                    found[parameter] = _at(now, known)
                    break
            else:
                raise NotBuiltError(
                    f"run_config.{path} was changed from {_in(before, path)!r} to "
                    f"{_in(after, path)!r}, which Rechain does not act on yet; leave it as it was."
                )
    return found


def _differing(before: Any, after: Any, path: str = "") -> list[str]:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [path]
    names = dict.fromkeys([*before, *after])
    return [
        found
        for name in names
        for found in _differing(
            before.get(name), after.get(name), f"{path}.{name}" if path else name
        )
    ]


def _in(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _at(section: Any, path: str) -> Any:
    for key in path.split("."):
        fields = type(section)._fields.items()
        section = getattr(section, next(name for name, field in fields if field.key == key))
    return section


def _training(now: RunConfiguration) -> Mpi | MpiConfiguration | None:
    if now.communicator == "None":
        return None
    count = now.mpi.process_count_per_node
    return (
        Mpi._of(process_count_per_node=count)
        if now.communicator == "Mpi"
        else MpiConfiguration(count)
    )


def _added(made: RunConfiguration, now: RunConfiguration) -> list[str]:
    """Return the pip requirements that were added, if that is all that was changed."""
    before = list(made.environment.python.conda_dependencies.pip_packages)
    python = now.environment.python
    rest = copy.deepcopy(python.conda_dependencies)
    added = [item for item in rest.pip_packages if item not in before]
    rest.set_pip_requirements(made.environment.python.conda_dependencies._pip())
    if rest.as_dict() != made.environment.python.conda_dependencies.as_dict() or any(
        item not in python.conda_dependencies.pip_packages for item in before
    ):
        raise NotBuiltError(
            "the conda dependencies in run_config were changed by more than further pip packages, "
            "which Rechain does not act on yet; say it in the estimator's parameters."
        )
    return added
