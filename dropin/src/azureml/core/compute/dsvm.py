"""v1's `azureml.core.compute.dsvm`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

DsvmCompute = planned(__name__, "DsvmCompute", _MEANWHILE)

__all__ = ["DsvmCompute"]
