"""The estimator that a `ScriptRunConfig` stands for: what runs is described in one way only."""

from __future__ import annotations

import os
import re

from rechain.estimator.asked import Asked
from rechain.estimator.chainer import Chainer
from rechain.estimator.distributed import Mpi
from rechain.estimator.estimator import Estimator
from rechain.estimator.inputs import text
from rechain.exceptions import NotBuiltError, UserErrorException
from rechain.runconfig.distributed import MpiConfiguration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.estimator.base import MMLBaseEstimator
    from rechain.estimator.script_run_config import ScriptRunConfig
    from rechain.runconfig.environment import Environment
    from rechain.runconfig.run_configuration import RunConfiguration

__all__ = ["as_estimator", "version_of_chainer", "with_conda_file", "with_environment"]

_MPI = ("Mpi", "IntelMpi", "OpenMpi")


def as_estimator(config: object, workspace: Any = None) -> tuple[Any, Asked]:
    """Return the estimator for what can be submitted, and what else its environment asks for.

    Args:
        config: an estimator, which is returned as it is, or a `ScriptRunConfig`.
        workspace: where registered environments and datastores are looked up.

    Raises:
        NotBuiltError: it asks for what Rechain cannot run yet.
        UserErrorException: its parts do not fit together.
    """
    from rechain.estimator.script_run_config import ScriptRunConfig

    if not isinstance(config, ScriptRunConfig):
        return config, Asked()
    run = config.run_config
    script, arguments = _command(config)
    environment = _environment(run, workspace)
    image = _image(run, environment)
    described = _python(environment)
    asked, notes = described.pop("asked"), described.pop("notes")
    on_demand = run.target == "amlcompute"
    kind = described.pop("kind")
    made = kind._of(
        config.source_directory or ".",
        entry_script=script,
        compute_target=None if on_demand and run.amlcompute.vm_size else run.target,
        vm_size=run.amlcompute.vm_size if on_demand else None,
        vm_priority=run.amlcompute.vm_priority if on_demand else None,
        node_count=run.node_count,
        distributed_training=_distribution(run),
        max_run_duration_seconds=run.max_run_duration_seconds,
        environment_variables={
            **_variables(environment),
            **(run.environment_variables or {}),
        },
        use_docker=image is not None,
        custom_docker_image=image or None,
        image_registry_details=_registry(environment) if image else None,
        shm_size=run.docker.shm_size if image is not None and run.docker else None,
        **_data(arguments, config, workspace),
        **described,
    )
    if image is None and not config._docker_given:
        notes = [*notes, *_left_out(environment)]
    made._described_as, made._notes = type(config).__name__, notes
    made._docker_arguments = tuple(run.docker.arguments or ()) if run.docker else ()
    made._image_source = _image_source(environment) if image is not None else None
    return made, asked


def with_environment(estimator: MMLBaseEstimator) -> tuple[MMLBaseEstimator, Asked]:
    """Return the estimator with what its `environment_definition` says, and the rest of that.

    Raises:
        NotBuiltError: the environment asks for what Rechain cannot provide yet.
    """
    environment = estimator._given["environment_definition"]
    if environment is None:
        return estimator, Asked()
    described = _python(environment)
    asked, notes = described.pop("asked"), described.pop("notes")
    image = _image(None, environment)
    if image is None and estimator._given["use_docker"]:
        notes = [*notes, *_left_out(environment)]
    changed = estimator._with(
        described.pop("kind"),
        environment_definition=None,
        environment_variables=_variables(environment),
        use_docker=image is not None,
        custom_docker_image=image or None,
        image_registry_details=_registry(environment) if image else None,
        shm_size=environment.docker.shm_size if image is not None else None,
        **described,
    )
    changed._docker_arguments = tuple(environment.docker.arguments or ())
    changed._image_source = _image_source(environment) if image is not None else None
    changed._notes = notes
    changed._described_as = estimator._described_as or type(estimator).__name__
    return changed, asked


def with_conda_file(estimator: MMLBaseEstimator) -> tuple[MMLBaseEstimator, Asked]:
    """Return the estimator with what its file of conda dependencies says, and nothing else.

    Raises:
        UserErrorException: the file cannot be used.
    """
    from rechain.runconfig.environment import Environment

    environment = Environment("conda-file")
    found = estimator._build().environment.python.conda_dependencies
    environment.python.conda_dependencies = found
    described = _python(environment)
    asked, notes = described.pop("asked"), described.pop("notes")
    kind = described.pop("kind")
    described["use_gpu"] = estimator._given["use_gpu"] or described.get("use_gpu", False)
    files = dict.fromkeys(("conda_dependencies_file", "conda_dependencies_file_path"))
    own = {**_variables(environment), **estimator._given["environment_variables"]}
    changed = estimator._with(kind, environment_variables=own, **files, **described)
    changed._notes = [*estimator._notes, *notes]
    changed._described_as = estimator._described_as or type(estimator).__name__
    return changed, asked


