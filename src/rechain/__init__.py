"""Rechain: run a Chainer training job, described once, recorded, reproducible.

The public names are imported on first use: `import rechain` itself loads nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.data import DataPath as DataPath
    from rechain.data import Dataset as Dataset
    from rechain.data import Datastore as Datastore
    from rechain.data import OutputFileDatasetConfig as OutputFileDatasetConfig
    from rechain.estimator import Chainer as Chainer
    from rechain.estimator import Estimator as Estimator
    from rechain.estimator import Mpi as Mpi
    from rechain.estimator import ScriptRunConfig as ScriptRunConfig
    from rechain.job.variables import Secret as Secret
    from rechain.runconfig import CondaDependencies as CondaDependencies
    from rechain.runconfig import ContainerRegistry as ContainerRegistry
    from rechain.runconfig import DockerConfiguration as DockerConfiguration
    from rechain.runconfig import Environment as Environment
    from rechain.runconfig import MpiConfiguration as MpiConfiguration
    from rechain.runconfig import RunConfiguration as RunConfiguration
    from rechain.workspace import AmlCompute as AmlCompute
    from rechain.workspace import ComputeTarget as ComputeTarget
    from rechain.workspace import Experiment as Experiment
    from rechain.workspace import Run as Run
    from rechain.workspace import SlurmCompute as SlurmCompute
    from rechain.workspace import Workspace as Workspace
    from rechain.workspace.model import Model as Model

__version__ = "0.1.0"

_HOME = {
    "AmlCompute": "rechain.workspace",
    "Chainer": "rechain.estimator",
    "ComputeTarget": "rechain.workspace",
    "CondaDependencies": "rechain.runconfig",
    "ContainerRegistry": "rechain.runconfig",
    "DataPath": "rechain.data",
    "Dataset": "rechain.data",
    "Datastore": "rechain.data",
    "DockerConfiguration": "rechain.runconfig",
    "Environment": "rechain.runconfig",
    "Estimator": "rechain.estimator",
    "Experiment": "rechain.workspace",
    "Model": "rechain.workspace.model",
    "Mpi": "rechain.estimator",
    "MpiConfiguration": "rechain.runconfig",
    "OutputFileDatasetConfig": "rechain.data",
    "Run": "rechain.workspace",
    "RunConfiguration": "rechain.runconfig",
    "ScriptRunConfig": "rechain.estimator",
    "Secret": "rechain.job.variables",
    "SlurmCompute": "rechain.workspace",
    "Workspace": "rechain.workspace",
}

__all__ = [
    "AmlCompute",
    "Chainer",
    "ComputeTarget",
    "CondaDependencies",
    "ContainerRegistry",
    "DataPath",
    "Dataset",
    "Datastore",
    "DockerConfiguration",
    "Environment",
    "Estimator",
    "Experiment",
    "Model",
    "Mpi",
    "MpiConfiguration",
    "OutputFileDatasetConfig",
    "Run",
    "RunConfiguration",
    "ScriptRunConfig",
    "Secret",
    "SlurmCompute",
    "Workspace",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'rechain' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
