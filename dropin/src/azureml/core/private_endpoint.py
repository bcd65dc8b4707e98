"""v1's `azureml.core.private_endpoint`."""

from __future__ import annotations

from azureml.core import PrivateEndPoint, PrivateEndPointConfig

__all__ = ["PrivateEndPoint", "PrivateEndPointConfig"]
