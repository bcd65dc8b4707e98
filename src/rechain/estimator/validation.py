"""What an estimator's parameters must be: each by itself, and together.

The checks of combinations come in v1's order and raise v1's classes, so that code which catches
them goes on working. Values of a wrong type, which v1 ignored or stumbled over later, are refused
first.
"""

from __future__ import annotations

import os

from rechain.estimator.distributed import Gloo, Mpi, Nccl, ParameterServer
from rechain.exceptions import TrainingException, UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Given = dict[str, Any]

__all__ = [
    "check",
    "check_optimized",
    "check_values",
    "check_version",
    "is_notebook",
    "parameter_of",
]

_TEXT = (str, "a str")
_PATH = ((str, os.PathLike), "a str")
_LIST = ((list, tuple), "a list")
_DICT = (dict, "a dict")
_COUNT = (int, "an int")
_FLAG = (bool, "True or False")

_TYPES: dict[str, tuple[Any, str]] = {
    "source_directory": _PATH,
    "vm_size": _TEXT,
    "vm_priority": _TEXT,
    "entry_script": _PATH,
    "script_params": _DICT,
    "node_count": _COUNT,
    "process_count_per_node": _COUNT,
    "distributed_backend": _TEXT,
    "use_gpu": _FLAG,
    "use_docker": _FLAG,
    "custom_docker_base_image": _TEXT,
    "custom_docker_image": _TEXT,
    "user_managed": _FLAG,
    "conda_packages": _LIST,
    "pip_packages": _LIST,
    "conda_dependencies_file_path": _PATH,
    "pip_requirements_file_path": _PATH,
    "conda_dependencies_file": _PATH,
    "pip_requirements_file": _PATH,
    "environment_variables": _DICT,
    "inputs": _LIST,
    "shm_size": _TEXT,
    "max_run_duration_seconds": ((int, float), "a number of seconds"),
    "_enable_optimized_mode": _FLAG,
    "_disable_validation": _FLAG,
    "_show_lint_warnings": _FLAG,
    "_show_package_warnings": _FLAG,
}

# How other frameworks of v1 train in several processes.
_FOREIGN = (Gloo, Nccl, ParameterServer)
_PRIORITIES = ("dedicated", "lowpriority")

# Parameters for which None is no value.
_NEVER_NONE = frozenset({"node_count", "process_count_per_node"}) | {
    name for name, kind in _TYPES.items() if kind is _FLAG
}

_SHM_SIZE = "a number of bytes, or with a unit: '512m', '2g'"
_LOCAL = 'Use compute_target="local", which is this machine.'


def parameter_of(given: Given, name: str) -> str:
    """Return which spelling of a dependency-file parameter the caller used."""
    return f"{name}_path" if given[f"{name}_path"] and not given[name] else name


def is_notebook(script: str | os.PathLike[str] | None) -> bool:
    """Return whether a script is a Jupyter notebook, by its name."""
    return script is not None and os.fspath(script).lower().endswith(".ipynb")


def check_values(given: Given) -> None:
    """Check each parameter of an estimator by itself.

    Raises:
        UserErrorException: a value can never work.
    """
    _check_types(given)
    _check_ranges(given)


def check(given: Given, backends: list[str], framework: str | None) -> None:
    """Check that the parameters of an estimator fit together.

    What v1 checked after it had read files is left to `check_version` and `check_optimized`.

    Args:
        given: every parameter, by name.
        backends: the communication backends that the estimator knows.
        framework: the estimator's framework, if it is for one.

    Raises:
        TrainingException: the parameters do not fit together.
        UserErrorException: they do not, or data is given that is none, where v1 has this class.
    """
    _check_combinations(given)
    _check_distribution(given, backends, framework)
    _check_dependencies_by_user(given)
    _check_target(given)
    if given["custom_docker_image"] and given["custom_docker_base_image"]:
        raise TrainingException(
            "custom_docker_image and custom_docker_base_image both name an image; keep "
            "custom_docker_image, the other is its old name."
        )
    _check_data(given)


def check_version(version: object, framework: str, versions: list[str]) -> None:
    """Check the framework's version.

    Args:
        version: as it was given.
        framework: the estimator's framework.
        versions: the versions of it that there are recipes for.

    Raises:
        TrainingException: it is none of these.
    """
    if version is not None and version not in versions:
        hint = "" if isinstance(version, str) else f" Give it as a str: '{versions[-1]}'."
        raise TrainingException(
            f"framework_version is {version!r}; Rechain knows {framework} "
            f"{', '.join(versions)}.{hint} Another version runs with user_managed=True, in a "
            "Python where you installed it, or with packages of its day: `rechain run --as-of "
            f"DATE --pip {framework.lower()}==VERSION`."
        )


