"""Compute targets, imported on first use."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.compute.target import Target

__all__ = ["NAMES", "get"]

NAMES = ("local",)  # what needs no description; a Slurm cluster's is in the job


def get(job: Mapping[str, Any]) -> Target:
    """Return the target of a job: this machine, where the job names no other or a pool of it.

    Args:
        job: the job's document (docs/run-folder.md).

    Raises:
        LookupError: there is none of its kind; the message lists those there are.
    """
    if job["target"] == "local" or job.get("pool"):
        from rechain.compute.local import LocalTarget

        return LocalTarget()
    if job.get("slurm"):
        from rechain.compute.slurm import SlurmTarget

        return SlurmTarget(job["target"], job["slurm"])
    raise LookupError(
        f"there is no compute target {job['target']!r}; there is: {', '.join(NAMES)}"
    )
