"""v1's `azureml.core.compute.amlcompute`."""

from __future__ import annotations

from rechain.workspace import AmlCompute
from rechain.workspace.compute_status import AmlComputeStatus

__all__ = ["AmlCompute", "AmlComputeStatus"]
