"""What a real slurmdbd knows of jobs that the controller has forgotten, and of who may submit."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rechain.compute.slurm import SlurmTarget, queue
from rechain.compute.slurm.commands import SlurmError
from rechain.compute.slurm.settings import Settings, request
from rechain.compute.target import StartError
from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.testing import make_run, wait_for
from rechain.testing.runs import payload
from rechain.testing.slurm import COMMANDS, SlurmCluster, slurm_accounting
from rechain.workspace.reconcile import reconcile
from tests.conftest import missing

PATIENCE = 120  # seconds; only ends a test that hangs
WAITS = "open('up', 'w').close()\nimport time\ntime.sleep(600)"

# Slurm forgets an ended job after some seconds: it looks every ten.
EXTRA = "MinJobAge=2\nAccountingStorageEnforce=associations,limits,qos"


@pytest.fixture(scope="module")
def accounting() -> Iterator[SlurmCluster]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    for command in (*COMMANDS, *slurm_accounting.COMMANDS):
        if shutil.which(command, path=path) is None:
            missing(f"{command} (Debian: slurm-wlm, munge, slurmdbd, mariadb-server)")
    with SlurmCluster(1, accounting=True, extra=EXTRA) as cluster:
        cluster.run("sacctmgr", "-i", "add", "account", "lab")
        user = cluster.run("id", "-un").strip()
        cluster.run("sacctmgr", "-i", "add", "user", user, "account=lab")
        yield cluster


@pytest.fixture
def cluster(
    accounting: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SlurmCluster]:
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    for name, value in accounting.environment.items():
        monkeypatch.setenv(name, value)
    yield accounting
    accounting.run("scancel", f"--user={os.getuid()}")
    wait_for(lambda: not accounting.run("squeue", "--noheader"), "an empty queue", PATIENCE)


def start(folder: Path, script: str, **settings: Any) -> tuple[RunPaths, dict[str, Any], str]:
    asked = request(Settings(account="lab", **settings).to_json())
    target = SlurmTarget("cluster", asked)
    run, job = make_run(folder / "ws", script, target="cluster", slurm=asked)
    handle = target.start(target.plan(run, job), run, payload(job))
    jsonl.write_new(run.submission, {"schema": 1, "handle": handle})
    return run, job, str(handle["job"])


def forgotten(cluster: SlurmCluster, number: str) -> None:
    def gone() -> bool:
        known = cluster.run("squeue", "--noheader", "--states=all", "--format=%i")
        return number not in known.split()

    wait_for(gone, "the controller to forget the job", PATIENCE)


def ended(run: RunPaths, job: dict[str, Any]) -> dict[str, Any]:
    def end() -> Any:
        reconcile(run, job)
        return fold(run).end

    return dict(wait_for(end, "the end of the run", PATIENCE))


def killed(cluster: SlurmCluster, folder: Path) -> tuple[RunPaths, dict[str, Any], str]:
    """Start a run of which nothing is left that could write its end."""
    run, job, number = start(folder, WAITS)
    wait_for(lambda: os.path.exists(f"{run.work}/up"), "the script is up", PATIENCE)
    started = fold(run).attempts[0].attempt
    assert started is not None
    pids = [cluster.pid_of("n1", started[who]["pid"]) for who in ("guard", "supervisor")]
    for signum in (signal.SIGSTOP, signal.SIGKILL):  # neither sees the other go
        for pid in pids:
            os.kill(pid, signum)
    return run, job, number


@pytest.mark.engines
def test_the_end_of_jobs_that_the_controller_has_forgotten(
    cluster: SlurmCluster, tmp_path: Path
) -> None:
    run, job, number = killed(cluster, tmp_path)
    held, held_job, held_number = start(tmp_path, "pass", options=["--hold"])
    cluster.run("scancel", held_number)
    os.unlink(held.submission)  # its submitter died before it could write the number
    held_job["submitted"]["start"] = 0
    jsonl.write_atomic(held.job, held_job)
    forgotten(cluster, number)
    forgotten(cluster, held_number)
    assert ended(run, job)["message"] == "Slurm says that the job failed, its record has no end"
    end = ended(held, held_job)
    assert (end["cause"], end["message"]) == ("canceled", "canceled in Slurm (scancel)")


@pytest.mark.matrix
def test_rows_that_come_late(cluster: SlurmCluster, tmp_path: Path) -> None:
    found: list[Any] = []

    def meanwhile() -> None:
        run, job, number = killed(cluster, tmp_path)
        forgotten(cluster, number)
        reconcile(run, job)
        found.extend([run, job, fold(run).end])
        (told,) = SlurmTarget("cluster", job["slurm"]).poll([run]).values()
        found.append(told)

    cluster.restart_accounting(meanwhile=meanwhile)
    run, job, end, told = found
    assert end is None  # nothing is concluded
    assert told.alive is None
    assert told.reason.startswith("sacct: ")
    assert ended(run, job)["message"] == "Slurm says that the job failed, its record has no end"


@pytest.mark.matrix
def test_a_row_that_is_not_there_yet(cluster: SlurmCluster, tmp_path: Path) -> None:
    run, job, number = start(tmp_path, "pass")
    assert ended(run, job)["cause"] == "completed"
    forgotten(cluster, number)
    later = str(int(number) + 1000)
    with pytest.raises(SlurmError, match=f"does not have job {later} yet"):
        queue.accounted(later, run.run_id, job["submitted"]["time"])


@pytest.mark.matrix
def test_who_may_submit(cluster: SlurmCluster, tmp_path: Path) -> None:
    user = cluster.run("id", "-un").strip()
    with pytest.raises(StartError, match="there is no such QOS, or you may not use it"):
        start(tmp_path, "pass", qos="nope")
    with pytest.raises(StartError, match="there is no such account, or you may not charge it"):
        start(tmp_path, "pass", options=["--account=nope"])
    cluster.run("sacctmgr", "-i", "modify", "user", user, "set", "maxsubmitjobs=1")
    try:
        start(tmp_path, "pass", options=["--hold"])
        with pytest.raises(StartError, match="there are as many jobs as your account allows"):
            start(tmp_path, "pass", options=["--hold"])
    finally:
        cluster.run("sacctmgr", "-i", "modify", "user", user, "set", "maxsubmitjobs=-1")
