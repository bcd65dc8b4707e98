"""v1's `azureml.core.compute.datafactory`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

DataFactoryCompute = planned(__name__, "DataFactoryCompute", _MEANWHILE)

__all__ = ["DataFactoryCompute"]
