"""v1's `azureml.core.model`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = (
    "Load the files of a run with `Run.download_file`, and serve them with a program of yours."
)

InferenceConfig = planned(__name__, "InferenceConfig", _MEANWHILE)
Model = planned(__name__, "Model", _MEANWHILE)

__all__ = ["InferenceConfig", "Model"]
