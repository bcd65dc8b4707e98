"""v1's `azureml.core.compute.databricks`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

DatabricksCompute = planned(__name__, "DatabricksCompute", _MEANWHILE)

__all__ = ["DatabricksCompute"]
