"""v1's `azureml.core.keyvault`."""

from __future__ import annotations

from rechain.workspace.keyvault import Keyvault

__all__ = ["Keyvault"]
