"""Containers on several nodes of a real Slurm: one on each, with MPI between them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rechain.compute.slurm import SlurmTarget
from rechain.compute.slurm.settings import Settings, request
from rechain.environment.engines import CHOICE, VARIABLES
from rechain.environment.spec import digest_of
from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.record.requests import ask_to_stop
from rechain.testing import make_run, processes_of, wait_for
from rechain.testing.engines import ThrowAwayEngine
from rechain.testing.runs import payload
from rechain.testing.slurm import MPI_VARIABLES, SlurmCluster
from rechain.workspace.reconcile import reconcile
from tests.conftest import interpreter, no_container_left
from tests.test_chainermn import SCRIPT as TRAINING
from tests.test_container_ranks import own_image

PATIENCE = 180  # seconds; only ends a test that hangs

Engines = dict[str, ThrowAwayEngine]


@pytest.fixture(scope="module")
def slurm_cluster(nodes_engines: Engines) -> Iterator[SlurmCluster]:
    """A Slurm whose nodes see those engines' folders, which are mounts of their own."""
    with SlurmCluster(2, kill_wait=20) as cluster:
        yield cluster


@pytest.fixture
def there(
    nodes_engines: Engines, slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engines]:
    """Those engines, by a client that takes that of its node: nodes share all variables."""
    for name in {*VARIABLES, CHOICE} - {"HOME", "PATH", "TMPDIR"}:
        monkeypatch.delenv(name, raising=False)
    lines = ["#!/bin/sh", "case $(uname -n) in"]
    for node, engine in nodes_engines.items():
        found = {name: value for name, value in engine.environment.items() if name in VARIABLES}
        words = " ".join(f"{name}={value}" for name, value in found.items() if name != CHOICE)
        lines.append(f"{node}) export {words};;")
    client = tmp_path / "clients" / nodes_engines["n1"].name
    client.parent.mkdir()
    program = shutil.which(client.name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
    client.write_text("\n".join([*lines, "esac", f'exec {program} "$@"\n']))
    client.chmod(0o755)
    monkeypatch.setenv(CHOICE, str(client))
    yield nodes_engines
    for engine in nodes_engines.values():
        no_container_left(engine)


Start = Callable[..., Any]


@pytest.fixture
def start(
    there: Engines, nodes_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Start:
    """Start a script as two ranks on each of two nodes, in an image that the first node has."""
    monkeypatch.setenv("RECHAIN_CACHE", str(nodes_cache))

    def call(script: str, *options: str, family: str = "openmpi", **fields: Any) -> Any:
        image = own_image(there["n1"], family, tmp_path)
        asked = {"reference": image, "asked": image, "built": False, "pull": False}
        slurm = request(Settings(options=["--mem=600", *options]).to_json())
        run, job = make_run(
            tmp_path / "ws", script, python="python3", target="cluster", slurm=slurm,
            container={"shm_size": "32m", "arguments": [], "mounts": []},
            distribution={"nodes": 2, "processes_per_node": 2, "communicator": "Mpi"},
            environment={
                "image": {"digest": digest_of(asked), **asked},
                "mpi": {"wanted": "auto", "mpiexec": None},
            },
            variables={**MPI_VARIABLES, **fields.pop("variables", {})},
            **fields,
        )  # fmt: skip
        target = SlurmTarget("cluster", slurm)
        handle = target.start(target.plan(run, job), run, payload(job))
        jsonl.write_new(run.submission, {"schema": 1, "handle": handle})
        return run, job

    return call


def text(path: str) -> str:
    return Path(path).read_text() if os.path.exists(path) else ""


def logs(run: Any) -> str:
    """Return all that the attempt's processes said, for a failed test."""
    folder = Path(run.attempt(1).root)
    found = [path for path in folder.rglob("*") if path.suffix in (".log", ".err", ".out")]
    return "\n".join(f"== {path.name}\n{path.read_text()}" for path in found)


def ended(run: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for the end, as a reader does; return it."""

    def end() -> Any:
        reconcile(run, job)
        return fold(run).end

    return dict(wait_for(end, "the end of the run", PATIENCE))


def empty(cluster: SlurmCluster, run: Any) -> None:
    wait_for(lambda: not cluster.run("squeue", "--noheader"), "an empty queue", PATIENCE)
    wait_for(lambda: not processes_of(run), "no process is left on any node", PATIENCE)


TALK = """
import os, sys
from mpi4py import MPI
comm = MPI.COMM_WORLD
total = comm.allreduce([comm.rank + 1.0] * 100000)
print(comm.rank, comm.size, len(total), sum(total), os.environ["SLURM_JOB_NUM_NODES"])
names = ("RECHAIN_RANK", "RECHAIN_LOCAL_RANK", "RECHAIN_NODE", "AZUREML_CR_NODE_RANK")
print(os.uname().nodename, os.environ["SLURM_NODEID"], *[os.environ[name] for name in names])
print(len(set(comm.allgather(os.readlink("/proc/self/ns/pid")))), os.environ["OMP_NUM_THREADS"])
print([name for name in os.environ if "AGENT" in name], "agent" in os.environ["PATH"])
"""


CELLS = [("podman", "openmpi"), ("podman", "mpich"), ("docker", "openmpi")]
"""Not docker with MPICH: a dockerd is outside of the nodes here, and does not know their names."""
ENGINES_FIRST: dict[str, Any] = {"indirect": ["nodes_engines"], "scope": "module"}
PAIRS = pytest.mark.parametrize(("nodes_engines", "family"), CELLS, **ENGINES_FIRST)


@pytest.mark.parametrize(
    ("nodes_engines", "family"),
    [pytest.param(*CELLS[0], marks=pytest.mark.engines)]
    + [pytest.param(*cell, marks=pytest.mark.matrix) for cell in CELLS[1:]],
    **ENGINES_FIRST,
)
def test_ranks_of_two_nodes_talk_from_a_container_on_each(start, slurm, family: str) -> None:
    run, job = start(TALK, family=family)
    end = ended(run, job)
    assert end["cause"] == "completed", (end, logs(run))
    for rank in range(4):
        node = rank // 2
        assert text(run.attempt(1).stdout(rank)).splitlines() == [
            f"{rank} 4 400000 1000000.0 2", f"n{node + 1} {node} {rank} {rank % 2} {node} {node}",
            "2 1", "[] False",
        ], logs(run)  # fmt: skip
    # n1's engine has the image from an archive of docker's form, and n2's gets the very same.
    assert "cannot be loaded" not in logs(run)
    ids = [jsonl.read(run.attempt(1).node(node).container)["image"]["id"] for node in ("n1", "n2")]
    assert ids[0] == ids[1]
    empty(slurm, run)


# How it ends.

WAITS = """
import os, signal, sys, time
from mpi4py import MPI
comm = MPI.COMM_WORLD
how = sys.argv[1:] or ["wait"]
def stop(*_):
    print("asked", flush=True)
    time.sleep(2)  # conmon and the MPI's daemons hear Slurm's SIGTERM, too
    print("saved", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, stop)
comm.Barrier()
print("up", flush=True)
if how == ["raise"] and comm.rank == 3:
    raise ValueError("of rank 3")
if how == ["abort"] and comm.rank == 3:
    comm.Abort(7)
if how == ["memory"] and comm.rank == 3:
    x = [b"x" * (1 << 20) for _ in range(1000)]
if how == ["exit"]:
    sys.exit(3 if comm.rank == 2 else 0)
if how == ["left"]:
    import subprocess
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    sys.exit(0)
for _ in range(6000):
    time.sleep(0.1)
"""


def up(run: Any, attempt: int = 1) -> None:
    """Wait until all ranks have said so."""

    def said() -> bool:
        end = fold(run).end
        assert end is None, (end, logs(run))
        return all("up" in text(run.attempt(attempt).stdout(rank)) for rank in range(4))

    wait_for(said, "all ranks are up", PATIENCE)


@PAIRS
@pytest.mark.parametrize(
    ("how", "cause", "message"),
    [
        ("raise", "user_error", "exit 1, ValueError at script.py:"),
        ("exit", "user_error", "exit 3"),
        ("abort", "user_error", "exit 7"),
        ("memory", "out_of_memory", ""),
        ("left", "completed", "exit 0"),
    ],
)
@pytest.mark.matrix
def test_the_end_of_one_rank_is_that_of_all(start, slurm, how, cause, message, family) -> None:
    run, job = start(WAITS, arguments=[how], family=family)
    end = ended(run, job)
    assert end["cause"] == cause, (end, logs(run))
    assert message in end["message"], (end, logs(run))
    if how in ("raise", "memory"):
        assert end["message"].endswith("rank 3 on n2"), end
    if how == "left":
        assert end["leftover"] == 4
    empty(slurm, run)


@PAIRS
@pytest.mark.matrix
def test_all_ranks_are_asked_when_slurm_ends_the_job(start, slurm, family) -> None:
    run, job = start(WAITS, grace_seconds=15, family=family)
    up(run)
    slurm.run("scancel", f"--name={run.run_id}")
    end = ended(run, job)
    assert end["cause"] == "canceled", (end, logs(run))
    for rank in range(4):
        said = text(run.attempt(1).stdout(rank)).split()
        # Slurm itself may ask twice.
        assert list(dict.fromkeys(said)) == ["up", "asked", "saved"], logs(run)
    empty(slurm, run)


@PAIRS
@pytest.mark.matrix
def test_all_ranks_are_asked_at_the_time_limit_and_on_request(start, slurm, family) -> None:
    run, job = start(WAITS, seconds=8, grace_seconds=15, family=family)
    end = ended(run, job)
    assert end["cause"] == "time_limit", (end, logs(run))
    run, job = start(WAITS, grace_seconds=15, family=family)
    up(run)
    ask_to_stop(run)
    end = ended(run, job)
    assert end["cause"] == "canceled", (end, logs(run))
    for rank in range(4):
        said = text(run.attempt(1).stdout(rank)).split()
        # Slurm itself may ask twice.
        assert list(dict.fromkeys(said)) == ["up", "asked", "saved"], logs(run)
    empty(slurm, run)


def of(run: Any, node: str, word: str) -> list[int]:
    """Return the processes in a node's container one of whose arguments ends in a word."""
    found = []
    for pid in processes_of(run):
        try:
            said = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            there = Path(f"/proc/{pid}/environ").read_text(errors="replace")
        except OSError:
            continue  # it has ended
        marks = (f"-{node}\0", f"SLURMD_NODENAME={node}\0")  # a launcher's, a rank's
        if any(mark in there for mark in marks) and any(part.endswith(word) for part in said):
            found.append(pid)
    return sorted(found)


def guards(run: Any, node: str) -> list[int]:
    """Return a node's keeper and guard."""
    mark = f"--node\0{run.root}\0".encode()
    found = []
    for pid in processes_of(run):
        try:
            said = Path(f"/proc/{pid}/cmdline").read_bytes()
            where = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # it has ended
        if mark in said and b"srun" not in said and f"SLURMD_NODENAME={node}\0".encode() in where:
            found.append(pid)
    return sorted(found)


def kill(*pids: int) -> None:
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)


VICTIMS = {
    "a rank": ("n2", "script.py", "killed", "rank "),
    "a rank's guard": ("n2", "rechain_guest/rank.py", "killed", "rank "),
    "the launcher": ("n1", "mpiexec", "killed", ""),
    "the daemon": ("n2", {"openmpi": "orted", "mpich": "hydra_pmi_proxy"}, "killed", ""),
    "the container": ("n2", "rechain_guest/init.py", "killed", "node n2: the container was ended"),
}


@PAIRS
@pytest.mark.parametrize("who", VICTIMS)
@pytest.mark.matrix
def test_what_is_killed_in_a_container_ends_all(start, slurm, who: str, family: str) -> None:
    run, job = start(WAITS, family=family)
    up(run)
    node, word, cause, message = VICTIMS[who]
    if isinstance(word, dict):
        word = word[family]
    if who == "the container":
        inward = run.attempt(1).node(node).container_in
        (victim,) = [
            pid
            for pid in processes_of(run)
            if f"\0{inward}\0" in Path(f"/proc/{pid}/cmdline").read_text()
            and Path(f"/proc/{pid}/status")
            .read_text()
            .split("NSpid:")[1]
            .split("\n")[0]
            .split()[-1]
            == "1"
        ]
    else:
        victim = next(
            pid
            for pid in of(run, node, word)
            if who != "a rank" or "rank.py" not in Path(f"/proc/{pid}/cmdline").read_text()
        )
    os.kill(victim, signal.SIGKILL)
    end = ended(run, job)
    assert end["cause"] == cause, (end, logs(run))
    assert message in end["message"], (end, logs(run))
    empty(slurm, run)


@pytest.mark.parametrize("which", [(0,), (1,)], ids=["keeper", "guard"])
@pytest.mark.parametrize("node", ["n1", "n2"])
@pytest.mark.matrix
def test_the_guard_of_a_node_is_killed(start, slurm, node: str, which: tuple[int, ...]) -> None:
    run, job = start(WAITS)
    up(run)
    found = guards(run, node)
    assert len(found) == 2, found
    kill(*[found[one] for one in which])
    end = ended(run, job)
    assert end["cause"] == "killed", (end, logs(run))
    assert end["message"] == f"the guard of node {node} was killed", end
    empty(slurm, run)


@pytest.mark.parametrize("victims", [("supervisor",), ("guard",), ("guard", "supervisor")])
@pytest.mark.matrix
def test_whoever_of_the_pair_is_killed_no_container_stays(start, slurm, victims) -> None:
    run, job = start(WAITS)
    up(run)
    started = fold(run).last.attempt
    kill(*[slurm.pid_of("n1", started[who]["pid"]) for who in victims])
    end = ended(run, job)
    assert end["cause"] == "supervisor_lost", (end, logs(run))
    empty(slurm, run)


@pytest.mark.matrix
def test_nothing_lives_on_when_slurm_kills_all(start, slurm, there) -> None:
    run, job = start(WAITS)
    up(run)
    slurm.run("scancel", "--signal=KILL", "--full", f"--name={run.run_id}")
    assert ended(run, job)["cause"] in ("supervisor_lost", "canceled", "lost_node")
    empty(slurm, run)
    for engine in there.values():  # what the engines remember
        for container in engine.run("ps", "--all", "--quiet").split():
            engine.run("rm", "--force", container, check=False)


@pytest.mark.matrix
def test_a_node_that_loses_its_power_is_named(start, slurm, there) -> None:
    run, job = start(WAITS)
    up(run)
    slurm.kill_node("n2")
    end = wait_for(lambda: fold(run).attempts[0].end, "the end of the attempt", PATIENCE)
    assert end["cause"] == "lost_node", (end, logs(run))
    assert "n2" in end["message"], end
    slurm.run("scancel", f"--name={run.run_id}")
    slurm.start_node("n2")
    ended(run, job)
    empty(slurm, run)
    for container in there["n2"].run("ps", "--all", "--quiet").split():
        there["n2"].run("rm", "--force", container, check=False)


# Through the whole of Rechain, with an MPI that it installs. Not with MPICH: that one of the index
# finds no way between containers that have one loopback device.


@pytest.mark.matrix
def test_chainermn_trains_in_containers_of_two_nodes(
    there, slurm, home: Path, environments: Path, monkeypatch
) -> None:
    monkeypatch.setenv("RECHAIN_BASE_IMAGE", there["n1"].base_image())
    there["n2"].base_image()
    (home / "train.py").write_text(TRAINING)
    rechain = [sys.executable, "-m", "rechain"]
    add = ["target", "add", "lab", "--slurm", "--sbatch-option=--mem=1500"]
    subprocess.run([*rechain, *add], check=True)
    command = [
        *rechain, "run", "--json", "--target", "lab", "--docker", "--node-count", "2",
        "--process-count-per-node", "2", "--mpi", "openmpi", "--framework-version", "7.0.0",
        "--python", interpreter("3.6"),
        *(f"--env={name}={value}" for name, value in MPI_VARIABLES.items()), "train.py",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = jsonl.loads(done.stdout)
    run = RunPaths(said["folder"])
    assert said["status"] == "Completed", (done.stderr, logs(run))
    assert "7.0.0 3.1.6 4 " in text(run.attempt(1).stdout(0))
    assert len(said["metrics"]["main/loss"]) == 3
    assert jsonl.read(run.lock)["image"]["mpi"]["mpiexec"] == "/opt/rechain/mpi/bin/mpiexec"
    empty(slurm, run)
