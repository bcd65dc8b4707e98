"""v1's `azureml.core.script_run_config`."""

from __future__ import annotations

from rechain.estimator.script_run_config import ScriptRunConfig

__all__ = ["ScriptRunConfig"]
