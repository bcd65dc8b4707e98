"""v1's `azureml.data.abstract_datastore`."""

from __future__ import annotations

from rechain.data import Datastore

AbstractDatastore = Datastore

__all__ = ["AbstractDatastore"]
