"""v1's `azureml.core.container_registry`."""

from __future__ import annotations

from rechain.runconfig.container_registry import ContainerRegistry, RegistryIdentity

__all__ = ["ContainerRegistry", "RegistryIdentity"]
