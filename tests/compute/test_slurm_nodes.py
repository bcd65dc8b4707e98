"""Runs over two nodes of a real Slurm: where ranks are, and that none outlives its run."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.compute.slurm import SlurmTarget
from rechain.compute.slurm.settings import Settings, request
from rechain.guest.rechain_guest.lines import read_metrics
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.testing import make_run, processes_of, wait_for, wait_for_end
from rechain.testing.runs import payload
from rechain.testing.slurm import MPI_VARIABLES, SlurmCluster
from tests.supervisor.mpi import cache, mpiexec

HELLO = """
import os
from mpi4py import MPI
world = MPI.COMM_WORLD
names = ("RECHAIN_RANK", "RECHAIN_LOCAL_RANK", "RECHAIN_NODE")
print(world.rank, world.size, world.allreduce(1), os.uname().nodename,
      *[os.environ[name] for name in names])
"""


PATIENCE = 120  # seconds; only ends a test that hangs


def cmdline(pid: int) -> bytes:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def submit(
    workspace: Path, family: str, script: str, mpi: str = "auto", nodes: int = 2, **settings: Any
) -> RunPaths:
    """Submit a run of two ranks on each of two nodes."""
    launcher = mpiexec(family)
    there = {"mpi": mpi, "store": cache(), **settings.pop("settings", {})}
    asked = request(Settings(**there).to_json())
    run, job = make_run(
        workspace,
        script,
        target="cluster",
        python=sys.executable,
        environment={"mpi": {"wanted": launcher, "mpiexec": launcher}},
        distribution={"nodes": nodes, "processes_per_node": 2, "communicator": "Mpi"},
        slurm=asked,
        heartbeat_seconds=settings.pop("beat", 30),
        variables={**MPI_VARIABLES, **settings.pop("variables", {})},
        **settings,
    )
    target = SlurmTarget("cluster", asked)
    target.start(target.plan(run, job), run, payload(job, cache()))
    return run


def said(run: RunPaths, rank: int) -> str:
    return Path(run.attempt(1).stdout(rank)).read_text()


# Debian's MPICH speaks through UCX, which sometimes never comes back from MPI_Finalize between
# nodes that are one machine; so it does not decide about a change.
@pytest.mark.parametrize(
    ("family", "mpi"),
    [
        pytest.param("openmpi", "auto", marks=pytest.mark.engines),
        pytest.param("openmpi", "srun:pmix", marks=pytest.mark.engines),
        pytest.param("mpich", "auto", marks=pytest.mark.matrix),
        pytest.param("mpich", "srun:pmi2", marks=pytest.mark.matrix),
    ],
)
def test_two_ranks_on_each_of_two_nodes(
    slurm: SlurmCluster, tmp_path: Path, family: str, mpi: str
) -> None:
    run = submit(tmp_path, family, HELLO, mpi)
    state = wait_for_end(run)
    assert state.status == "Completed", (state.end, state.last.notes)
    assert [said(run, rank).split() for rank in range(4)] == [
        [str(rank), "4", "4", f"n{1 + rank // 2}", str(rank), str(rank % 2), str(rank // 2)]
        for rank in range(4)
    ]
    wait_for(lambda: not processes_of(run), "no process is left on any node")
    if mpi == "auto":
        assert " starts the ranks: proved" in state.last.notes[-1]


# When Slurm ends the job: to the end of their grace the ranks can speak to each other.

SPEAKS_ON = """
import os, signal, time
from mpi4py import MPI
world = MPI.COMM_WORLD
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(time.monotonic()))
world.barrier()
open("up%d" % world.rank, "w").close()
while not world.allreduce(bool(told) and time.monotonic() > told[0] + 6, MPI.LOR):
    time.sleep(0.05)
open("saved%d" % world.rank, "w").close()
signal.signal(signal.SIGTERM, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGTERM)
"""
WAYS = [("openmpi", "srun:pmix", 2), ("mpich", "srun:pmi2", 2)] + [
    (family, "mpirun", nodes) for family in ("openmpi", "mpich") for nodes in (1, 2)
]
ALWAYS = ("openmpi", "mpirun", 2, "preempted")


def endings() -> list[Any]:
    found = []
    for way in itertools.product(WAYS, ["canceled", "preempted"]):
        row = (*way[0], way[1])
        mark = pytest.mark.engines if row == ALWAYS else pytest.mark.matrix
        found.append(pytest.param(*row, marks=mark))
    return found


@pytest.mark.parametrize(("family", "mpi", "nodes", "how"), endings())
def test_ranks_have_all_of_their_grace(
    slurm: SlurmCluster, tmp_path: Path, family: str, mpi: str, nodes: int, how: str
) -> None:
    """Six seconds of it: mpirun's daemons end theirs within one, if they hear of it."""
    low = {"partition": "low", "options": ["--exclusive"]}
    run = submit(tmp_path, family, SPEAKS_ON, mpi, nodes, settings=low, grace_seconds=15)
    ranks = range(2 * nodes)
    for rank in ranks:
        wait_for(lambda rank=rank: os.path.exists(f"{run.work}/up{rank}"), "it is up", PATIENCE)
    if how == "canceled":
        slurm.run("scancel", f"--name={run.run_id}")
    else:
        high = ["--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null"]
        slurm.run("sbatch", *high, "--wrap=true")
    end = wait_for(lambda: fold(run).attempts[0].end, "the end of the attempt", PATIENCE)
    said = [Path(run.attempt(1).stderr(rank)).read_text() for rank in ranks]
    assert end["cause"] == how, end
    assert all(os.path.exists(f"{run.work}/saved{rank}") for rank in ranks), said
    wait_for(lambda: not processes_of(run), "no process is left on any node", PATIENCE)


