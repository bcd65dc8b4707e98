"""v1's `azureml.train.sklearn`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Run the script with the Estimator of azureml.train.estimator, or a ScriptRunConfig."

SKLearn = planned(__name__, "SKLearn", _MEANWHILE)

__all__ = ["SKLearn"]
