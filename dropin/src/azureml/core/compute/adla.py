"""v1's `azureml.core.compute.adla`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

AdlaCompute = planned(__name__, "AdlaCompute", _MEANWHILE)

__all__ = ["AdlaCompute"]
