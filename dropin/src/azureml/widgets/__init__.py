"""v1's `azureml.widgets`."""

from __future__ import annotations

from rechain.workspace.notices import RunDetails

__all__ = ["RunDetails"]
