"""v1's `azureml.core.dataset`."""

from __future__ import annotations

from rechain.data import Dataset

__all__ = ["Dataset"]
