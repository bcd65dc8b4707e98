"""v1's `azureml.train.estimator`."""

from __future__ import annotations

from rechain.estimator import Estimator, MMLBaseEstimator, Mpi
from rechain.estimator.base import _FrameworkBaseEstimator
from rechain.estimator.distributed import Gloo, Nccl, ParameterServer
from rechain.runconfig import RunConfiguration

MMLBaseEstimatorRunConfig = RunConfiguration

__all__ = [
    "Estimator",
    "Gloo",
    "MMLBaseEstimator",
    "MMLBaseEstimatorRunConfig",
    "Mpi",
    "Nccl",
    "ParameterServer",
    "_FrameworkBaseEstimator",
]
