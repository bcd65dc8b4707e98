"""v1's `azureml.core.compute`."""

from __future__ import annotations

from rechain.workspace import AmlCompute, ComputeTarget

__all__ = ["AmlCompute", "ComputeTarget"]
