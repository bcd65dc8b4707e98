"""v1's `azureml.core.compute.batch`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

BatchCompute = planned(__name__, "BatchCompute", _MEANWHILE)

__all__ = ["BatchCompute"]
