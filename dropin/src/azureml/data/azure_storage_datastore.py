"""v1's `azureml.data.azure_storage_datastore`: a datastore is one here, wherever it lies."""

from __future__ import annotations

from rechain.data import Datastore

AbstractAzureStorageDatastore = Datastore
AzureBlobDatastore = Datastore
AzureFileDatastore = Datastore

__all__ = ["AbstractAzureStorageDatastore", "AzureBlobDatastore", "AzureFileDatastore"]
