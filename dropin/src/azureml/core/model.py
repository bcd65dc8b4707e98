"""v1's `azureml.core.model`."""

from __future__ import annotations

from rechain import Model
from rechain.planned import planned

_MEANWHILE = "Load the files with `Model.get_model_path`, and serve them with a program of yours."

InferenceConfig = planned(__name__, "InferenceConfig", _MEANWHILE)

__all__ = ["InferenceConfig", "Model"]
