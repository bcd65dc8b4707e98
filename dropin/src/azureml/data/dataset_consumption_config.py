"""v1's `azureml.data.dataset_consumption_config`."""

from __future__ import annotations

from rechain.data import DatasetConsumptionConfig

__all__ = ["DatasetConsumptionConfig"]
