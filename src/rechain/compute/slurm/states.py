"""What the states of Slurm mean for a run: one closed table."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["STATES", "State"]


class State:
    """One row of the table.

    Attributes:
        alive: whether the job waits or runs, or will again.
        cause: where it has ended and the run folder does not say why: the cause.
        words: the same for people.
    """

    __slots__ = ("alive", "cause", "words")

    def __init__(self, alive: bool, cause: str = "", words: str = "") -> None:
        self.alive = alive
        self.cause = cause
        self.words = words

    def end(self, nodes: str) -> dict[str, Any]:
        """Return cause and message of a job that ended so.

        Args:
            nodes: where it ran.
        """
        return {"cause": self.cause, "message": self.words.format(nodes=nodes or "a node")}


_LOST = "supervisor_lost"

# The states of squeue(1), "JOB STATE CODES", and flags that squeue shows in place of one. Of any
# other word nothing is concluded.
STATES: dict[str, State] = {
    **dict.fromkeys(
        (
            "PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING",
            "COMPLETING", "STAGE_OUT", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT",
            "RESV_DEL_HOLD", "POWER_UP_NODE", "EXPEDITING",
        ),
        State(True),
    ),
    "COMPLETED": State(False, _LOST, "Slurm says that the job completed, its record has no end"),
    "FAILED": State(False, _LOST, "Slurm says that the job failed, its record has no end"),
    "CANCELLED": State(False, "canceled", "canceled in Slurm (scancel)"),
    "TIMEOUT": State(False, "time_limit", "Slurm ended the job at its own time limit"),
    "DEADLINE": State(False, "time_limit", "Slurm ended the job at its deadline"),
    "OUT_OF_MEMORY": State(False, "out_of_memory", "Slurm ended the job for want of memory"),
    "NODE_FAIL": State(False, "lost_node", "Slurm lost {nodes}"),
    "BOOT_FAIL": State(False, "lost_node", "{nodes} could not be started"),
    "PREEMPTED": State(False, "preempted", "Slurm ended the job for one that goes first"),
    "REVOKED": State(False, "canceled", "the job was taken over by another cluster"),
}  # fmt: skip
