"""v1's `azureml.train.hyperdrive.run`."""

from __future__ import annotations

from azureml.train.hyperdrive.runconfig import PrimaryMetricGoal
from rechain.planned import planned

_MEANWHILE = "Submit one run for each set of parameters, in a loop, and compare their metrics."

HyperDriveRun = planned(__name__, "HyperDriveRun", _MEANWHILE)

__all__ = ["HyperDriveRun", "PrimaryMetricGoal"]