# When one side is not heard any more.

BEAT = 3.0  # seconds: long enough for a busy machine
WAITS = "import os, time\nopen('up' + os.environ['RECHAIN_RANK'], 'w')\ntime.sleep(1000)"


def waiting(tmp_path: Path, **settings: Any) -> RunPaths:
    run = submit(tmp_path, "openmpi", WAITS, "mpirun", beat=BEAT, **settings)
    for rank in range(4):
        wait_for(lambda rank=rank: os.path.exists(f"{run.work}/up{rank}"), "it is up", PATIENCE)
    wait_for(lambda: len(fold(run).last.ranks) == 4, "its ranks are recorded", PATIENCE)
    return run


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it has just ended


def ranks_on(slurm: SlurmCluster, node: str) -> list[int]:
    """Return what a script left running on a node: its own processes, not those around it."""
    return [pid for pid in slurm.processes(node) if b"script.py" in cmdline(pid).split(b"\0")]


@pytest.mark.engines
def test_a_node_that_falls_silent_is_lost_and_named(slurm: SlurmCluster, tmp_path: Path) -> None:
    run = waiting(tmp_path)
    mark = f"--node\0{run.root}\0".encode()
    send([pid for pid in slurm.processes("n2") if mark in cmdline(pid)], signal.SIGSTOP)
    end = wait_for(lambda: fold(run).attempts[0].end, "the end of the attempt", PATIENCE)
    assert end["cause"] == "lost_node"
    assert end["message"] == "node n2: there was no sign of life from it for 9 s"
    assert end["requeue"]
    # Slurm, which has not missed the node, is told; it ends what is there.
    wait_for(lambda: not processes_of(run), "no process is left on any node", PATIENCE)


@pytest.mark.engines
def test_without_the_supervisor_a_node_ends_its_ranks(slurm: SlurmCluster, tmp_path: Path) -> None:
    run = waiting(tmp_path)
    supervisor = slurm.pid_of("n1", fold(run).last.attempt["supervisor"]["pid"])
    os.kill(supervisor, signal.SIGSTOP)
    for node in slurm.nodes:
        wait_for(lambda node=node: not ranks_on(slurm, node), f"{node} is empty", PATIENCE)
    os.kill(supervisor, signal.SIGCONT)
    end = wait_for(lambda: fold(run).attempts[0].end, "the end of the attempt", PATIENCE)
    assert end["cause"] == "lost_node"
    assert end["message"].endswith("there was no sign of life from the supervisor on it")
    wait_for(lambda: not processes_of(run), "no process is left on any node", PATIENCE)


COMES_BACK = """
import os, time
from azureml.core.run import Run
attempt = os.environ["RECHAIN_ATTEMPT"].rpartition("/")[2]
open("up" + attempt, "w").close()
while not os.path.exists("go" + attempt):
    time.sleep(0.01)
Run.get_context().log("x", int(attempt), step=1)
"""


@pytest.mark.engines
def test_a_superseded_attempt_that_comes_back_writes_nothing_that_counts(
    slurm: SlurmCluster, tmp_path: Path
) -> None:
    """Its node was cut off, and Slurm has started the run on another one."""
    asked = request(Settings(store=cache()).to_json())
    run, job = make_run(tmp_path, COMES_BACK, target="cluster", slurm=asked)
    target = SlurmTarget("cluster", asked)
    number = target.start(target.plan(run, job), run, payload(job, cache()))["job"]
    wait_for(lambda: os.path.exists(f"{run.work}/up1"), "it is up", PATIENCE)
    lost = fold(run).last.attempt["host"]["name"]
    frozen = [pid for pid in slurm.processes(lost) if pid in processes_of(run)]
    send(frozen, signal.SIGSTOP)
    slurm.cut_off(lost)
    try:
        wait_for(lambda: slurm.job(number)["Restarts"] == "1", "it is requeued", PATIENCE)
        wait_for(lambda: slurm.job(number)["JobState"] == "PENDING", "it waits", PATIENCE)
        # A late word of its slurmd may have brought the node back in Slurm's eyes.
        slurm.run("scontrol", "update", f"jobid={number}", f"excnodelist={lost}")
        slurm.start_now(number)
        wait_for(lambda: os.path.exists(f"{run.work}/up2"), "it is up again", PATIENCE)
        for attempt in (1, 2):
            Path(f"{run.work}/go{attempt}").touch()
        state = wait_for_end(run, PATIENCE)
        send(frozen, signal.SIGCONT)
        wait_for(lambda: not processes_of(run), "the first attempt has ended by itself", PATIENCE)
    finally:
        slurm.rejoin(lost)
    assert state.last.number == 2
    assert state.attempts[0].end["requeue"]
    assert fold(run).status == state.status == "Completed"
    assert read_metrics(run.root)["x"] == 2