def _variables(environment: Environment) -> dict[str, Any]:
    """Return the environment's variables: of the environment itself before those of conda's."""
    conda = environment.python.conda_dependencies
    theirs = {} if conda is None else conda.as_dict().get("variables") or {}
    return {**theirs, **(environment.environment_variables or {})}


def _command(config: ScriptRunConfig) -> tuple[str, list[Any]]:
    """Return the script and its arguments."""
    if config.script:
        return os.fspath(config.script), list(config.arguments or ())
    if not config.command:
        raise UserErrorException(
            "script is missing; it names the script to run, relative to source_directory."
        )
    import shlex

    line = config.command
    words: list[Any] = shlex.split(line) if isinstance(line, str) else list(line)
    if len(words) == 1 and isinstance(words[0], str):
        words = shlex.split(words[0])
    words += config.arguments or ()
    shell = [word for word in words if word in ("|", "||", "&&", ";", "&", ">", ">>", "<")]
    if len(words) < 2 or words[0] not in ("python", "python3") or shell or _is_option(words[1]):
        raise NotBuiltError(
            f"command={line!r} is not built yet: what runs is one Python script. Write "
            "command='python SCRIPT ARGUMENTS', or put the command into a script."
        )
    return str(words[1]), words[2:]


def _is_option(word: object) -> bool:
    return isinstance(word, str) and word.startswith("-")


def _data(arguments: list[Any], config: ScriptRunConfig, workspace: Any) -> dict[str, Any]:
    """Return the estimator's parameters that say which arguments are data, and which data is more.

    A run configuration only has names of data: `$AZUREML_DATAREFERENCE_x`, and what x is.
    """
    from rechain.data import DataReference, Datastore

    run = config.run_config
    held = {getattr(value, "name", None) for value in config._references.values()}
    for what in ("data", "output_data", "datacaches"):
        if not held.issuperset(getattr(run, what) or ()):
            raise NotBuiltError(
                f"run_config.{what} is not built yet. Upload the files to the default datastore, "
                "and pass datastore.path(...).as_mount() among the arguments."
            )
    known: dict[str, Any] = {text(value): value for value in config._references.values()}
    for name, one in (run.data_references or {}).items():
        if workspace is not None:
            reference = DataReference(
                Datastore(workspace, one.data_store_name),
                name,
                one.path_on_data_store,
                one.mode,
                one.path_on_compute,
                one.overwrite,
            )
            known.setdefault(str(reference), reference)
    through = None
    if name := run.source_directory_data_store:
        source = known.pop(f"$AZUREML_DATAREFERENCE_{name}", None)
        if source is not None:
            through = source.datastore
        elif workspace is not None:
            through = Datastore(workspace, name)
    return {
        "source_directory_data_store": through,
        "script_params": {
            "": [known.get(item, item) if isinstance(item, str) else item for item in arguments]
        },
        "inputs": list(known.values()),
    }


def _environment(run: RunConfiguration, workspace: Any) -> Environment:
    from rechain.runconfig.environment import Environment

    environment = run.environment
    if isinstance(environment, Environment):
        return environment
    if environment is None:
        raise UserErrorException("run_config.environment is None; give it an Environment.")
    if workspace is None:
        raise UserErrorException(
            f"run_config.environment is {environment!r}, which is looked up when it is submitted; "
            "give it what Environment.get(workspace, name) returns."
        )
    return environment.get_environment(workspace)  # type: ignore[no-any-return]


def _registry(environment: Environment) -> Any:
    """Return where the environment's image comes from, if anything is said of that."""
    details = environment.docker.base_image_registry
    said = (details.address, details.username, details.password, details.registry_identity)
    return details if any(said) else None


def _image(run: RunConfiguration | None, environment: Environment) -> str | None:
    """Return the image that is asked for: None for no container, "" for one of v1's own."""
    docker = environment.docker
    if not (docker.enabled or (run and run.docker and run.docker.use_docker)):
        return None
    return _own_image(environment)


def _own_image(environment: Environment) -> str:
    image = str(environment.docker.base_image or "")
    return "" if image.startswith("mcr.microsoft.com/azureml/") else image


