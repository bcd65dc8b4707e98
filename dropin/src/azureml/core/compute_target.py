"""v1's `azureml.core.compute_target`."""

from __future__ import annotations

from rechain.exceptions import ComputeTargetException, UserErrorException

__all__ = ["ComputeTargetException", "UserErrorException"]
