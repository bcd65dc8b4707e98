"""v1's `azureml.data.tabular_dataset`."""

from __future__ import annotations

from azureml.data import TabularDataset

__all__ = ["TabularDataset"]
