"""v1's `azureml.pipeline.core`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Submit the steps one after the other, each as a run of its own."

Pipeline = planned(__name__, "Pipeline", _MEANWHILE)
PipelineData = planned(__name__, "PipelineData", _MEANWHILE)
PipelineParameter = planned(__name__, "PipelineParameter", _MEANWHILE)
PipelineRun = planned(__name__, "PipelineRun", _MEANWHILE)
PublishedPipeline = planned(__name__, "PublishedPipeline", _MEANWHILE)
StepSequence = planned(__name__, "StepSequence", _MEANWHILE)

__all__ = [
    "Pipeline",
    "PipelineData",
    "PipelineParameter",
    "PipelineRun",
    "PublishedPipeline",
    "StepSequence",
]
