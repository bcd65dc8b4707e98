"""v1's `azureml.data.data_reference`."""

from __future__ import annotations

from rechain.data import DataReference

__all__ = ["DataReference"]
