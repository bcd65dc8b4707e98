"""v1's `azureml._common`."""

from __future__ import annotations

__all__ = []
