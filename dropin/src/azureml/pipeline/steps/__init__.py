"""v1's `azureml.pipeline.steps`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Submit the steps one after the other, each as a run of its own."

EstimatorStep = planned(__name__, "EstimatorStep", _MEANWHILE)
HyperDriveStep = planned(__name__, "HyperDriveStep", _MEANWHILE)
MpiStep = planned(__name__, "MpiStep", _MEANWHILE)
ParallelRunConfig = planned(__name__, "ParallelRunConfig", _MEANWHILE)
ParallelRunStep = planned(__name__, "ParallelRunStep", _MEANWHILE)
PythonScriptStep = planned(__name__, "PythonScriptStep", _MEANWHILE)

__all__ = [
    "EstimatorStep",
    "HyperDriveStep",
    "MpiStep",
    "ParallelRunConfig",
    "ParallelRunStep",
    "PythonScriptStep",
]
