"""v1's `azureml.core.image.container`."""

from __future__ import annotations

from azureml.core.image import ContainerImage

__all__ = ["ContainerImage"]
