"""v1's `azureml.train._distributed_training`."""

from __future__ import annotations

from rechain.estimator.distributed import (
    Gloo,
    Mpi,
    Nccl,
    ParameterServer,
    _DistributedTraining,
)

__all__ = ["Gloo", "Mpi", "Nccl", "ParameterServer", "_DistributedTraining"]
