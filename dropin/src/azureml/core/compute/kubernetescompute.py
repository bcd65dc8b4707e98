"""v1's `azureml.core.compute.kubernetescompute`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

KubernetesCompute = planned(__name__, "KubernetesCompute", _MEANWHILE)

__all__ = ["KubernetesCompute"]
