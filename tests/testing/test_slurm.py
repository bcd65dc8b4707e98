"""The throw-away Slurm does what it says: a cluster of its own for every test that needs one."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rechain.record import host
from rechain.testing import wait_for
from rechain.testing.slurm import COMMANDS, SlurmCluster, SlurmClusterError
from tests.conftest import missing

pytestmark = pytest.mark.engines

PATIENCE = 120  # seconds; only ends a test that hangs


def submit(cluster: SlurmCluster, folder: Path, script: str, *options: str) -> str:
    folder.chmod(0o777)
    path = folder / "job.sh"
    path.write_text(f"#!/bin/bash\n{script}\n")
    output = f"--output={folder}/said"
    return cluster.run("sbatch", "--parsable", output, *options, str(path)).strip()


def state(cluster: SlurmCluster, job: str) -> str:
    return cluster.job(job)["JobState"]


def await_state(cluster: SlurmCluster, job: str, wanted: str) -> None:
    def there() -> bool:
        now = state(cluster, job)
        assert now in {wanted, "PENDING", "RUNNING", "COMPLETING"}, f"{now}\n{cluster.logs()}"
        return now == wanted

    wait_for(there, f"job {job} is {wanted}", PATIENCE)


def named(cluster: SlurmCluster, node: str, name: str) -> list[int]:
    """Return the processes of a node that have a name."""
    found = []
    for pid in cluster.processes(node):
        try:
            if Path(f"/proc/{pid}/comm").read_text() == f"{name}\n":
                found.append(pid)
        except OSError:
            continue  # it ended while we looked
    return found


def test_each_node_is_a_machine_of_its_own(slurm: SlurmCluster) -> None:
    code = (
        "import os; open('/dev/shm/mine', 'x'); "
        "print(os.uname().nodename, os.readlink('/proc/self/ns/pid'), os.environ['SLURM_PROCID'])"
    )
    said = slurm.run("srun", "-N2", "--ntasks-per-node=1", sys.executable, "-c", code)
    rows = sorted(line.split() for line in said.splitlines())
    assert [row[0] for row in rows] == slurm.nodes
    assert rows[0][1] != rows[1][1]
    assert host.identity()["pid_ns"] not in (rows[0][1], rows[1][1])
    said = slurm.run("srun", "-N2", "--ntasks-per-node=1", "rm", "/dev/shm/mine")
    assert said == ""


def test_a_batch_job_over_both_nodes(slurm: SlurmCluster, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, "srun hostname", "-N2", "--ntasks-per-node=2")
    await_state(slurm, job, "COMPLETED")
    assert sorted((tmp_path / "said").read_text().split()) == ["n1", "n1", "n2", "n2"]


def test_a_command_that_fails_says_why(slurm: SlurmCluster) -> None:
    with pytest.raises(SlurmClusterError, match="Invalid partition"):
        slurm.run("sbatch", "--partition=nonesuch", "--wrap=true")


def test_a_low_job_is_requeued_for_a_high_one(slurm: SlurmCluster, tmp_path: Path) -> None:
    count = "echo ${SLURM_RESTART_COUNT-first}"
    low = submit(
        slurm, tmp_path, f"{count}; [ $SLURM_RESTART_COUNT ] || sleep 1000",
        "-N2", "--exclusive", "-plow", "--open-mode=append",
    )  # fmt: skip
    wait_for(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text(), "it runs")
    high = slurm.run(
        "sbatch", "--parsable", "-phigh", "-N2", "--exclusive", "--output=/dev/null", "--wrap=true"
    ).strip()
    await_state(slurm, high, "COMPLETED")
    wait_for(lambda: slurm.job(low)["Restarts"] == "1", "it is requeued", PATIENCE)
    await_state(slurm, low, "PENDING")
    slurm.start_now(low)
    await_state(slurm, low, "COMPLETED")
    lines = (tmp_path / "said").read_text().splitlines()  # Slurm's own words lie between them
    assert (lines[0], lines[-1]) == ("first", "1")


def test_a_node_is_lost_and_comes_back(slurm: SlurmCluster, tmp_path: Path) -> None:
    lost = submit(slurm, tmp_path, "srun sleep 1000", "-N2", "--no-requeue")
    await_state(slurm, lost, "RUNNING")
    wait_for(lambda: named(slurm, "n2", "sleep"), "its step is there", PATIENCE)
    inside = slurm.processes("n2")
    slurm.kill_node("n2")
    try:
        wait_for(lambda: not any(map(host.start_time, inside)), "nothing of it is left")
        assert slurm.processes("n2") == []
        await_state(slurm, lost, "NODE_FAIL")
    finally:
        slurm.start_node("n2")
    assert slurm.run("srun", "-N1", "-wn2", "hostname") == "n2\n"


def test_a_node_is_cut_off_and_rejoins(slurm: SlurmCluster, tmp_path: Path) -> None:
    job = submit(slurm, tmp_path, "sleep 1000", "-wn2", "--no-requeue")
    await_state(slurm, job, "RUNNING")
    asleep = wait_for(lambda: named(slurm, "n2", "sleep"), "its script is there", PATIENCE)
    slurm.cut_off("n2")
    try:
        await_state(slurm, job, "NODE_FAIL")
        assert named(slurm, "n2", "sleep") == asleep
    finally:
        slurm.rejoin("n2")
    wait_for(lambda: not named(slurm, "n2", "sleep"), "Slurm ends what it gave up", PATIENCE)


def test_the_controller_restarts_while_a_job_runs(slurm: SlurmCluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job = submit(slurm, tmp_path, f"while [ ! -e {go} ]; do sleep 0.1; done; echo on", "-N1")
    await_state(slurm, job, "RUNNING")
    slurm.restart_controller(meanwhile=go.touch)
    await_state(slurm, job, "COMPLETED")
    assert (tmp_path / "said").read_text() == "on\n"


def daemons(root: str) -> list[int]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if f"SLURM_CONF={root}/".encode() in file.read() and host.start_time(int(pid)):
                    found.append(int(pid))
        except OSError:
            continue
    return found


def test_nothing_is_left_of_two_at_once(slurm: SlurmCluster) -> None:
    """Not even of a job that ignores SIGTERM and has left its session."""
    with SlurmCluster(1, cpus=2) as other:
        other.run("sbatch", "--output=/dev/null", "--wrap=trap '' TERM; setsid sleep 1000")
        wait_for(lambda: named(other, "n1", "sleep"), "its job runs", PATIENCE)
        assert other.run("sinfo", "-h", "-o", "%D", "-pmain") == "1\n"
        assert slurm.run("sinfo", "-h", "-o", "%D", "-pmain") == "2\n"
        assert daemons(other.root)
    wait_for(lambda: not daemons(other.root), "all have ended")
    assert not os.path.exists(other.root)


def test_it_ends_with_the_process_that_started_it(slurm: SlurmCluster) -> None:
    """Even when that is killed. (The fixture is for its check that the commands are there.)"""
    code = (
        "from rechain.testing.slurm import SlurmCluster\n"
        "with SlurmCluster(1) as cluster:\n"
        "    print(cluster.root, flush=True)\n"
        "    input()\n"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    root = user.stdout.readline().strip()
    assert daemons(root)
    user.send_signal(signal.SIGKILL)
    user.wait()
    wait_for(lambda: not daemons(root), "all have ended", PATIENCE)
    subprocess.run(["rm", "-r", root], check=True)


def test_a_start_that_fails_shows_the_logs() -> None:
    if not all(os.access(f"/usr/sbin/{name}", os.X_OK) for name in ("slurmctld", "munged")):
        missing("Slurm")
    cluster = SlurmCluster(1, extra="NoSuchSetting=1")
    with pytest.raises(SlurmClusterError, match=r"slurmctld ended.*(?s:.)*NoSuchSetting"):
        cluster.__enter__()
    assert not os.path.exists(cluster.root)


@pytest.mark.fast
def test_without_slurm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rechain.testing.slurm.shutil.which", lambda *_, **__: None)
    with pytest.raises(SlurmClusterError, match=r"no munged, .*: install slurm-wlm, munge and"):
        SlurmCluster().__enter__()
    assert "slurmd" in COMMANDS


def as_nobody(work: Callable[[], str]) -> str:
    """Return what a function returns in a child process of the user nobody."""
    reader, writer = os.pipe()
    child = os.fork()  # not a new interpreter: nobody may not be able to read this one
    if not child:
        try:
            user = pwd.getpwnam("nobody")
            os.chdir("/")
            os.setgroups([])
            os.setresgid(*[user.pw_gid] * 3)
            os.setresuid(*[user.pw_uid] * 3)
            os.write(writer, work().encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def test_a_plain_user_can_have_one_where_there_are_user_namespaces(slurm: SlurmCluster) -> None:
    if os.geteuid() != 0:
        missing("right to become another user")

    def work() -> str:
        with SlurmCluster(2) as cluster:
            return cluster.run("srun", "-N2", "sh", "-c", "hostname; id -un")

    said = as_nobody(work)
    there = as_nobody(lambda: subprocess.run(["unshare", "--user", "true"]).returncode * "no")
    if there:
        assert "unshare failed" in said
    else:
        assert sorted(said.split()) == ["n1", "n2", "nobody", "nobody"]
