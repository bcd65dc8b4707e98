"""What a virtual node gives to its processes, and what it withholds from them.

A node is a share of this machine: cores by affinity, memory by cgroup or rlimit, GPUs by the
variable that CUDA obeys. Where the machine has less than a node's size promises, the node has what
there is, and the run is told.
"""

from __future__ import annotations

import os

from rechain.environment import gpu
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.supervisor.turns import Ticket

__all__ = ["NODES", "Nodes", "settle"]

# The variable by which each rank's guard learns what its node is.
NODES = "RECHAIN_NODES"

_GIB = 1 << 30


class Nodes:
    """The nodes of an attempt.

    Args:
        job: the job's document.
        ticket: what it has got of the machine.
        cgroup: the attempt's own cgroup, or None.

    Attributes:
        applied: what the run is limited to, for the record.
        notes: where that is not what the nodes' size promises.
    """

    def __init__(self, job: Mapping[str, Any], ticket: Ticket, cgroup: str | None) -> None:
        pool = job["pool"]
        self._nodes: int = job["distribution"]["nodes"]
        self._per_node: int = job["distribution"]["processes_per_node"]
        self._mpi: bool = job["distribution"]["communicator"] != "None"
        self._cores = ticket.cores
        self._sized = bool(pool["vm_size"])
        self._gpus = _by_node(ticket.gpus, self._nodes, pool["gpus"])
        self._data: int | None = None
        self.notes: list[str] = []
        memory, by = self._limit_memory(pool, cgroup)
        self.applied = {
            "nodes": self._nodes,
            "turn": ticket.turn,
            "cores": self._cores or None,
            "gpus": ticket.gpus,
            "memory_bytes": memory,
            "memory_by": by,
        }
        cores = len(os.sched_getaffinity(0))
        if (pool["cpus"] or 0) * self._nodes > cores:
            self._note(
                pool, _many(pool["cpus"], "CPU"), f"{cores} in all, and the run has all of them"
            )
        if pool["gpus"] * self._nodes > len(ticket.gpus):
            has = f"{len(ticket.gpus)} in all, which its nodes share" if ticket.gpus else "none"
            self._note(pool, _many(pool["gpus"], "GPU"), has)

    def _note(self, pool: Mapping[str, Any], promised: str, has: str) -> None:
        nodes = f"{self._nodes} nodes" if self._nodes > 1 else "a node"
        self.notes.append(f"{nodes} of {pool['vm_size']}: {promised} each; this machine has {has}")

    def _limit_memory(
        self, pool: Mapping[str, Any], cgroup: str | None
    ) -> tuple[int | None, str | None]:
        """Return how much memory a process or all of them may have, and what sees to it."""
        if not pool["memory_gib"]:
            return None, None
        node = int(pool["memory_gib"] * _GIB)
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if node * self._nodes >= machine:
            gib = f"{pool['memory_gib']:g} GiB of memory"
            self._note(pool, gib, f"{machine / _GIB:.0f} GiB in all: there is no other limit")
            return None, None
        if cgroup is not None and _limit_cgroup(cgroup, node * self._nodes):
            return node * self._nodes, "cgroup"
        if pool["gpus"]:
            # CUDA maps address space by the terabyte: a limit on it would forbid CUDA.
            self.notes.append("memory is not limited: there is no cgroup for it here")
            return None, None
        self._data = node // self._per_node
        self.notes.append(
            f"each process may have {self._data / _GIB:.3g} GiB of memory (RLIMIT_DATA), since "
            "there is no cgroup here that limits all of them together"
        )
        return self._data, "rlimit"

    def variables(self) -> dict[str, str]:
        """Return what the script's environment gets."""
        if self._mpi:
            cpus = len(self._cores) // self._nodes
            cores = [self._cores[n * cpus : (n + 1) * cpus] for n in range(self._nodes)]
            spec: dict[str, Any] = {"per_node": self._per_node, "cores": cores, "data": self._data}
            return {NODES: jsonl.dumps({**spec, "gpus": self._gpus if self._sized else None})}
        return {gpu.VARIABLE: ",".join(self._gpus[0])} if self._sized else {}

    def enter(self) -> None:
        """Confine this process, which is about to become the script, or the ranks' launcher."""
        if self._cores:
            os.sched_setaffinity(0, self._cores)
        if self._data is not None and not self._mpi:
            _limit_data(self._data)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def settle(text: str, rank: int) -> dict[str, str]:
    """Confine this process, which is about to become a rank, to its node.

    Args:
        text: the value of `NODES`.
        rank: the rank.

    Returns:
        Variables for it.
    """
    spec = jsonl.loads(text)
    node = rank // spec["per_node"]
    if spec["cores"][node]:
        os.sched_setaffinity(0, spec["cores"][node])
    if spec["data"] is not None:
        _limit_data(spec["data"])
    nodes = str(len(spec["cores"]))
    variables = {
        "RECHAIN_NODE": str(node),
        "RECHAIN_LOCAL_RANK": str(rank % spec["per_node"]),
        # As v1's runtime named them.
        "AZUREML_NODE_COUNT": nodes,
        "AZUREML_CR_NODE_RANK": str(node),
    }
    if spec["gpus"] is not None:
        # As on a node of one's own, its ranks see all its GPUs and choose by their local rank.
        variables[gpu.VARIABLE] = ",".join(spec["gpus"][node])
    return variables


def _by_node(gpus: list[str], nodes: int, each: int) -> list[list[str]]:
    """Return each node's GPUs; if there are not enough, nodes share what there is."""
    if not gpus or not each:
        return [[] for _ in range(nodes)]
    if len(gpus) >= nodes * each:
        return [gpus[node * each : (node + 1) * each] for node in range(nodes)]
    return [gpus[node::nodes] or [gpus[node % len(gpus)]] for node in range(nodes)]


def _limit_data(count: int) -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        count = min(count, most)  # nobody may raise it
    resource.setrlimit(resource.RLIMIT_DATA, (count, count))


def _limit_cgroup(cgroup: str, count: int) -> bool:
    """Limit the memory of a cgroup v2; return whether that is possible here."""
    for path, text in (
        # Only the topmost cgroup may hold processes and divide memory (cgroups(7)).
        (f"{os.path.dirname(cgroup)}/cgroup.subtree_control", "+memory"),
        (f"{cgroup}/memory.swap.max", "0"),
        (f"{cgroup}/memory.max", str(count)),
    ):
        try:
            with open(path, "r+") as file:
                file.write(text)
        except OSError:
            if path.endswith("memory.max"):
                return False
    return True
