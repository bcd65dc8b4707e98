"""The supervisor as a Slurm job: which attempt follows on which. No cluster is needed for that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rechain.record import jsonl
from rechain.record.journal import end_event, fold
from rechain.record.paths import RunPaths
from rechain.supervisor.slurm import Slurm
from rechain.supervisor.stage import PROGRAM
from rechain.testing import make_run

pytestmark = pytest.mark.fast


def serve(run: RunPaths) -> subprocess.CompletedProcess[str]:
    """Do what the batch script does, where no Slurm can be asked."""
    command = [sys.executable, "-I", "-S", PROGRAM, "--slurm", run.root]
    environ = {"PATH": "/nonexistent", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)


def ended(run: RunPaths, number: int, cause: str, *, requeue: bool = True) -> None:
    attempt = run.attempt(number)
    os.mkdir(attempt.root)
    extra = {"requeue": True} if requeue else {}
    jsonl.write_new(attempt.guard_end, end_event(cause, "as it was", **extra))


@pytest.mark.parametrize("cause", ["preempted", "lost_node"])
def test_it_goes_on_three_times(tmp_path: Path, cause: str) -> None:
    run, _ = make_run(tmp_path, "pass")
    for number in range(1, 4):
        assert Slurm(run).goes_on(cause)
        ended(run, number, cause)
    assert not Slurm(run).goes_on(cause)


@pytest.mark.parametrize("cause", ["user_error", "canceled", "time_limit", "out_of_memory"])
def test_what_would_end_the_same_again_is_not_tried_again(tmp_path: Path, cause: str) -> None:
    assert not Slurm(make_run(tmp_path, "pass")[0]).goes_on(cause)


def test_a_run_that_has_ended_is_not_begun_again_by_a_requeue(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, "open('ran', 'w')")
    ended(run, 1, "preempted", requeue=False)
    said = serve(run)
    assert said.returncode == 0
    assert f"{run.run_id} has ended" in said.stderr
    assert run.numbers() == [1]


def test_an_attempt_that_could_not_say_how_it_ended_is_closed_by_the_next(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, "open('ran', 'w')")
    os.mkdir(run.attempt(1).root)
    assert serve(run).returncode == 0
    first, second = fold(run).attempts
    assert first.end["cause"] == "supervisor_lost"
    assert first.end["message"].startswith("Slurm started the job again")
    assert second.end["cause"] == "completed"
    assert second.attempt["slurm"]["restarts"] == 1
    assert os.path.exists(f"{run.work}/ran")
