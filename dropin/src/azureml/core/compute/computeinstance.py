"""v1's `azureml.core.compute.computeinstance`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

ComputeInstance = planned(__name__, "ComputeInstance", _MEANWHILE)

__all__ = ["ComputeInstance"]
