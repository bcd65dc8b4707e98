"""The description of a run in v1's words: plain objects, their checks and their files."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.runconfig.conda_dependencies import CondaDependencies as CondaDependencies
    from rechain.runconfig.container_registry import ContainerRegistry as ContainerRegistry
    from rechain.runconfig.distributed import MpiConfiguration as MpiConfiguration
    from rechain.runconfig.docker import DockerBuildContext as DockerBuildContext
    from rechain.runconfig.docker import DockerConfiguration as DockerConfiguration
    from rechain.runconfig.environment import Environment as Environment
    from rechain.runconfig.run_configuration import RunConfiguration as RunConfiguration

_HOME = {
    "CondaDependencies": "conda_dependencies",
    "ContainerRegistry": "container_registry",
    "DockerBuildContext": "docker",
    "DockerConfiguration": "docker",
    "Environment": "environment",
    "MpiConfiguration": "distributed",
    "RunConfiguration": "run_configuration",
}

__all__ = [
    "CondaDependencies",
    "ContainerRegistry",
    "DockerBuildContext",
    "DockerConfiguration",
    "Environment",
    "MpiConfiguration",
    "RunConfiguration",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'rechain.runconfig' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"rechain.runconfig.{_HOME[name]}"), name)
