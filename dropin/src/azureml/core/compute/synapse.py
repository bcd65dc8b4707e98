"""v1's `azureml.core.compute.synapse`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

SynapseCompute = planned(__name__, "SynapseCompute", _MEANWHILE)

__all__ = ["SynapseCompute"]
