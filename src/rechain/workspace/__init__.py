"""Workspace, Experiment, Run: handles that read and write through the record."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.workspace.compute_target import AmlCompute as AmlCompute
    from rechain.workspace.compute_target import ComputeTarget as ComputeTarget
    from rechain.workspace.experiment import Experiment as Experiment
    from rechain.workspace.run import Run as Run
    from rechain.workspace.slurm_compute import SlurmCompute as SlurmCompute
    from rechain.workspace.workspace import Workspace as Workspace

__all__ = ["AmlCompute", "ComputeTarget", "Experiment", "Run", "SlurmCompute", "Workspace"]

_HOME = {
    "AmlCompute": "compute_target",
    "ComputeTarget": "compute_target",
    "SlurmCompute": "slurm_compute",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'rechain.workspace' has no attribute {name!r}")
    import importlib

    return getattr(
        importlib.import_module(f"rechain.workspace.{_HOME.get(name, name.lower())}"), name
    )
