"""Nodes with a network of their own, whose cables are cut while a run trains over them."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rechain.guest.rechain_guest.lines import read_metrics
from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.testing import processes_of, wait_for, wait_for_end
from rechain.testing.slurm import MPI_VARIABLES, SlurmCluster
from tests.compute.test_slurm_nodes import BEAT, PATIENCE, ranks_on, send, submit
from tests.conftest import missing

# MPI works all the time; the first attempt never ends by itself.
TRAINS = """
import os, time
from mpi4py import MPI
from azureml.core.run import Run
world = MPI.COMM_WORLD
attempt = int(os.environ["RECHAIN_ATTEMPT"].rpartition("/")[2])
go = False
rounds = 0
while not world.allreduce(go, MPI.LOR):
    time.sleep(0.01)
    rounds += 1
    if rounds == 20:
        open("up%d-%d" % (attempt, world.rank), "w").close()
    go = os.path.exists("go%d" % attempt)
if world.rank == 0:
    Run.get_context().log("x", attempt, step=1)
"""


@pytest.fixture
def cabled(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A Slurm of three nodes with cables, on which this test is until it ends."""
    if os.geteuid() != 0:
        missing("right to make network namespaces")
    for command in ("ip", "slurmctld", "munged"):
        if shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            missing(f"{command} (Debian: iproute2, slurm-wlm, munge)")
    with SlurmCluster(3, network=True) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        yield cluster


def training(tmp_path: Path, **settings: Any) -> RunPaths:
    """Start a run on the nodes n1 and n2, and wait until its ranks speak to each other."""
    variables = {name: value.replace("lo", "eth0") for name, value in MPI_VARIABLES.items()}
    there = {"options": ["--exclusive"]}
    run = submit(
        tmp_path, "openmpi", TRAINS, "mpirun", beat=BEAT, variables=variables, settings=there
    )
    up(run, 1)
    return run


def up(run: RunPaths, attempt: int) -> None:
    def all_up() -> bool:
        end = fold(run).end
        assert end is None, end
        return all(os.path.exists(f"{run.work}/up{attempt}-{rank}") for rank in range(4))

    wait_for(all_up, f"attempt {attempt} is up", PATIENCE)


def queued_again(cluster: SlurmCluster, run: RunPaths) -> str:
    number = cluster.run("squeue", "--noheader", "--format=%A", f"--name={run.run_id}").strip()

    def waits() -> bool:
        job = cluster.job(number)
        return job["JobState"] == "PENDING" and job["Restarts"] != "0"

    wait_for(waits, "its job is in the queue again", PATIENCE)
    return number


@pytest.mark.engines
def test_the_cable_of_a_node_is_cut(cabled: SlurmCluster, tmp_path: Path) -> None:
    run = training(tmp_path)
    cabled.cut_off("n2", notice=False)
    end = wait_for(lambda: fold(run).attempts[0].end, "the end of the attempt", PATIENCE)
    assert end["cause"] == "lost_node"
    assert end["message"] == "node n2: there was no sign of life from it for 9 s"
    assert end["requeue"]
    # Neither Slurm nor the supervisor reaches n2: it ends its ranks itself.
    for node in cabled.nodes:
        wait_for(lambda node=node: not ranks_on(cabled, node), f"{node} is empty", PATIENCE)
    cabled.cut_off("n2")  # now Slurm has missed it as well
    number = queued_again(cabled, run)
    cabled.start_now(number)
    up(run, 2)
    open(f"{run.work}/go2", "w").close()
    state = wait_for_end(run, PATIENCE)
    assert (state.status, state.last.number) == ("Completed", 2)
    assert {row["node"] for row in state.last.ranks.values()} == {"n1", "n3"}
    cabled.rejoin("n2")
    wait_for(lambda: not processes_of(run), "no process is left on any node", PATIENCE)
    assert read_metrics(run.root)["x"] == 2


@pytest.mark.matrix
def test_the_cable_of_the_first_node_is_cut_and_it_comes_back(
    cabled: SlurmCluster, tmp_path: Path
) -> None:
    """With its cable the node loses its files, too: what is on it stands still meanwhile."""
    run = training(tmp_path)
    mine = processes_of(run)
    frozen = [pid for pid in cabled.processes("n1") if pid in mine]
    send(frozen, signal.SIGSTOP)
    cabled.cut_off("n1", notice=False)
    wait_for(lambda: not ranks_on(cabled, "n2"), "n2 has ended its ranks itself", PATIENCE)
    assert fold(run).attempts[0].end is None
    cabled.cut_off("n1")
    number = queued_again(cabled, run)
    cabled.start_now(number)
    up(run, 2)
    for attempt in (1, 2):
        open(f"{run.work}/go{attempt}", "w").close()
    state = wait_for_end(run, PATIENCE)
    assert (state.status, state.last.number) == ("Completed", 2)
    first = state.attempts[0].end
    assert (first["cause"], first["message"]) == (
        "lost_node",
        "Slurm lost node n1, and the supervisor with it",
    )
    before = jsonl.dumps(read_metrics(run.root))
    send(frozen, signal.SIGCONT)
    cabled.rejoin("n1")
    wait_for(lambda: not processes_of(run), "the first attempt has ended by itself", PATIENCE)
    assert fold(run).status == "Completed"
    assert fold(run).end == state.end
    assert jsonl.dumps(read_metrics(run.root)) == before
    assert read_metrics(run.root)["x"] == 2
