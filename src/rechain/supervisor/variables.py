"""The variables that a script finds."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from rechain.record.paths import AttemptPaths, RunPaths

__all__ = ["PROGRAM", "SOURCE", "contain", "of_data", "of_run", "programs", "site_of", "surround"]

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What every process of ours is: see `__main__.py`.
PROGRAM = f"{SOURCE}/rechain/supervisor/__main__.py"
_GUEST = f"{SOURCE}/rechain/guest"
_HOOKS = f"{_GUEST}/hooks"
_COMMANDS = f"{_GUEST}/commands"  # what answers in place of conda
_LEADING_OUT = ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "BASH_ENV")
_INSTALLER = f"{_GUEST}/installer"


def surround(
    environment: dict[str, str],
    found: dict[str, Any],
    packages: str,
    own: Collection[str] = (),
    hooked: bool = False,
) -> None:
    """Add to a script's variables what goes with its environment.

    Args:
        environment: all the script's variables.
        found: the environment, as `store.find` returned it.
        packages: where packages go that the script installs.
        own: the variables that the user sets, and conda's activation therefore does not.
        hooked: whether the script needs the hooks in any case.
    """
    for name, value in (found["mpi"] or {"variables": {}})["variables"].items():
        if name == "LD_LIBRARY_PATH" and environment.get(name):
            environment[name] = f"{value}:{environment[name]}"
        environment.setdefault(name, value)
    # Of another run, whose script submitted this one:
    installed = environment.pop("RECHAIN_PACKAGES", None) or _GUEST
    for name in ("RECHAIN_ENVIRONMENT", "RECHAIN_COMPAT"):
        environment.pop(name, None)
    given = environment.get("PYTHONPATH", "").split(":")
    path = [_GUEST]
    if found["prefix"]:
        # That must be there before Python starts, or it would take it for missing for good.
        site = site_of(packages, found)
        os.makedirs(site, exist_ok=True)
        others = environment.get("PATH", os.defpath)
        if activation := found["activation"]:
            unset = {name: value for name, value in activation.items() if name not in own}
            environment.update({**unset, "PATH": others})
        else:
            environment["VIRTUAL_ENV"] = found["prefix"]
        environment["PATH"] = f"{programs(found, packages)}:{others}"
        environment["RECHAIN_ENVIRONMENT"] = found["prefix"]
        environment["RECHAIN_PACKAGES"] = packages
        path += [_INSTALLER, site]
    compat = found["lock"].get("compat")
    if compat:
        environment["RECHAIN_COMPAT"] = " ".join(compat)
    if hooked or compat or found["prefix"]:
        path.insert(0, _HOOKS)
    path += [one for one in given if one and not one.startswith((_GUEST, installed))]
    environment["PYTHONPATH"] = ":".join(path)
    # Where a script dies in C, the log has the stack: a signal has no traceback.
    environment.setdefault("PYTHONFAULTHANDLER", "1")


def site_of(packages: str, found: dict[str, Any]) -> str:
    """Return the folder in which Python looks for what the script installs."""
    version = ".".join(found["lock"]["interpreter"]["version"].split(".")[:2])
    return f"{packages}/lib/python{version}/site-packages"


def programs(found: dict[str, Any], packages: str) -> str:
    """Return what goes in front of a script's PATH: nothing if its environment is not stored.

    Args:
        found: the environment, as `store.find` returned it.
        packages: where packages go that the script installs.
    """
    if not found["prefix"]:
        return ""
    activation = found["activation"]
    bins = f"{activation['PATH']}:{_COMMANDS}" if activation else found["bin"]
    return f"{packages}/bin:{bins}"


def contain(
    environment: dict[str, str], own: Collection[str], gpus: list[dict[str, str]] | None
) -> None:
    """Take from a script's variables what would lead programs of its container out of it.

    Args:
        environment: all the script's variables.
        own: the variables that the user sets.
        gpus: those of a Slurm job. Slurm hides others from the job and not from a container, where
            numbers are therefore others.
    """
    for name in {*_LEADING_OUT} - {*own}:
        environment.pop(name, None)
    if gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpu["uuid"] for gpu in gpus)


def of_data(data: list[dict[str, Any]]) -> dict[str, str]:
    """Return the variables that tell of inputs and outputs.

    Args:
        data: where they are, as the process that brought them noted it.
    """
    variables = {}
    for one in data:
        variables[one["variable"]] = one["value"]
        if one["name"] == "CHAINER_DATASET_ROOT":
            variables[one["name"]] = one["value"]
    datasets = [one for one in data if one["kind"] == "dataset"]
    if datasets:
        variables["AZUREML_DATASET_ENVIRONMENT_VARS"] = ",".join(
            f"{one['name']}:{one['mode']}" for one in datasets if "sources" in one
        )
        variables["AZUREML_DATASET_FILE_OUTPUTS"] = ";".join(
            one["name"] for one in datasets if "sources" not in one
        )
    return variables


def of_run(job: dict[str, Any], run: RunPaths, attempt: AttemptPaths) -> dict[str, str]:
    """Return the variables by which a script knows its run."""
    # .../<workspace>/experiments/<experiment>/<run id>
    workspace = os.path.dirname(os.path.dirname(os.path.dirname(run.root)))
    return {
        "RECHAIN_RUN_ID": job["run_id"],
        "RECHAIN_RUN_DIR": run.root,
        "RECHAIN_EXPERIMENT": job["experiment"],
        "RECHAIN_WORKSPACE": workspace,
        "RECHAIN_ATTEMPT": f"{job['run_id']}/{attempt.number}",
        "AZUREML_RUN_ID": job["run_id"],
        "AZUREML_ARM_SUBSCRIPTION": "local",
        "AZUREML_ARM_RESOURCEGROUP": "local",
        "AZUREML_ARM_WORKSPACE_NAME": job["workspace"],
        "AZUREML_ARM_PROJECT_NAME": job["experiment"],
        "AZUREML_EXPERIMENT_ID": job["experiment"],
        "AZUREML_OUTPUT_DIRECTORY": "./outputs",
    }
