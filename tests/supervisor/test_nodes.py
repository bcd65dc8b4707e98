"""Ranks on virtual nodes, under real MPIs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.supervisor.nodes import Nodes
from rechain.supervisor.turns import Ticket
from rechain.testing import processes_of, wait_for, wait_for_end
from tests.conftest import missing
from tests.supervisor.mpi import LAUNCHERS, make_ranks, read, start

pytestmark = pytest.mark.engines

SCRIPT = """
import json, os, resource
from mpi4py import MPI
print(json.dumps({
    "name": MPI.Get_processor_name(), "size": MPI.COMM_WORLD.Get_size(),
    "cores": sorted(os.sched_getaffinity(0)), "data": resource.getrlimit(resource.RLIMIT_DATA)[0],
    "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "local": os.environ["RECHAIN_LOCAL_RANK"],
    "threads": os.environ["OMP_NUM_THREADS"], "nodes": os.environ["AZUREML_NODE_COUNT"],
}))
"""

SIZE = {"vm_size": "tiny", "cpus": 1, "memory_gib": 3, "gpus": 0}


@pytest.fixture(autouse=True)
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(tmp_path / "queue"))


def on_nodes(
    workspace: Path, family: str, nodes: int, each: int, size: dict[str, Any]
) -> tuple[RunPaths, list[dict[str, Any]]]:
    """Run the script on nodes of a size; return what each rank saw."""
    pool = {"name": "cluster", "max_nodes": nodes, "priority": "dedicated", **size}
    run, job = make_ranks(workspace, family, SCRIPT, each, nodes, pool=pool)
    state = wait_for_end(start(run, job))
    wait_for(lambda: not processes_of(run), "no process is left")
    assert state.end["cause"] == "completed", state.end
    paths = run.attempt(1)
    return run, [json.loads(read(paths.stdout(rank))) for rank in range(nodes * each)]


@pytest.mark.parametrize("family", LAUNCHERS)
def test_each_rank_is_on_its_node(tmp_path: Path, family: str) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        missing("second core")
    run, ranks = on_nodes(tmp_path, family, 2, 2, SIZE)
    name = os.uname().nodename
    assert [rank["name"] for rank in ranks] == [f"{name}-node{n}" for n in (0, 0, 1, 1)]
    assert [rank["local"] for rank in ranks] == ["0", "1", "0", "1"]
    assert {rank["size"] for rank in ranks} == {4}
    assert {rank["gpus"] for rank in ranks} == {""}
    assert {rank["nodes"] for rank in ranks} == {"2"}
    assert ranks[0]["cores"] == ranks[1]["cores"] != ranks[2]["cores"] == ranks[3]["cores"]
    assert [len(rank["cores"]) for rank in ranks] == [1] * 4
    nodes = fold(run).last.nodes
    if nodes["memory_by"] == "rlimit":
        assert {rank["data"] for rank in ranks} == {3 * 2**30 // 2}
    else:
        assert nodes["memory_bytes"] == 6 * 2**30


def test_each_node_has_its_own_gpus_of_a_fake_nvidia_smi(tmp_path: Path, monkeypatch) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nfor i in 0 1 2 3 4; do echo $i, GPU-$i; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    _, ranks = on_nodes(tmp_path, "mpich", 2, 2, {**SIZE, "gpus": 2})
    assert [rank["gpus"] for rank in ranks] == ["GPU-0,GPU-1"] * 2 + ["GPU-2,GPU-3"] * 2


def test_nodes_share_what_gpus_there_are_of_a_fake_nvidia_smi(tmp_path, monkeypatch) -> None:
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 0, GPU-0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    run, ranks = on_nodes(tmp_path, "mpich", 2, 1, {**SIZE, "gpus": 1})
    assert [rank["gpus"] for rank in ranks] == ["GPU-0", "GPU-0"]
    notes = "\n".join(fold(run).last.notes)
    assert "2 nodes of tiny: 1 GPU each; this machine has 1 in all, which its nodes share" in notes


def test_ranks_on_a_pool_wait_for_all_their_nodes(tmp_path: Path) -> None:
    """One node is busy: a run that takes both waits."""
    size = {"vm_size": None, "cpus": None, "memory_gib": None, "gpus": 0}
    pool = {"name": "cluster", "max_nodes": 2, "priority": "dedicated", **size}
    gate = tmp_path / "gate"
    script = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    first = start(*make_ranks(tmp_path, "mpich", script, 1, pool=pool))
    wait_for(lambda: fold(first).status == "Running", "the first to run")
    second = start(*make_ranks(tmp_path, "mpich", "", 1, 2, pool=pool))
    wait_for(lambda: fold(second).status == "Queued", "the second to wait")
    gate.touch()
    for run in (first, second):
        assert wait_for_end(run).end["cause"] == "completed"
        wait_for(lambda run=run: not processes_of(run), "no process is left")


def test_memory_is_limited_by_a_fake_cgroup_folder_where_it_has_memory(tmp_path: Path) -> None:
    """Without the kernel behind it: few test machines let one divide a cgroup's memory."""
    cgroup = tmp_path / "base" / "attempt"
    cgroup.mkdir(parents=True)
    job = {
        "pool": {"gpus": 0, **SIZE},
        "distribution": {"nodes": 2, "processes_per_node": 1, "communicator": "Mpi"},
    }
    found = Nodes(job, Ticket("x", 0, TICKET), str(cgroup))
    assert (found.applied["memory_by"], found.applied["memory_bytes"]) == ("rlimit", 3 * 2**30)
    (cgroup / "memory.max").write_text("max\n")
    found = Nodes(job, Ticket("x", 0, TICKET), str(cgroup))
    assert (found.applied["memory_by"], found.applied["memory_bytes"]) == ("cgroup", 6 * 2**30)
    assert (cgroup / "memory.max").read_text().startswith(str(6 * 2**30))
    assert found.notes == []


