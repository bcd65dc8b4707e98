"""v1's `azureml.core.script_run`."""

from __future__ import annotations

from rechain.workspace import Run as ScriptRun

__all__ = ["ScriptRun"]
