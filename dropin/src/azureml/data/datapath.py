"""v1's `azureml.data.datapath`."""

from __future__ import annotations

from rechain.data import DataPath, DataPathComputeBinding

__all__ = ["DataPath", "DataPathComputeBinding"]
