"""v1's `azureml.core.experiment`."""

from __future__ import annotations

from rechain.workspace import Experiment
from rechain.workspace.experiment import ViewType

__all__ = ["Experiment", "ViewType"]
