"""The `ScriptRunConfig` that says what an estimator says."""

from __future__ import annotations

import copy

from rechain.estimator import arguments, inputs
from rechain.estimator.script_run_config import ScriptRunConfig
from rechain.estimator.validation import is_notebook, parameter_of
from rechain.runconfig.conda_dependencies import CondaDependencies
from rechain.runconfig.environment import Environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.estimator.base import MMLBaseEstimator

__all__ = ["as_script_run_config"]


def as_script_run_config(estimator: MMLBaseEstimator) -> ScriptRunConfig:
    """Return a description of the same run; see `MMLBaseEstimator.to_script_run_config`."""
    changed, argv = estimator._as_changed()
    given = changed._given
    run = copy.deepcopy(changed.run_config)
    if given["environment_definition"] is None:
        run.environment = _environment(changed)
    if not changed._asks_container and not given["custom_docker_image"]:
        run.docker.use_docker = False  # there it is no default: who says True, means it
    if argv is not None:
        run.arguments = list(argv)
    elif is_notebook(given["entry_script"]):  # whose parameters are written in another way
        run.arguments = list(arguments.to_notebook_argv(given["script_params"]))
    made = ScriptRunConfig(changed.source_directory, run_config=run)
    made._resumed = given["resume_from"]
    made._references = {
        name: value for name, value in inputs.find(given).items() if hasattr(value, "mode")
    }
    return made


def _environment(estimator: MMLBaseEstimator) -> Environment:
    """Return the environment with what the user asks for.

    v1's choices of a Python and an MPI are left out: Rechain makes its own, as for the estimator.
    """
    asked = estimator._given
    made = Environment("default-environment")
    theirs = estimator.run_config.environment
    made.docker.base_image = theirs.docker.base_image
    made.docker.base_image_registry = copy.copy(theirs.docker.base_image_registry)
    made.python.user_managed_dependencies = asked["user_managed"]
    if asked["user_managed"]:
        return made
    own = theirs.python.conda_dependencies
    if asked[parameter_of(asked, "conda_dependencies_file")]:
        made.python.conda_dependencies = copy.deepcopy(own)
        return made
    made.python.conda_dependencies = dependencies = CondaDependencies()
    for package in list(dependencies.conda_packages):  # v1's Python
        dependencies.remove_conda_package(package)
    for channel in list(dependencies.conda_channels):  # v1's, too: conda's settings say which
        dependencies.remove_channel(channel)
    for package in asked["conda_packages"]:
        dependencies.add_conda_package(package)
    framework = estimator.FRAMEWORK_NAME
    pins = [f"{framework.lower()}=={estimator._framework_version}"] if framework else []
    if asked["use_gpu"]:
        pins += [item for item in own.pip_packages if item.startswith("cupy")]
    named = [item for item in estimator._pip if item not in pins]
    dependencies.set_pip_requirements([*pins, *named])
    return made
