"""How the processes of a distributed training are laid out."""

from __future__ import annotations

from abc import ABC

from rechain.exceptions import TrainingException
from rechain.runconfig import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Gloo", "Mpi", "Nccl", "ParameterServer", "distribution"]


class _DistributedTraining(ABC):
    """How the processes of an estimator's training speak with each other."""

    # The estimators of v1 that take it, and what v1 calls it.
    _TAKEN_BY: tuple[str, ...] = ("pytorch", "estimator")
    _WORDS: str

    def __init__(self) -> None:
        from rechain.estimator import said

        name = type(self).__name__
        text = f"{name} is for estimators: a ScriptRunConfig takes a configuration object instead."
        said.old(text, "azureml.train._distributed_training")

    @classmethod
    def _of(cls, **values: int) -> Any:
        """Return one that Rechain makes itself: nobody is told of old names."""
        made = object.__new__(cls)
        made.__dict__.update(values)
        return made

    def validate(self, estimator_name: str) -> None:
        """Check that an estimator trains in this way.

        Args:
            estimator_name: the estimator's name or framework, such as `Chainer`.

        Raises:
            TrainingException: it does not.
        """
        if estimator_name.lower() not in self._TAKEN_BY:
            raise TrainingException(
                f"estimator_name is {estimator_name!r}; {type(self).__name__} is for "
                f"{', '.join(self._TAKEN_BY)}."
            )

    def __str__(self) -> str:
        return self._WORDS


class Mpi(_DistributedTraining):
    """A training whose processes speak MPI with each other.

    Args:
        process_count_per_node: how many processes each node runs.
    """

    _TAKEN_BY = ("pytorch", "tensorflow", "chainer", "estimator", "lightgbm")
    _WORDS = "mpi"

    def __init__(self, process_count_per_node: int = 1) -> None:
        super().__init__()
        self.process_count_per_node = plain.count(process_count_per_node)

    def __repr__(self) -> str:
        return f"Mpi(process_count_per_node={self.process_count_per_node!r})"


class Gloo(_DistributedTraining):
    """How v1's PyTorch estimator spread a training; Chainer does not take it."""

    _WORDS = "gloo"

    def __init__(self) -> None:
        super().__init__()


class Nccl(_DistributedTraining):
    """How v1's PyTorch estimator spread a training; Chainer does not take it."""

    _WORDS = "nccl"

    def __init__(self) -> None:
        super().__init__()


class ParameterServer(_DistributedTraining):
    """How v1's TensorFlow estimator spread a training; Chainer does not take it.

    Args:
        worker_count: how many workers there are.
        parameter_server_count: how many parameter servers there are.
    """

    _TAKEN_BY = ("tensorflow", "estimator")
    _WORDS = "ps"

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        super().__init__()
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
        kinds = {"MpiConfiguration": "IntelMpi", "ParallelTaskConfiguration": "ParallelTask"}
        name = type(training).__name__
        communicator = kinds.get(name, name)
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
