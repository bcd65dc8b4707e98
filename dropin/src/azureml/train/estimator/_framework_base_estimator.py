"""v1's `azureml.train.estimator._framework_base_estimator`."""

from __future__ import annotations

from rechain.estimator.base import _FrameworkBaseEstimator

__all__ = ["_FrameworkBaseEstimator"]
