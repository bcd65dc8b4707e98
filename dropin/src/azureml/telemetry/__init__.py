"""v1's `azureml.telemetry`."""

from __future__ import annotations

from rechain.workspace.notices import set_diagnostics_collection

__all__ = ["set_diagnostics_collection"]