def test_a_limit_that_is_there_already_is_not_raised() -> None:
    script = (
        "import resource; from rechain.supervisor.nodes import _limit_data; "
        "resource.setrlimit(resource.RLIMIT_DATA, (1 << 33, 1 << 33)); _limit_data(1 << 40); "
        "print(resource.getrlimit(resource.RLIMIT_DATA))"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    assert done.stdout.decode() == f"{(1 << 33, 1 << 33)}\n"


PROCESS = {"pid": 1, "start": 1}
TICKET = {
    "pool": "cluster", "run_id": "x", "nodes": 2, "max_nodes": 2, "priority": "dedicated",
    "submitted": 0, "visible": [], "wants_gpus": 0, "boot": "", "guard": PROCESS,
    "supervisor": PROCESS, "running": True, "since": 0.0, "turn": 0, "cores": [0, 1], "gpus": [],
}  # fmt: skip


@pytest.mark.parametrize("family", LAUNCHERS)
def test_ranks_yield_and_go_on_as_the_next_attempt(tmp_path: Path, family: str) -> None:
    size = {"vm_size": None, "cpus": None, "memory_gib": None, "gpus": 0}
    pool = {"name": "cluster", "max_nodes": 2, "priority": "dedicated", **size}
    script = """
import os, time
from mpi4py import MPI
attempt = os.environ["RECHAIN_ATTEMPT"].rpartition("/")[2]
print(attempt, MPI.COMM_WORLD.allreduce(1), flush=True)
time.sleep(600 * (attempt == "1"))
"""
    low = {**pool, "priority": "lowpriority"}
    first = start(*make_ranks(tmp_path, family, script, 1, 2, pool=low))
    said = first.attempt(1).stdout(1)
    wait_for(lambda: os.path.exists(said) and read(said), "both ranks to run")
    gate = tmp_path / "gate"
    waiting = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    second = start(*make_ranks(tmp_path, family, waiting, 1, pool=pool))
    wait_for(lambda: fold(second).status == "Running", "the dedicated run to have a node")
    assert fold(first).attempts[0].end["cause"] == "preempted"
    gate.touch()
    for run in (first, second):
        assert wait_for_end(run).end["cause"] == "completed"
        wait_for(lambda run=run: not processes_of(run), "no process is left")
    assert [read(first.attempt(2).stdout(rank)) for rank in range(2)] == ["2 2\n"] * 2
