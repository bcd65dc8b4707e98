"""v1's `azureml.train.hyperdrive.runconfig`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Submit one run for each set of parameters, in a loop, and compare their metrics."

HyperDriveConfig = planned(__name__, "HyperDriveConfig", _MEANWHILE)
HyperDriveRunConfig = planned(__name__, "HyperDriveRunConfig", _MEANWHILE)
PrimaryMetricGoal = planned(__name__, "PrimaryMetricGoal", _MEANWHILE)

__all__ = ["HyperDriveConfig", "HyperDriveRunConfig", "PrimaryMetricGoal"]
