"""v1's `azureml.core.compute.aks`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

AksCompute = planned(__name__, "AksCompute", _MEANWHILE)

__all__ = ["AksCompute"]
