"""v1's `azureml.core.workspace`."""

from __future__ import annotations

from rechain.workspace import Workspace

__all__ = ["Workspace"]
