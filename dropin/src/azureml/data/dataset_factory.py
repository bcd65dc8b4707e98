"""v1's `azureml.data.dataset_factory`."""

from __future__ import annotations

from rechain.data.dataset import FileDatasetFactory
from rechain.planned import planned

_MEANWHILE = "Use datasets of files: Dataset.File.from_files(...)."

DataType = planned(__name__, "DataType", _MEANWHILE)
TabularDatasetFactory = planned(__name__, "TabularDatasetFactory", _MEANWHILE)

__all__ = [
    "DataType",
    "FileDatasetFactory",
    "TabularDatasetFactory",
]
