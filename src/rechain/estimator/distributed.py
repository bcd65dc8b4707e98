"""How the processes of a distributed training are laid out."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Gloo", "Mpi", "Nccl", "ParameterServer", "distribution"]


class Mpi:
    """A training whose processes speak MPI with each other.

    Args:
        process_count_per_node: how many processes each node runs.
    """

    def __init__(self, process_count_per_node: int = 1) -> None:
        self.process_count_per_node = process_count_per_node

    def __repr__(self) -> str:
        return f"Mpi(process_count_per_node={self.process_count_per_node!r})"

    def __str__(self) -> str:
        return "mpi"


class Gloo:
    """How v1's PyTorch estimator spread a training; Chainer does not take it."""


class Nccl:
    """How v1's PyTorch estimator spread a training; Chainer does not take it."""


class ParameterServer:
    """How v1's TensorFlow estimator spread a training; Chainer does not take it.

    Args:
        worker_count: how many workers there are.
        parameter_server_count: how many parameter servers there are.
    """

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count = worker_count
        self.parameter_server_count = parameter_server_count


def distribution(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `distribution` of a job: how many ranks, where, and what they speak.

    Args:
        given: an estimator's parameters, checked. Of two counts the object's wins, as in v1.
    """
    training, backend = given["distributed_training"], given["distributed_backend"]
    if training is not None:
        # `MpiConfiguration` is what v1 has in place of `Mpi`.
        kinds = {"Mpi": "Mpi", "MpiConfiguration": "IntelMpi"}
        communicator = kinds.get(type(training).__name__, "ParallelTask")
        count = getattr(training, "process_count_per_node", 1)
    elif backend:
        communicator, count = "IntelMpi", given["process_count_per_node"]
    else:
        communicator, count = "None", 1
    return {
        "nodes": given["node_count"],
        "processes_per_node": count,
        "communicator": communicator,
    }
