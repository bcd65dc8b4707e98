"""How a pool stands, in v1's words."""

from __future__ import annotations

import time
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rechain.supervisor.turns import Ticket

__all__ = ["AmlComputeStatus", "Share"]


class Share(NamedTuple):
    """What a run has or waits for on a pool that a cluster serves; as a ticket says it.

    Attributes:
        run_id: the run.
        nodes: how many nodes it takes.
        running: whether it has them.
    """

    run_id: str
    nodes: int
    running: bool


class AmlComputeStatus:
    """How a pool stands.

    Attributes:
        vm_size: the size of its nodes.
        vm_priority: `dedicated` or `lowpriority`.
        current_node_count: how many nodes there are: all, always.
        target_node_count: the same.
        node_state_counts: how many of them are in which of v1's states.
        provisioning_state: v1's state of the pool itself.
        allocation_state: v1's state of its size.
        errors: always none.
        creation_time: when it was made, in UTC.
        scale_settings: the numbers it was made with.
    """

    def __init__(self, settings: dict[str, Any], tickets: Sequence[Ticket | Share]) -> None:
        busy = sum(ticket.nodes for ticket in tickets if ticket.running)
        nodes = max(settings["max_nodes"], busy)
        self.vm_size: str = settings["vm_size"]
        self.vm_priority: str = settings["vm_priority"]
        self.current_node_count = self.target_node_count = nodes
        self.node_state_counts = {
            "preparingNodeCount": 0,
            "runningNodeCount": busy,
            "idleNodeCount": nodes - busy,
            "unusableNodeCount": 0,
            "leavingNodeCount": 0,
            "preemptedNodeCount": 0,
        }
        self.provisioning_state = "Succeeded"
        self.allocation_state = "Steady"
        self.errors = None
        self.creation_time = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(settings["created"]))
        self.scale_settings = {
            "minNodeCount": settings["min_nodes"],
            "maxNodeCount": settings["max_nodes"],
            "nodeIdleTimeBeforeScaleDown": f"PT{settings['idle_seconds_before_scaledown']}S",
        }

    def serialize(self) -> dict[str, Any]:
        """Return it as plain data, under v1's names."""
        return {
            "currentNodeCount": self.current_node_count,
            "targetNodeCount": self.target_node_count,
            "nodeStateCounts": self.node_state_counts,
            "allocationState": self.allocation_state,
            "errors": self.errors,
            "creationTime": self.creation_time,
            "provisioningState": self.provisioning_state,
            "scaleSettings": self.scale_settings,
            "vmPriority": self.vm_priority,
            "vmSize": self.vm_size,
        }

    def __repr__(self) -> str:
        return f"AmlComputeStatus({self.serialize()!r})"
