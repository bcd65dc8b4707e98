"""v1's `azureml.data`."""

from __future__ import annotations

from rechain.data import FileDataset, OutputFileDatasetConfig

__all__ = ["FileDataset", "OutputFileDatasetConfig"]
