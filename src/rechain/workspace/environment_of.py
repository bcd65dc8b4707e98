"""The environment of a run, in v1's words."""

from __future__ import annotations

from rechain.record import jsonl
from rechain.runconfig.conda_dependencies import CondaDependencies
from rechain.runconfig.environment import Environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.record.paths import RunPaths

__all__ = ["environment_of"]


def environment_of(job: dict[str, Any], paths: RunPaths) -> Environment:
    """Return the environment that a run has.

    Where it is resolved, that is each package in its exact version; else what is asked for.

    Args:
        job: the run's `job.json`.
        paths: the run.
    """
    asked = job["environment"]
    made = Environment(asked.get("recipe") or job["run_id"])
    made.python.user_managed_dependencies = asked["kind"] == "user-managed"
    if asked["kind"] == "user-managed":
        made.python.interpreter_path = asked["python"]
        return made
    dependencies = made.python.conda_dependencies = CondaDependencies()
    try:
        lock = jsonl.read(paths.lock)
    except (OSError, ValueError):  # it has not come to that
        if asked["python"]:
            dependencies.set_python_version(asked["python"])
        dependencies.set_pip_requirements(asked["pip"])
        made.as_of = asked.get("as_of")
        return made
    dependencies.set_python_version(lock["interpreter"]["version"])
    conda = lock.get("conda", {"channels": (), "packages": ()})
    for channel in conda["channels"]:
        dependencies.add_channel(channel)
    for package in conda["packages"]:
        if package["name"] != "python":
            dependencies.add_conda_package("{name}={version}={build}".format_map(package))
    dependencies.set_pip_requirements([_requirement(package) for package in lock["packages"]])
    return made


def _requirement(package: dict[str, str]) -> str:
    if package.get("url"):
        return f"{package['name']} @ {package['url']}"
    return f"{package['name']}=={package['version']}"
