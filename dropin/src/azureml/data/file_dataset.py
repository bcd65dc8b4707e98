"""v1's `azureml.data.file_dataset`."""

from __future__ import annotations

from rechain.data import FileDataset

__all__ = ["FileDataset"]
