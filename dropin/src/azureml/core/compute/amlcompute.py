"""v1's `azureml.core.compute.amlcompute`."""

from __future__ import annotations

from rechain.workspace import AmlCompute

__all__ = ["AmlCompute"]
