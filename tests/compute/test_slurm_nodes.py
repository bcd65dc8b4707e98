"""Runs over two nodes of a real Slurm: where ranks are, and that none outlives its run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.compute.slurm import SlurmTarget
from rechain.compute.slurm.settings import Settings, request
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


def submit(
    workspace: Path, family: str, script: str, mpi: str = "auto", each: int = 2, **settings: Any
) -> RunPaths:
    """Submit a run over two nodes."""
    launcher = mpiexec(family)
    asked = request(Settings(mpi=mpi, store=cache()).to_json())
    run, job = make_run(
        workspace,
        script,
        target="cluster",
        python=sys.executable,
        environment={"mpi": {"wanted": launcher, "mpiexec": launcher}},
        distribution={"nodes": 2, "processes_per_node": each, "communicator": "Mpi"},
        slurm=asked,
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
    state = wait_for_end(run, 120)
    assert state.status == "Completed", (state.end, state.last.notes)
    assert [said(run, rank).split() for rank in range(4)] == [
        [str(rank), "4", "4", f"n{1 + rank // 2}", str(rank), str(rank % 2), str(rank // 2)]
        for rank in range(4)
    ]
    wait_for(lambda: not processes_of(run), "no process is left on any node")
    if mpi == "auto":
        assert "mpirun starts the ranks: proved" in state.last.notes[-1]
