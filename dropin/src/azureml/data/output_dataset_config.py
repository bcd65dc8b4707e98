"""v1's `azureml.data.output_dataset_config`."""

from __future__ import annotations

from rechain.data import OutputFileDatasetConfig

__all__ = ["OutputFileDatasetConfig"]
