"""v1's `azureml.core.compute.kusto`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

KustoCompute = planned(__name__, "KustoCompute", _MEANWHILE)

__all__ = ["KustoCompute"]
