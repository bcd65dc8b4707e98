"""v1's `azureml.train.estimator`."""

from __future__ import annotations

from rechain.estimator import Estimator, MMLBaseEstimator, Mpi
from rechain.estimator.base import _FrameworkBaseEstimator
from rechain.estimator.distributed import Gloo, Nccl, ParameterServer
from rechain.planned import planned

_MEANWHILE = "Use Chainer(...), or run the script with the ScriptRunConfig of azureml.core."

MMLBaseEstimatorRunConfig = planned(__name__, "MMLBaseEstimatorRunConfig", _MEANWHILE)

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
