"""Why an attempt ended: one closed table.

Everything that depends on the cause is a column here, so that a new cause cannot be forgotten
anywhere: status for v1 users, exit code of `rechain run`, whether a retry could help, the words
for people and the hint.
"""

from __future__ import annotations

__all__ = ["ACTIVE", "CAUSES", "TERMINAL", "Cause"]

# v1's status names (the Azure ML SDK's `RunStatus`), as scripts compare them.
TERMINAL = ("Completed", "Failed", "Canceled")
ACTIVE = ("NotStarted", "Queued", "Preparing", "Starting", "Running", "Finalizing")


class Cause:
    """One row of the table.

    Attributes:
        code: the stable name for programs.
        status: the v1 status the run gets.
        exit_code: what `rechain run` exits with; None where the script's own code is passed on.
        retry: whether the same job could end differently without a change by the user.
        words: the cause for people; the end event's own message goes before it.
        hint: what to do about it; may be empty.
    """

    __slots__ = ("code", "exit_code", "hint", "retry", "status", "words")

    def __init__(
        self, code: str, status: str, exit_code: int | None, retry: bool, words: str, hint: str
    ) -> None:
        self.code = code
        self.status = status
        self.exit_code = exit_code
        self.retry = retry
        self.words = words
        self.hint = hint


_ROWS = (
    Cause("completed", "Completed", 0, False, "completed", ""),
    Cause("user_error", "Failed", None, False, "user error", ""),
    Cause(
        "killed",
        "Failed",
        None,
        False,
        "killed from outside",
        "The script itself, or something other than Rechain, sent SIGKILL to it.",
    ),
    Cause(
        "out_of_memory",
        "Failed",
        137,
        False,
        "out of memory",
        "The kernel killed the script for want of memory: use smaller batches, or more memory.",
    ),
    Cause(
        "time_limit",
        "Failed",
        124,
        False,
        "time limit",
        "Raise max_run_duration_seconds (--time-limit) if the training needs longer.",
    ),
    Cause("canceled", "Canceled", 130, False, "canceled", ""),
    Cause(
        "preempted",
        "Canceled",
        143,
        True,
        "preempted",
        "A run that goes first needed its nodes; it goes on as soon as there is room.",
    ),
    Cause(
        "stalled",
        "Failed",
        124,
        False,
        "stalled",
        "The stacks of its ranks are at the end of their stderr (rechain logs --all-ranks); "
        "deadlocks between ranks are the usual reason.",
    ),
    Cause(
        "terminated",
        "Canceled",
        143,
        True,
        "stopped from outside",
        "The supervisor was told to stop (SIGTERM), as at a shutdown; submit the run again.",
    ),
    Cause(
        "environment",
        "Failed",
        125,
        False,
        "environment",
        "The environment could not be made ready; nothing of the script ran.",
    ),
    Cause(
        "no_gpu",
        "Failed",
        125,
        False,
        "no gpu",
        "Run it where there is one, leave out use_gpu, or let it run without one where there is "
        "none: RECHAIN_GPU=optional (--gpu optional).",
    ),
    Cause("input", "Failed", 125, False, "input", "An input of the run could not be read."),
    Cause(
        "output",
        "Failed",
        125,
        True,
        "output",
        "The script ended well; what it wrote is in the run's folder, and not in the datastore.",
    ),
    Cause(
        "supervisor_lost",
        "Failed",
        125,
        True,
        "supervisor lost",
        "The processes that watch the run were killed; submit it again.",
    ),
    Cause(
        "lost_node",
        "Failed",
        125,
        True,
        "lost node",
        "A node died or lost its network while the run was on it; submit it again.",
    ),
    Cause(
        "record",
        "Failed",
        125,
        True,
        "record could not be written",
        "Make room on the disk that holds the workspace, then submit the run again.",
    ),
    Cause(
        "internal",
        "Failed",
        125,
        False,
        "error in Rechain",
        "This is a fault of Rechain: please report it with the run's supervisor.log.",
    ),
)

CAUSES: dict[str, Cause] = {row.code: row for row in _ROWS}