def check_optimized(given: Given) -> None:
    """Check that v1's optimized mode, where it is asked for, has an image to start from.

    Raises:
        TrainingException: what else is given says that there is none.
    """
    environment = given["environment_definition"]
    if not given["_enable_optimized_mode"] or (
        environment is not None and environment.python.user_managed_dependencies
    ):
        return
    found = [
        name
        for name in ("environment_definition", "custom_docker_image", "custom_docker_base_image")
        if given[name]
    ]
    if is_notebook(given["entry_script"]):
        found.append(f"entry_script={given['entry_script']!r}")
    if found:
        raise TrainingException(
            "_enable_optimized_mode=True starts from the framework's own image, which "
            f"{' and '.join(found)} {'rule' if len(found) > 1 else 'rules'} out; leave one out."
        )


def _check_types(given: Given) -> None:
    for name, (kind, words) in _TYPES.items():
        value = given[name]
        if value is None and name not in _NEVER_NONE:
            continue
        right = isinstance(value, kind)
        if isinstance(value, bool) and kind is not bool:
            right = False  # an int for Python, but no number of anything
        if not right:
            hint = f" Write {name}=[{value!r}]." if kind == _LIST[0] and type(value) is str else ""
            raise UserErrorException(
                f"{name} is {value!r}, a {type(value).__name__}; it must be {words}.{hint}"
            )
    for name in ("conda_packages", "pip_packages"):
        for item in given[name] or ():
            if not isinstance(item, str) or not item.strip():
                raise UserErrorException(
                    f"{name} has the element {item!r}; each must be a str such as 'numpy==1.19.5'."
                )


def _check_ranges(given: Given) -> None:
    seconds = given["max_run_duration_seconds"]
    if seconds is not None and not 0 < seconds < float("inf"):
        raise UserErrorException(
            f"max_run_duration_seconds is {seconds!r}; it must be more than 0. Leave it out for "
            "no limit."
        )
    size = given["shm_size"]
    if size and not _is_size(size):
        raise UserErrorException(f"shm_size is {size!r}; it must be {_SHM_SIZE}.")
    priority = given["vm_priority"]
    if priority is not None and priority not in _PRIORITIES:
        raise UserErrorException(
            f"vm_priority is {priority!r}; it must be one of {', '.join(_PRIORITIES)}."
        )
    target = given["compute_target"]
    if target and not isinstance(target, str) and not _is_target(target):
        raise UserErrorException(
            f"compute_target is {target!r}, a {type(target).__name__}, which is no compute "
            f"target. {_LOCAL}"
        )
    _check_training(given["distributed_training"])
    for name, kind in (
        ("environment_definition", "Environment"),
        ("image_registry_details", "ContainerRegistry"),
    ):
        _check_section(given, name, kind)


def _check_training(training: object) -> None:
    if training is None or isinstance(training, (Mpi, *_FOREIGN)):
        count = getattr(training, "process_count_per_node", 1)
    else:
        from rechain.runconfig.distributed import MpiConfiguration, ParallelTaskConfiguration

        if not isinstance(training, (MpiConfiguration, ParallelTaskConfiguration)):
            raise UserErrorException(
                f"distributed_training is {training!r}, a {type(training).__name__}; it must be "
                "Mpi(...) or MpiConfiguration(...)."
            )
        count = getattr(training, "process_count_per_node", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UserErrorException(
            f"distributed_training is {type(training).__name__}(process_count_per_node={count!r})"
            "; it must be an int of 1 or more."
        )


def _check_section(given: Given, name: str, kind: str) -> None:
    if given[name] is None:
        return
    import rechain.runconfig

    if not isinstance(given[name], getattr(rechain.runconfig, kind)):
        raise UserErrorException(
            f"{name} is {given[name]!r}, a {type(given[name]).__name__}; it must be a {kind}."
        )


def _is_size(text: str) -> bool:
    """Return whether a text is a size as container engines read it: `2g`, `64MB`, `1.5g`."""
    import re

    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:[kmgt]i?)?b?", text.lower(), re.ASCII)
    return found is not None and float(found[1]) > 0


def _check_combinations(given: Given) -> None:
    if not given["use_docker"]:
        _exclude(given, "use_docker=False", ("custom_docker_image", "custom_docker_base_image"))
    pip_file = parameter_of(given, "pip_requirements_file")
    conda_file = parameter_of(given, "conda_dependencies_file")
    if given["environment_definition"]:
        _exclude(
            given,
            "environment_definition",
            (
                "pip_packages", pip_file, "conda_packages", conda_file, "custom_docker_image",
                "image_registry_details", "use_gpu", "user_managed", "shm_size",
                "environment_variables",
            ),
        )  # fmt: skip
    if given[conda_file]:
        _exclude(given, conda_file, ("pip_packages", pip_file, "conda_packages"))


