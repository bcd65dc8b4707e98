"""What starts ranks on several nodes: the order in which it is tried, and for how long."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.record import jsonl
from rechain.supervisor import launchers

pytestmark = pytest.mark.fast

HANGS = "exec sleep 600"
WORKS = "exit 0"
ALONE = "exit 78"
SLOW = 'test -e "$0.before" || { touch "$0.before"; exec sleep 600; }; exit 0'


@pytest.fixture
def proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What comes of launchers that do what a test says, with less patience than in earnest."""
    monkeypatch.setattr(launchers, "_PATIENCES", (2, 4))

    def call(**programs: str) -> dict[str, Any]:
        for name, text in programs.items():
            program = tmp_path / name
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o755)
        mpi = {"family": "openmpi", "version": "4.1.4", "mpiexec": str(tmp_path / "mpirun")}
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        result = str(tmp_path / "result")
        kinds = launchers.candidates("auto", mpi)
        said: list[str] = []
        launchers.prove(kinds, mpi, 2, sys.executable, dict(os.environ), result, said.append)
        assert said[0] == "trying whether mpirun starts ranks on 2 nodes: 2 s at most"
        return dict(jsonl.read(result))

    return call


def test_with_fake_launchers_one_that_hangs_does_not_keep_the_other_waiting(proved: Any) -> None:
    found = proved(mpirun=HANGS, srun=WORKS)
    assert found["kind"] == "srun:pmix"
    assert found["text"].startswith(
        "mpirun does not work here (not within 2 s); srun:pmix starts the ranks: proved with"
    )


def test_with_fake_launchers_one_that_is_slow_gets_more_time(proved: Any) -> None:
    found = proved(mpirun=SLOW, srun=ALONE)
    assert found["kind"] == "mpirun"
    assert found["text"].startswith(
        "srun:pmix does not work here (worlds of one rank each); mpirun starts the ranks: proved"
    )


def test_with_fake_launchers_none_that_works(proved: Any) -> None:
    assert proved(mpirun=HANGS, srun=ALONE) == {
        "kind": None,
        "text": "mpirun does not work here (not within 4 s); "
        "srun:pmix does not work here (worlds of one rank each)",
    }


# In containers: each MPI is told of an agent in place of ssh, and where the ranks are.


def test_an_agent_in_place_of_ssh_is_said_as_each_mpi_wants_it() -> None:
    def by(family: str, version: str) -> list[str]:
        mpi = {"family": family, "version": version, "mpiexec": "/x/mpiexec"}
        return launchers.by_agent(mpi, "agent", ["n1", "n2"], 2)

    place = ["--bind-to", "none", "--host", "n1:2,n2:2", "-n", "4"]
    first = ["/x/mpiexec", "--map-by", "ppr:2:node"]
    assert by("openmpi", "4.1.4") == [*first, "--oversubscribe", *place]
    assert by("openmpi", "5.0.1") == [*first[:2], "ppr:2:node:OVERSUBSCRIBE", *place]
    hydra = ["-bootstrap", "rsh", "-bootstrap-exec", "agent", "-genvnone", "-hosts", "n1,n2"]
    for family in ("mpich", "impi"):
        assert by(family, "4.0") == ["/x/mpiexec", *hydra, "-ppn", "2", "-n", "4"]
    variables: dict[str, str] = {}
    launchers.tell_agent(variables, "agent", "deaf")
    assert variables["OMPI_MCA_orte_launch_agent"] == "deaf orted"
    assert variables["OMPI_MCA_plm_rsh_agent"] == variables["PRTE_MCA_plm_ssh_agent"] == "agent"
