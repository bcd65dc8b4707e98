"""v1's `azureml.data.dataset_factory`."""

from __future__ import annotations

from rechain.data.dataset import FileDatasetFactory

__all__ = ["FileDatasetFactory"]
