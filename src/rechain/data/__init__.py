"""Data by name: the datastores of a workspace, and what points into them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.data.data_path import DataPath as DataPath
    from rechain.data.data_path import DataPathComputeBinding as DataPathComputeBinding
    from rechain.data.data_reference import DataReference as DataReference
    from rechain.data.dataset import Dataset as Dataset
    from rechain.data.dataset import DatasetConsumptionConfig as DatasetConsumptionConfig
    from rechain.data.dataset import FileDataset as FileDataset
    from rechain.data.datastore import Datastore as Datastore
    from rechain.data.output import OutputFileDatasetConfig as OutputFileDatasetConfig

_HOME = {
    "DataPath": "data_path",
    "DataPathComputeBinding": "data_path",
    "DataReference": "data_reference",
    "Dataset": "dataset",
    "DatasetConsumptionConfig": "dataset",
    "Datastore": "datastore",
    "FileDataset": "dataset",
    "OutputFileDatasetConfig": "output",
}

__all__ = [
    "DataPath",
    "DataPathComputeBinding",
    "DataReference",
    "Dataset",
    "DatasetConsumptionConfig",
    "Datastore",
    "FileDataset",
    "OutputFileDatasetConfig",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'rechain.data' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"rechain.data.{_HOME[name]}"), name)
