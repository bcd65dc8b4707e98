"""Ranks of real MPIs in one container of podman or docker, through the whole of Rechain."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.testing import processes_of, wait_for
from tests.conftest import interpreter

CELLS = [
    pytest.param("podman", "mpich", marks=pytest.mark.engines),
    pytest.param("podman", "openmpi", marks=pytest.mark.matrix),
    pytest.param("docker", "mpich", marks=pytest.mark.matrix),
    pytest.param("docker", "openmpi", marks=pytest.mark.matrix),
]
PAIRS = [cell.values for cell in CELLS]
TALK = """
import os, sys
import numpy
from mpi4py import MPI
comm = MPI.COMM_WORLD
rank = comm.Get_rank()
found = numpy.zeros(1 << 20)
comm.Allreduce(numpy.full(1 << 20, rank + 1.0), found)
print(rank, comm.Get_size(), found.sum() / found.size, os.environ["RECHAIN_LOCAL_RANK"])
print(len(set(comm.allgather(os.readlink("/proc/self/ns/pid")))), os.path.exists("/opt/rechain"))
if "fail" in sys.argv and rank == 1:
    raise ValueError("of rank 1")
if "fail" in sys.argv:
    comm.recv(source=1)
"""


def ended(said: dict[str, Any]) -> dict[str, Any]:
    """Return the end of a run, and see that no process is left."""
    run = RunPaths(said["folder"])
    end = fold(run).end
    assert end is not None
    wait_for(lambda: not processes_of(run), "its processes are gone", 60)
    return end


def ran(
    home: Path, family: str, *arguments: str, script: str = TALK, options: tuple[str, ...] = ()
) -> tuple[Any, str]:
    """Run a script of two ranks in a container to its end; return what was said."""
    source = home / "code 雪"
    source.mkdir(exist_ok=True)
    (source / "train.py").write_text(script)
    command = [
        sys.executable, "-m", "rechain", "run", "--json", "--docker", "-n", "2", "--mpi",
        family, "--framework-version", "7.0.0", "--python", interpreter("3.6"),
        *options, str(source / "train.py"), *arguments,
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    return jsonl.loads(ended.stdout), ended.stderr


@pytest.fixture
def based(engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RECHAIN_BASE_IMAGE", engine.base_image())
    return engine


@pytest.mark.parametrize(("engine", "family"), CELLS, indirect=["engine"])
def test_ranks_in_one_container_talk(based, home: Path, environments: Path, family: str) -> None:
    said, errors = ran(home, family)
    assert said["status"] == "Completed", errors
    attempt = Path(said["folder"]) / "attempts" / "1"
    for rank in range(2):
        assert (attempt / f"{rank}.out").read_text() == f"{rank} 2 3.0 {rank}\n1 True\n"
        assert (attempt / f"{rank}.err").read_text() == ""
        assert os.stat(attempt / f"{rank}.out").st_uid == os.getuid()
    lock = jsonl.read(f"{said['folder']}/lock.json")
    assert lock["mpi"]["family"] == family
    assert lock["image"]["mpi"]["mpiexec"] == "/opt/rechain/mpi/bin/mpiexec"


@pytest.mark.matrix
@pytest.mark.parametrize(("engine", "family"), PAIRS, indirect=["engine"])
def test_a_rank_that_raises_ends_the_others_and_is_the_cause(
    based, home: Path, environments: Path, family: str
) -> None:
    said, errors = ran(home, family, "fail")
    end = ended(said)
    assert end["cause"] == "user_error", errors
    assert end["message"] == "exit 1, ValueError at train.py:12, rank 1"
    assert end["detail"] == "ValueError: of rank 1"
    assert end["rank"] == 1


ENDS = """
import os, signal, sys, time
from mpi4py import MPI
comm = MPI.COMM_WORLD
rank = comm.Get_rank()
how = sys.argv[1]
def stop(*_):
    print("asked", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, signal.SIG_IGN if how == "deaf" else stop)
if not os.fork():
    os.setsid()
    os.execv("/bin/sleep", ["sleep", "600"])
comm.Barrier()
print("up", flush=True)
if how == "left":
    sys.exit()
if rank == 1 and how == "exit":
    sys.exit(37)
if rank == 1 and how == "abort":
    comm.Abort(7)
if rank == 1 and how == "kill":
    os.kill(os.getpid(), 9)
if rank == 1 and how == "guard":
    os.kill(os.getppid(), 9)
time.sleep(600)
"""


@pytest.mark.matrix
@pytest.mark.parametrize(("engine", "family"), PAIRS, indirect=["engine"])
@pytest.mark.parametrize(
    ("how", "options", "cause", "message"),
    [
        ("left", (), "completed", "exit 0"),
        ("exit", (), "user_error", "exit 37, rank 1"),
        ("abort", (), "user_error", "exit 7"),
        ("kill", (), "killed", "signal 9, SIGKILL, rank 1"),
        ("guard", (), "killed", "the guard of rank 1 was killed"),
        ("wait", ("--time-limit", "20"), "time_limit", "longer than 20 s"),
        ("deaf", ("--time-limit", "20", "--grace", "1"), "time_limit", "longer than 20 s"),
    ],
    ids=["left", "exit", "abort", "kill", "guard", "wait", "deaf"],
)
def test_ranks_end_as_they_do_without_a_container(
    based, home: Path, environments: Path, family, how, options, cause, message
) -> None:
    said, errors = ran(home, family, how, script=ENDS, options=options)
    end = ended(said)
    assert end["cause"] == cause, (end, errors)
    assert end["message"].startswith(message)
    if how == "left":
        assert end["leftover"] == 2
    if how == "wait":
        for rank in range(2):
            assert "asked" in Path(f"{said['folder']}/attempts/1/{rank}.out").read_text()
