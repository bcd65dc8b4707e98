"""v1's `azureml.core.compute.remote`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

RemoteCompute = planned(__name__, "RemoteCompute", _MEANWHILE)

__all__ = ["RemoteCompute"]
