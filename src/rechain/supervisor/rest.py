"""Outputs of an attempt whose guard or supervisor was killed: the other one sends them."""

from __future__ import annotations

import os

from rechain.record import jsonl
from rechain.supervisor import linux
from rechain.supervisor.stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.record.paths import AttemptPaths, RunPaths

__all__ = ["send_rest"]


def send_rest(run: RunPaths, attempt: AttemptPaths, payload: dict[str, Any]) -> None:
    """Take outputs to their datastores, after the end has been recorded.

    Args:
        run: the run.
        attempt: the attempt, ended.
        payload: what travelled by pipe.
    """
    job = jsonl.read(run.job)
    if not (job.get("outputs") and os.path.exists(run.inputs)):
        return  # nothing of the script ran
    stage = Stage(run, attempt, job, payload)
    os.waitpid(linux.start_child(lambda: stage.start_with_data("take")), 0)
