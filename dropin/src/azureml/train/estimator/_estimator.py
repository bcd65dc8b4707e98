"""v1's `azureml.train.estimator._estimator`."""

from __future__ import annotations

from rechain.estimator import Estimator

__all__ = ["Estimator"]
