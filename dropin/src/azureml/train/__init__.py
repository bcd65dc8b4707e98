"""v1's `azureml.train`."""

from __future__ import annotations

__all__ = []
