"""v1's `azureml.data`."""

from __future__ import annotations

from rechain.data import FileDataset, OutputFileDatasetConfig
from rechain.planned import planned

_MEANWHILE = "Use datasets of files: Dataset.File.from_files(...)."

DataType = planned(__name__, "DataType", _MEANWHILE)
DatacacheStore = planned(__name__, "DatacacheStore", _MEANWHILE)
HDFSOutputDatasetConfig = planned(__name__, "HDFSOutputDatasetConfig", _MEANWHILE)
LinkFileOutputDatasetConfig = planned(__name__, "LinkFileOutputDatasetConfig", _MEANWHILE)
LinkTabularOutputDatasetConfig = planned(__name__, "LinkTabularOutputDatasetConfig", _MEANWHILE)
TabularDataset = planned(__name__, "TabularDataset", _MEANWHILE)

__all__ = [
    "DataType",
    "DatacacheStore",
    "FileDataset",
    "HDFSOutputDatasetConfig",
    "LinkFileOutputDatasetConfig",
    "LinkTabularOutputDatasetConfig",
    "OutputFileDatasetConfig",
    "TabularDataset",
]
