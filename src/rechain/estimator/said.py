"""What an estimator says in the user's logging, by the loggers that v1 has for it.

v1's warnings come before its checks, most of them, so also where these fail. Not among them: that
an estimator is deprecated, which is one line of INFO here, and that a framework's default version
is taken where an environment is given, whose own version is what runs.
"""

from __future__ import annotations

import sys

from rechain.estimator.validation import parameter_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Given = dict[str, Any]

__all__ = ["OF_FRAMEWORKS", "before", "log", "needs_version", "of_image", "of_replaced", "old"]

OF_FRAMEWORKS = "azureml.train.estimator._framework_base_estimator"
_OF_ALL = "root"


def log(level: str, logger: str, text: str, *values: object) -> None:
    """Say something; values that are functions are called if anybody may hear it."""
    # Before anybody has imported logging nobody can have asked for INFO, and importing it costs
    # as much as all the rest of making an estimator.
    if level == "INFO" and "logging" not in sys.modules:
        return
    import logging

    number, to = getattr(logging, level), logging.getLogger(None if logger == _OF_ALL else logger)
    if to.isEnabledFor(number):
        to.log(number, text, *(value() if callable(value) else value for value in values))


def old(text: str, logger: str = _OF_ALL) -> None:
    """Say that v1 has a newer name for something.

    It warns those who speak v1, as v1 did. Who writes `from rechain import Chainer` has chosen.
    """
    log("WARNING" if "azureml" in sys.modules else "INFO", logger, text)


def before(given: Given, framework: str | None) -> None:
    """Say what v1 says of an estimator's parameters before it checks that they fit together.

    Args:
        given: the parameters, each checked by itself.
        framework: the estimator's framework, if it is for one.
    """
    if framework is not None:
        _of_framework(given, framework)
    for kind in ("conda_dependencies", "pip_requirements"):
        _of_old_name(given, f"{kind}_file")
    if given["process_count_per_node"] != 1:
        old("process_count_per_node is an old name: distributed_training=Mpi(...) says it too.")
        if not given["distributed_backend"]:
            old(
                "process_count_per_node counts only beside distributed_backend, an old name too: "
                "say it in distributed_training=Mpi(...)."
            )
    if not given["use_docker"]:
        old("use_docker=False is old: environment_definition says it too.")
    if given["distributed_backend"]:
        old("distributed_backend is an old name: distributed_training says the same and more.")


def of_image(given: Given) -> None:
    """Say that the image has a newer name."""
    images = given["custom_docker_image"], given["custom_docker_base_image"]
    if images[1] and not images[0]:
        text = "custom_docker_base_image is an old name: custom_docker_image says it too."
        old(text, "azureml.train._estimator_helper")


def needs_version(given: Given) -> bool:
    """Return whether a framework's version has to be chosen, since nobody named one."""
    return (
        not given["framework_version"]
        and not given["user_managed"]
        and given["environment_definition"] is None
    )


def of_replaced(given: Given, framework: str, version: str) -> None:
    """Say which of a framework's packages the user's replace.

    Args:
        given: the estimator's parameters, checked.
        framework: its framework.
        version: the framework's version.
    """
    asked = [*given["conda_packages"], *given["pip_packages"]]
    if not asked or given["environment_definition"] or given["_enable_optimized_mode"]:
        return
    from rechain.runconfig import curated
    from rechain.runconfig.packages import base_name

    kind = "GPU" if given["use_gpu"] else "CPU"
    _, _, packages = curated.content(f"AzureML-{framework}-{version}-{kind}")
    theirs = {base_name(item.rpartition("::")[2]) for item in asked}
    names = [base_name(item) for item in packages if base_name(item) in theirs]
    names = [name for name in names if name != "azureml-defaults"]  # which v1 adds to all
    if names:
        text = "Named by you, so taken in place of the framework's own: %s."
        log("WARNING", OF_FRAMEWORKS, text, ", ".join(names))


def _of_framework(given: Given, framework: str) -> None:
    named = parameter_of(given, "conda_dependencies_file")
    whose = [name for name in (named, "environment_definition") if given[name]]
    if whose:
        text = f"{framework} is installed only if {' or '.join(whose)} says so."
        log("WARNING", OF_FRAMEWORKS, text)
    if given["_enable_optimized_mode"]:
        log("WARNING", OF_FRAMEWORKS, "_enable_optimized_mode was only ever a preview in v1.")


def _of_old_name(given: Given, name: str) -> None:
    if not given[f"{name}_path"]:
        return
    if given[name]:
        text = f"{name} is read; {name}_path, its old name, is given too and is not."
        log("WARNING", _OF_ALL, text)
    else:
        old(f"{name}_path is an old name of {name}.")
