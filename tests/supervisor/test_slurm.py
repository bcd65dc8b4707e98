"""The supervisor as a Slurm job: which attempt follows on which. No cluster is needed for that."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rechain.compute.ended import give_up
from rechain.record import host, jsonl
from rechain.record.journal import Journal, end_event, fold
from rechain.record.paths import RunPaths
from rechain.supervisor.link import DEAF
from rechain.supervisor.slurm import Slurm
from rechain.supervisor.variables import PROGRAM
from rechain.testing import make_run

pytestmark = pytest.mark.fast


def serve(run: RunPaths, path: str = "/nonexistent") -> subprocess.CompletedProcess[str]:
    """Do what the batch script does, where no Slurm can be asked, unless there is a fake one."""
    command = [sys.executable, "-I", "-S", PROGRAM, "--slurm", run.root]
    environ = {"PATH": path, "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"}
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


def begun(run: RunPaths, started: float) -> None:
    """Begin a first attempt on n1 and n2, of which nothing more is heard."""
    attempt = run.attempt(1)
    os.mkdir(attempt.root)
    Journal(attempt.journal).write(
        "attempt",
        attempt=1,
        t=started,
        host={**host.identity(), "name": "n1"},
        guard=host.process(os.getpid()),
        supervisor=host.process(os.getpid()),
        cgroup=None,
        slurm={"job": "7", "restarts": 0, "partition": "main", "nodes": "n[1-2]"},
    )


@pytest.mark.parametrize(
    ("later", "cause"), [(2, "lost_node"), (-2, "supervisor_lost")], ids=["later", "before"]
)
def test_the_first_node_was_lost_if_a_fake_slurm_has_its_slurmd_started_since(
    tmp_path: Path, later: int, cause: str
) -> None:
    run, _ = make_run(tmp_path, "pass")
    began = time.time() - 100
    begun(run, began)
    fake = tmp_path / "bin" / "scontrol"
    fake.parent.mkdir()
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(began + later))
    fake.write_text(f"#!/bin/sh\necho NodeName=n1 State=IDLE SlurmdStartTime={since} X=1\n")
    fake.chmod(0o755)
    assert serve(run, str(fake.parent)).returncode == 0
    end = fold(run).attempts[0].end
    assert end["cause"] == cause
    if cause == "lost_node":
        said = f"node n1 was lost: its slurmd was started again at {since[11:]}"
        assert end["message"] == f"{said}, and the supervisor with it"


def test_the_first_node_was_lost_if_another_says_so(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, "pass")
    begun(run, time.time())
    Path(run.attempt(1).node_log("n1")).touch()
    Path(run.attempt(1).node_log("n2")).write_text(f"{DEAF}\n")
    assert serve(run).returncode == 0
    end = fold(run).attempts[0].end
    assert (end["cause"], end["message"]) == (
        "lost_node",
        "node n1 was lost: node n2 did not hear it any more, and the supervisor with it",
    )


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


def lines_of_nodes(run: RunPaths) -> list[str]:
    """Lay the lines of two nodes' containers, which are lost with all that held them."""
    found = []
    for name in ("n1", "n2"):
        place = run.attempt(1).node(name)
        os.makedirs(place.root)
        for path in (place.container_in, place.container_out):
            os.mkfifo(path)
            found.append(path)
    return found


def test_no_line_of_a_nodes_container_stays_for_whoever_copies_the_folder(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, "pass")
    begun(run, time.time())
    left = lines_of_nodes(run)
    assert serve(run).returncode == 0  # the next attempt sees to it
    assert not any(map(os.path.lexists, left))
    run, _ = make_run(tmp_path, "pass")
    begun(run, time.time())
    left = lines_of_nodes(run)
    assert give_up(run, "lost_node", "it is gone", here=False)  # as does a reader
    assert not any(map(os.path.lexists, left))
