"""What others ask of a run: one file each, made once, never changed."""

from __future__ import annotations

import os
import time

from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.record.paths import RunPaths

__all__ = ["ask_to_stop", "set_labels"]


def ask_to_stop(paths: RunPaths, *, at_once: bool = False) -> bool:
    """Ask for the run's end.

    Args:
        paths: the run.
        at_once: without the grace period.

    Returns:
        False if somebody had asked for the same before.
    """
    name = "kill" if at_once else "cancel"
    by = f"pid {os.getpid()} on {os.uname().nodename}"
    body = {"schema": 1, "request": name, "by": by, "t": time.time()}
    os.makedirs(paths.requests, exist_ok=True)  # a run made inside a job has none yet
    try:
        return jsonl.write_new(f"{paths.requests}/{name}", body)
    except OSError:
        # On a full disk there is still room for a name, and that is what is looked for.
        os.close(os.open(f"{paths.requests}/{name}", os.O_WRONLY | os.O_CREAT, 0o644))
        return True


def set_labels(
    paths: RunPaths, kind: str, values: dict[str, str], remove: tuple[str, ...] = ()
) -> None:
    """Ask for tags or properties to be set.

    Args:
        paths: the run.
        kind: `tag` or `properties`.
        values: what to set.
        remove: names to take away.
    """
    body = {"schema": 1, "request": kind, "set": values, "remove": list(remove), "t": time.time()}
    name = f"{time.time_ns()}-{os.getpid()}-{kind}.json"
    os.makedirs(paths.requests, exist_ok=True)
    while not jsonl.write_new(f"{paths.requests}/{name}", body):
        name = f"{time.time_ns()}-{os.getpid()}-{kind}.json"
