"""v1's `azureml.train.estimator._mml_base_estimator`."""

from __future__ import annotations

from rechain.estimator import MMLBaseEstimator
from rechain.runconfig import RunConfiguration

MMLBaseEstimatorRunConfig = RunConfiguration

__all__ = ["MMLBaseEstimator", "MMLBaseEstimatorRunConfig"]