def _exclude(given: Given, what: str, others: tuple[str, ...]) -> None:
    found = [name for name in others if given[name]]
    if found:
        raise TrainingException(
            f"{what} says the whole of what {' and '.join(found)} "
            f"{'say' if len(found) > 1 else 'says'} a part of; give one or the other."
        )


def _check_distribution(given: Given, backends: list[str], framework: str | None) -> None:
    for name in ("node_count", "process_count_per_node"):
        if given[name] < 1:
            raise TrainingException(f"{name} is {given[name]}; it must be 1 or more.")
    backend, training = given["distributed_backend"], given["distributed_training"]
    if backend and backend.lower() not in backends:
        raise TrainingException(
            f"distributed_backend is {backend!r}; {framework or 'a script'} trains over "
            f"{' or '.join(backends)} only."
        )
    foreign = isinstance(training, _FOREIGN)
    if backend and (foreign or type(training).__name__ == "ParallelTaskConfiguration"):
        raise TrainingException(
            f"distributed_backend is {backend!r}, and distributed_training is "
            f"{type(training).__name__}(...), whose processes do not speak MPI; leave one out."
        )
    if framework is not None and foreign:
        raise TrainingException(
            f"distributed_training is {type(training).__name__}(...), which other frameworks use; "
            f"{framework} trains over Mpi(...) only."
        )


def _check_dependencies_by_user(given: Given) -> None:
    if given["user_managed"]:
        found = [
            name
            for name in (
                "conda_packages",
                parameter_of(given, "conda_dependencies_file"),
                "pip_packages",
                parameter_of(given, "pip_requirements_file"),
            )
            if given[name]
        ]
        if found:
            raise UserErrorException(
                f"user_managed=True means that nothing is installed, but {' and '.join(found)} "
                "ask for packages. Install them into your Python yourself, or leave "
                "user_managed=True out."
            )
    if not given["distributed_backend"] and given["distributed_training"] is None:
        for name in ("node_count", "process_count_per_node"):
            if given[name] > 1:
                raise TrainingException(
                    f"{name} is {given[name]}, but nothing says how the processes speak with each "
                    "other; add distributed_training=Mpi(process_count_per_node=...)."
                )


def _check_target(given: Given) -> None:
    target = given["compute_target"]
    if not target and not given["vm_size"]:
        raise TrainingException(f"compute_target is missing, and vm_size too. {_LOCAL}")
    if target == "local" and given["node_count"] > 1:
        raise TrainingException(
            f'node_count is {given["node_count"]}, but compute_target="local" is one node; '
            "give the name of an AmlCompute, or vm_size in place of compute_target."
        )


def _is_target(target: object) -> bool:
    """Return whether it is an object of a compute target: they have a name and a type."""
    return all(isinstance(getattr(target, name, None), str) for name in ("name", "type"))


def check_resume_from(resume: object) -> None:
    """See whether it says where to go on.

    Raises:
        UserErrorException: it does not.
    """
    from rechain.data import DataPath

    # A run is known by what it has: this package comes before that of runs.
    if not (
        resume is None
        or isinstance(resume, (DataPath, str, os.PathLike))
        or (isinstance(getattr(resume, "id", None), str) and hasattr(resume, "folder"))
    ):
        raise UserErrorException(
            f"resume_from is {resume!r}, a {type(resume).__name__}; it must be a DataPath, such "
            'as DataPath(workspace.get_default_datastore(), "old"), or a run, a run\'s id, or the '
            "path of a snapshot or of a folder with snapshots."
        )


def _check_data(given: Given) -> None:
    resume, store = given["resume_from"], given["source_directory_data_store"]
    if resume is None and store is None and not given["inputs"]:
        return
    from rechain.data import DataReference, DatasetConsumptionConfig, Datastore

    check_resume_from(resume)
    for value in given["inputs"] or ():
        if not isinstance(value, (DataReference, DatasetConsumptionConfig, Datastore)):
            raise UserErrorException(
                f"inputs has {value!r}, a {type(value).__name__}; each must be a DataReference, a "
                "Datastore, or a dataset with as_named_input(...) or as_mount()."
            )
    if store is not None and not isinstance(store, Datastore):
        raise UserErrorException(
            f"source_directory_data_store is {store!r}, a {type(store).__name__}; it must be a "
            "Datastore."
        )
