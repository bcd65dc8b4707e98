"""v1's `azureml.pipeline`."""

from __future__ import annotations

__all__ = []
