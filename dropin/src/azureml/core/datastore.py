"""v1's `azureml.core.datastore`."""

from __future__ import annotations

from rechain.data import Datastore

__all__ = ["Datastore"]
