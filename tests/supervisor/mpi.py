"""Runs of several ranks for the tests, on this interpreter and this machine's MPIs."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from rechain.compute.local import LocalTarget
from rechain.environment.mpi import ask
from rechain.record.paths import RunPaths
from rechain.testing import make_run
from rechain.testing.runs import payload
from tests.conftest import missing

TARGET = LocalTarget()
LAUNCHERS = ("openmpi", "mpich")


def mpiexec(family: str) -> str:
    """Return the launcher of a system MPI, as Debian names them, or the only one there is."""
    found = shutil.which(f"mpiexec.{family}")
    if found is None:
        missing(f"mpiexec.{family}")
    assert found is not None
    return found


@functools.cache
def cache() -> str:
    """A cache of the tests' own, until they are through."""
    folder = tempfile.mkdtemp(prefix="rechain-test-mpi-")
    atexit.register(shutil.rmtree, folder)
    return folder


def variables(family: str) -> dict[str, str]:
    """Return what makes a script use a system MPI."""
    found: dict[str, str] = ask(cache(), mpiexec(family))["variables"]
    return found


def make_ranks(
    workspace: Path, family: str, script: str, count: int = 2, nodes: int = 1, **settings: Any
) -> tuple[RunPaths, dict[str, Any]]:
    """Make a run whose script has several ranks: so many on each node."""
    launcher = settings.pop("launcher", None) or mpiexec(family)
    return make_run(
        workspace,
        script,
        python=sys.executable,
        environment={"mpi": {"wanted": launcher, "mpiexec": launcher}},
        distribution={"nodes": nodes, "processes_per_node": count, "communicator": "Mpi"},
        **settings,
    )


def start(run: RunPaths, job: dict[str, Any]) -> RunPaths:
    """Start it."""
    TARGET.start(TARGET.plan(run, job), run, payload(job, cache()))
    return run


def read(path: str) -> str:
    """Return a file's text."""
    return Path(path).read_text()


def ranks_left(run: RunPaths) -> list[str]:
    """Return what the guards of the ranks noted."""
    return sorted(os.listdir(run.attempt(1).ranks))
