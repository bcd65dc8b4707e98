"""How the processes of a distributed run are laid out."""

from __future__ import annotations

from rechain.exceptions import RunConfigurationException
from rechain.runconfig.section import Field, Section

__all__ = [
    "MpiConfiguration",
    "ParallelTaskConfiguration",
    "PyTorchConfiguration",
    "TensorflowConfiguration",
]

_BACKENDS = ("nccl", "gloo")


class MpiConfiguration(Section):
    """A run whose processes speak MPI with each other.

    Args:
        process_count_per_node: how many processes each node runs.
        node_count: how many nodes there are.
    """

    process_count_per_node = Field(int, 1)
    node_count = Field(int, 1)

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        super().__init__(process_count_per_node=process_count_per_node, node_count=node_count)


class PyTorchConfiguration(Section):
    """A run that `torch.distributed` spreads. Rechain starts processes over MPI only.

    Args:
        communication_backend: `Nccl` or `Gloo`.
        process_count: how many processes there are in all.
        node_count: how many nodes there are.

    Raises:
        RunConfigurationException: there is no such backend.
    """

    communication_backend = Field(str, "nccl")
    process_count = Field(int)
    node_count = Field(int, 1)

    def __init__(
        self,
        communication_backend: str = "Nccl",
        process_count: int | None = None,
        node_count: int = 1,
    ) -> None:
        if str(communication_backend).lower() not in _BACKENDS:
            raise RunConfigurationException(
                f"communication_backend is {communication_backend!r}; it must be 'Nccl' or 'Gloo'."
            )
        super().__init__(
            communication_backend=communication_backend.lower(),
            process_count=process_count,
            node_count=node_count,
        )


class TensorflowConfiguration(Section):
    """A run with parameter servers. Rechain starts processes over MPI only.

    Args:
        worker_count: how many workers there are.
        parameter_server_count: how many parameter servers there are.
    """

    worker_count = Field(int, 1)
    parameter_server_count = Field(int, 1)

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        super().__init__(worker_count=worker_count, parameter_server_count=parameter_server_count)


class ParallelTaskConfiguration(Section):
    """Workers that do not speak with each other. Rechain does not start them yet.

    Attributes:
        max_retries_per_worker: how often a worker that failed is started again.
        worker_count_per_node: how many workers each node runs.
        terminal_exit_codes: exit codes of a worker that end the run.
    """

    max_retries_per_worker = Field(int, 0)
    worker_count_per_node = Field(int, 1)
    terminal_exit_codes = Field(list)
