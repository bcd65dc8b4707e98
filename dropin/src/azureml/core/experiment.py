"""v1's `azureml.core.experiment`."""

from __future__ import annotations

from rechain.workspace import Experiment

__all__ = ["Experiment"]
