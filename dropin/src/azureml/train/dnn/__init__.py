"""v1's `azureml.train.dnn`."""

from __future__ import annotations

from rechain.estimator import Chainer, Mpi
from rechain.estimator.distributed import Gloo, Nccl, ParameterServer
from rechain.planned import planned

_MEANWHILE = "Use Chainer(...), or run the script with the ScriptRunConfig of azureml.core."

PyTorch = planned(__name__, "PyTorch", _MEANWHILE)
TensorFlow = planned(__name__, "TensorFlow", _MEANWHILE)

__all__ = ["Chainer", "Gloo", "Mpi", "Nccl", "ParameterServer", "PyTorch", "TensorFlow"]
