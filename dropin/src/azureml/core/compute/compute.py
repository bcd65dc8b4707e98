"""v1's `azureml.core.compute.compute`."""

from __future__ import annotations

from rechain.workspace import ComputeTarget

__all__ = ["ComputeTarget"]
