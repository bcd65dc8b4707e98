"""v1's `azureml.core.image.image`."""

from __future__ import annotations

from azureml.core.image import Image

__all__ = ["Image"]
