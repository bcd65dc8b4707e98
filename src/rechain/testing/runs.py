"""Run folders made by hand, and what can be seen of a run from outside."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from rechain.job.job import Job
from rechain.record import host, jsonl
from rechain.record.journal import RunState, fold
from rechain.record.paths import RunPaths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

__all__ = [
    "beside",
    "from_outside",
    "make_run",
    "payload",
    "processes_of",
    "wait_for",
    "wait_for_end",
]


def make_run(
    workspace: Path,
    script: str,
    *,
    arguments: tuple[str, ...] = (),
    target: str = "local",
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
    seconds: float | None = None,
    grace_seconds: float = 1,
    stall_seconds: float | None = None,
    heartbeat_seconds: float = 30,
    **fields: Any,
) -> tuple[RunPaths, dict[str, Any]]:
    """Make a run folder with one script in it, ready to be started.

    Args:
        workspace: the workspace's folder.
        script: the text of the script.
        arguments: its arguments.
        target: the target's name.
        python: the interpreter.
        variables: the script's own variables.
        seconds: the time limit.
        grace_seconds: between SIGTERM and SIGKILL.
        stall_seconds: how long there may be no sign of life.
        heartbeat_seconds: between the heartbeats of supervisor and nodes.
        **fields: further fields of the job, such as `distribution`.

    Returns:
        The run and its job document.
    """
    run_id = f"conformance_{int(time.time())}_{os.urandom(4).hex()}"
    run = RunPaths(str(workspace / "experiments" / "conformance" / run_id))
    os.makedirs(run.root)
    for folder in (run.work, run.requests, run.metrics, run.attempts):
        os.mkdir(folder)
    with open(f"{run.work}/script.py", "w", encoding="utf-8") as file:
        file.write(script)
    job = Job(
        run_id=run_id,
        experiment="conformance",
        workspace="conformance",
        source={"directory": str(workspace), "snapshot": None},
        command=["script.py", *arguments],
        environment={"kind": "user-managed", "python": python, **fields.pop("environment", {})},
        variables=dict(variables or {}),
        limits={
            "seconds": seconds,
            "grace_seconds": grace_seconds,
            "stall_seconds": stall_seconds,
            "heartbeat_seconds": heartbeat_seconds,
        },
        target=target,
        submitted={
            "time": time.time(),
            "user": "conformance",
            "host": host.identity(),
            **host.process(os.getpid()),
            "rechain": "0",
        },
        **fields,
    ).to_json()
    jsonl.write_new(run.job, job)
    return run, job


def payload(job: Mapping[str, Any], cache: str = "/nonexistent") -> Callable[[], dict[str, Any]]:
    """Return what the submitter would give to the target's `start` as payload.

    Args:
        job: the job's document.
        cache: where environments are kept.
    """
    return lambda: {
        "script": {**os.environ, **job["variables"]},
        "prepare": dict(os.environ),
        "cache": cache,
    }


def processes_of(run: RunPaths, token: str | None = None) -> list[int]:
    """Return the pids of all processes of a run, by a scan of `/proc`.

    Args:
        run: the run; its id is looked for in environments and command lines.
        token: a further text that marks a command line, for processes that emptied their
            environment.
    """
    marks = [run.run_id.encode()] + ([token.encode()] if token else [])
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid() or not host.start_time(int(name)):
            continue
        seen = b""
        for part in ("cmdline", "environ"):
            try:
                with open(f"/proc/{name}/{part}", "rb") as file:
                    seen += file.read()
            except OSError:
                continue
        if any(mark in seen for mark in marks):
            found.append(int(name))
    return found


def beside(pid: int) -> list[int]:
    """Return the pids, as this process sees them, of all in the pid namespace of one."""
    there = os.stat(f"/proc/{pid}/ns/pid").st_ino
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}/ns/pid").st_ino == there:
                found.append(int(name))
        except OSError:
            continue  # it ended while we looked
    return found


def from_outside(pids: list[int], inner: int) -> int:
    """Return which of some processes knows itself by another pid, that of its own namespace.

    Raises:
        ProcessLookupError: none does.
    """
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
                line = next(line for line in file if line.startswith("NSpid:"))
        except (OSError, StopIteration):
            continue  # it ended while we looked
        if int(line.split()[-1]) == inner:
            return pid
    raise ProcessLookupError(f"there is no process {inner} there")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Wait until a condition holds, and return its value.

    Raises:
        AssertionError: it does not within `seconds`.
    """
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return value


def wait_for_end(run: RunPaths, seconds: float = 120) -> RunState:
    """Wait until a run's end is recorded, and return its state.

    Raises:
        AssertionError: it is not within `seconds`.
    """
    wait_for(lambda: fold(run).end, f"the end of {run.run_id}", seconds)
    return fold(run)