def _left_out(environment: Environment) -> list[str]:
    """Return what to say of an environment's own image where nothing asks for a container.

    As in v1's local runs an image is used by who says so; `use_docker` is False by default, so
    that nobody can see whether somebody said that.
    """
    from rechain.environment.image.names import of_v1

    docker, image = environment.docker, _own_image(environment)
    named = image and of_v1(image) is None
    if not (named or docker.base_dockerfile or docker.build_context):
        return []
    return [
        f"the image of the environment {environment.name!r} is not used: a container is used by "
        "who says so, docker_runtime_config=DockerConfiguration(use_docker=True)"
    ]


def _image_source(environment: Environment) -> dict[str, Any] | None:
    """Return what the environment's image is built from; None if it is named.

    Raises:
        UserErrorException: it is no folder that the workspace keeps, or no Dockerfile.
    """
    docker = environment.docker
    if docker.build_context is not None:
        return {"context": docker.build_context._source(f"the environment {environment.name!r}")}
    if docker.base_dockerfile is None:
        return None
    if not docker.base_dockerfile.strip():
        raise UserErrorException(f"the Dockerfile of {environment.name!r} is empty")
    return {"dockerfile": docker.base_dockerfile}


def _python(environment: Environment) -> dict[str, Any]:
    """Return the parameters that say the environment's Python; also `kind`, `asked`, `notes`."""
    python = environment.python
    # A folder that an image is built from says all that is in it, unless more is asked for.
    whole = environment.docker.build_context is not None and python.conda_dependencies is None
    if python.user_managed_dependencies or whole:
        return {
            "kind": Chainer, "user_managed": True, "notes": [],
            "asked": Asked(python.interpreter_path, environment.as_of),
        }  # fmt: skip
    if environment.lock is not None:
        return {"kind": Estimator, "notes": [], "asked": Asked(lock=environment.lock)}
    from rechain.runconfig import curated
    from rechain.runconfig.packages import base_name

    conda = python.conda_dependencies
    packages = [] if conda is None else list(conda.pip_packages)
    chainer = [item for item in packages if base_name(item) == "chainer"]
    where = () if conda is None else tuple(map(str, conda.conda_channels))
    common = {
        "conda_packages": [] if conda is None else list(conda.conda_packages),
        "asked": Asked(as_of=environment.as_of, channels=where),
    }
    if not chainer:
        return {"kind": Estimator, "pip_packages": packages, "notes": [], **common}
    exact, chosen = version_of_chainer(chainer[0])
    if environment.as_of is not None and exact not in Chainer.get_supported_versions():
        # The date says what goes with it; it needs no recipe.
        return {"kind": Estimator, "pip_packages": packages, "notes": [], **common}
    # What v1 has with Chainer is the recipe's to choose: mpi4py 3.0.0 builds with no MPI of today.
    framework = set(curated.content(f"AzureML-Chainer-{exact}-GPU")[2])
    pins = [item for item in packages if item in framework and item.startswith(("mpi4py", "cupy"))]
    return {
        "kind": Chainer,
        "framework_version": exact,
        "pip_packages": [item for item in packages if item not in (*pins, chainer[0])],
        "use_gpu": any(item.startswith("cupy") for item in pins),
        "notes": [
            *(f"{item}, which v1 has with Chainer, is left to the recipe" for item in pins),
            *chosen,
        ],
        **common,
    }


def version_of_chainer(requirement: str) -> tuple[str, list[str]]:
    """Return the version of Chainer that a requirement means, and a note if it was chosen."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        specifier = Requirement(requirement).specifier
    except InvalidRequirement as error:
        from rechain.job.git import without_credentials

        text = f"requirement {requirement!r} cannot be read: {str(error).splitlines()[0]}"
        raise UserErrorException(without_credentials(text)) from None
    if exact := re.fullmatch(r"={2,3}([^*,]+)", str(specifier)):
        return exact[1].strip(), []
    known = [one for one in Chainer.get_supported_versions() if specifier.contains(one)]
    if not known:
        raise UserErrorException(
            f"requirement {requirement!r} allows none of the versions of Chainer that Rechain "
            f"knows: {', '.join(Chainer.get_supported_versions())}."
        )
    return known[-1], [f"{requirement} names no version: Chainer {known[-1]} is taken"]


def _distribution(run: RunConfiguration) -> Mpi | MpiConfiguration | None:
    if run.communicator in (None, "None"):
        return None
    if run.communicator not in _MPI:
        raise NotBuiltError(
            f"run_config.communicator is {run.communicator!r}, which is not built yet: processes "
            "speak MPI. Use distributed_job_config=MpiConfiguration(...)."
        )
    count = run.mpi.process_count_per_node
    return (
        Mpi._of(process_count_per_node=count)
        if run.communicator == "Mpi"
        else MpiConfiguration(count)
    )
