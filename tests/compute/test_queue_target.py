"""A second, small target passes the same tests: the contract is one.

It is a queue in a folder. A worker, one process, takes what was put there in order, and starts it
here; it does not wait for one run before it takes the next.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rechain.compute.ended import give_up
from rechain.compute.target import Observation, StartError, Submission, command_of
from rechain.record import host, jsonl
from rechain.record.journal import fold, fold_attempt
from rechain.record.paths import RunPaths
from rechain.supervisor.variables import PROGRAM
from rechain.testing import TargetConformance

pytestmark = pytest.mark.fast

WORKER = """
import json, os, subprocess, sys
for line in sys.stdin:
    path = line.rstrip("\\n")
    try:
        os.rename(path, path + ".taken")
    except FileNotFoundError:
        continue  # canceled
    with open(path + ".taken") as file:
        entry = json.load(file)
    os.unlink(path + ".taken")
    subprocess.run(entry["argv"], input=json.dumps(entry["payload"]), text=True)
"""


class QueueTarget:
    """Runs wait in a folder until a worker takes them."""

    name = "queue"

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def plan(self, run: RunPaths, job: Mapping[str, Any]) -> Submission:
        return Submission(
            target=job["target"],
            argv=(sys.executable, "-I", "-S", PROGRAM, run.root),
            script=None,
            command=command_of(job),
            environment=dict(job["variables"]),
        )

    def start(
        self, submission: Submission, run: RunPaths, payload: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        entry = {"argv": list(submission.argv), "payload": dict(payload())}
        if not os.path.exists(run.job):
            raise StartError(f"there is no run folder {run.root}")
        jsonl.write_atomic(self._entry(run), entry)
        with open(f"{self._folder}/bell", "w") as bell:
            bell.write(f"{self._entry(run)}\n")
        return {"entry": self._entry(run)}

    def poll(self, runs: Iterable[RunPaths]) -> dict[str, Observation]:
        return {run.run_id: self._observe(run) for run in runs}

    def _observe(self, run: RunPaths) -> Observation:
        if os.path.exists(self._entry(run)):
            return Observation(True, "no worker has taken it yet")
        attempt = run.last_attempt()
        started = fold_attempt(attempt).attempt if attempt else None
        if started is None:
            return Observation(None)  # being taken
        return Observation(host.is_alive(started["guard"]) or host.is_alive(started["supervisor"]))

    def cancel(self, run: RunPaths) -> None:
        try:
            os.unlink(self._entry(run))
        except FileNotFoundError:
            return  # it was taken: its supervisor sees the request
        if fold(run).end is None:
            give_up(run, "canceled", "canceled before a worker took it", here=False)

    def _entry(self, run: RunPaths) -> str:
        return f"{self._folder}/{run.run_id}.json"


class TestQueueTarget(TargetConformance):
    @pytest.fixture
    def target(self, tmp_path: Path) -> Iterator[QueueTarget]:
        os.mkfifo(tmp_path / "bell")
        # Held open, so that the worker's end of it does not close between two submitters.
        bell = os.open(tmp_path / "bell", os.O_RDWR)
        worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=bell)
        yield QueueTarget(str(tmp_path))
        worker.kill()
        worker.wait()
        os.close(bell)
