"""Ranks of real MPIs in one container of podman or docker, through the whole of Rechain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from uv import find_uv_bin

from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.testing import processes_of, wait_for
from rechain.testing.engines import ThrowAwayEngine
from tests.conftest import interpreter
from tests.test_chainermn import SCRIPT as TRAINING

CELLS = [
    pytest.param("podman", "mpich", marks=pytest.mark.engines),
    pytest.param("podman", "openmpi", marks=pytest.mark.matrix),
    pytest.param("docker", "mpich", marks=pytest.mark.engines),
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
    wait_for(lambda: not processes_of(run), "its processes are gone")
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
WAYS: list[tuple[str, tuple[str, ...], str, str]] = [
    ("left", (), "completed", "exit 0"),
    ("exit", (), "user_error", "exit 37, rank 1"),
    ("abort", (), "user_error", "exit 7"),
    ("kill", (), "killed", "signal 9, SIGKILL, rank 1"),
    ("guard", (), "killed", "the guard of rank 1 was killed"),
    ("wait", ("--time-limit", "20"), "time_limit", "longer than 20 s"),
    ("deaf", ("--time-limit", "20", "--grace", "1"), "time_limit", "longer than 20 s"),
]


@pytest.mark.matrix
@pytest.mark.parametrize(("engine", "family"), PAIRS, indirect=["engine"])
@pytest.mark.parametrize(("how", "options", "cause", "message"), WAYS, ids=[w[0] for w in WAYS])
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


# Ranks in an image of the user's own, by the Python and the MPI that it has.

OWN_CELLS = [
    pytest.param("podman", "openmpi", marks=pytest.mark.engines),
    pytest.param("podman", "mpich", marks=pytest.mark.matrix),
    pytest.param("docker", "openmpi", marks=pytest.mark.matrix),
    pytest.param("docker", "mpich", marks=pytest.mark.matrix),
]
OWN_PAIRS = [cell.values for cell in OWN_CELLS]
OWN_TALK = """
import os, sys
from mpi4py import MPI
comm = MPI.COMM_WORLD
rank = comm.Get_rank()
total = comm.allreduce([rank + 1.0] * 100000)
print(rank, comm.Get_size(), len(total), sum(total), os.environ["RECHAIN_LOCAL_RANK"])
print(len(set(comm.allgather(os.readlink("/proc/self/ns/pid")))), sys.executable)
"""


def own_image(engine: ThrowAwayEngine, family: str, folder: Path) -> str:
    """Return an image of Debian's packages with an MPI, and an mpi4py for it."""
    if family == "openmpi":
        return engine.debian_image("openmpi-bin", "python3-mpi4py")
    # Debian's mpi4py is for Open MPI: a wheel finds MPICH under the name that MPICH gives itself.
    base = engine.debian_image("mpich", "python3-minimal", "libpython3-stdlib")
    name = "localhost/rechain-test:mpich-with-mpi4py"
    if not engine.run("images", "--quiet", name).strip():
        target = folder / "image" / "site"
        wanted = ["--only-binary", ":all:", "--python-version", "3.11", "mpi4py==4.1.1"]
        tool = [find_uv_bin(), "pip", "install", "-q", "--target", str(target), *wanted]
        subprocess.run(tool, check=True)
        (folder / "image" / "Containerfile").write_text(
            f"FROM {base}\nCOPY site /usr/lib/python3/dist-packages\n"
            "RUN ln -s libmpich.so.12 /usr/lib/x86_64-linux-gnu/libmpi.so.12\n"
            "ENV MPI4PY_MPIABI=mpich\n"
        )
        recipe = str(folder / "image" / "Containerfile")
        engine.run("build", "--tag", name, "--file", recipe, str(folder / "image"))
    return name


def ran_in_own(
    home: Path, image: str, script: str, *arguments: str, options: tuple[str, ...] = ()
) -> tuple[Any, str]:
    (home / "train.py").write_text(script)
    command = [sys.executable, "-m", "rechain", "run", "--json", "--image", image]
    command += ["--user-managed", "-n", "2", *options, str(home / "train.py"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    return jsonl.loads(ended.stdout), ended.stderr


@pytest.mark.parametrize(("engine", "family"), OWN_CELLS, indirect=["engine"])
def test_ranks_of_an_own_image_talk_by_the_mpi_that_it_has(
    engine, home: Path, environments: Path, tmp_path: Path, family: str
) -> None:
    said, errors = ran_in_own(home, own_image(engine, family, tmp_path), OWN_TALK)
    assert said["status"] == "Completed", errors
    attempt = Path(said["folder"]) / "attempts" / "1"
    for rank in range(2):
        text = f"{rank} 2 200000 300000.0 {rank}\n1 /usr/bin/python3\n"
        assert (attempt / f"{rank}.out").read_text() == text
        assert os.stat(attempt / f"{rank}.out").st_uid == os.getuid()
    lock = jsonl.read(f"{said['folder']}/lock.json")
    assert lock["mpi"]["family"] == family
    assert lock["mpi"]["mpiexec"] == "/usr/bin/mpiexec"
    assert lock["interpreter"]["path"] == "/usr/bin/python3"
    assert lock["interpreter"]["version"].startswith("3.11.")


@pytest.mark.matrix
@pytest.mark.parametrize(("engine", "family"), OWN_PAIRS, indirect=["engine"])
@pytest.mark.parametrize(("how", "options", "cause", "message"), WAYS, ids=[w[0] for w in WAYS])
def test_ranks_of_an_own_image_end_as_all_do(
    engine, home: Path, environments: Path, tmp_path: Path, family, how, options, cause, message
) -> None:
    image = own_image(engine, family, tmp_path)
    said, errors = ran_in_own(home, image, ENDS, how, options=options)
    end = ended(said)
    assert end["cause"] == cause, (end, errors)
    assert end["message"].startswith(message)


@pytest.mark.parametrize("engine", ["podman"], indirect=True)
@pytest.mark.engines
def test_an_own_image_that_cannot_start_ranks_says_why_before_any_starts(
    engine, home: Path, environments: Path
) -> None:
    image = engine.python_image(sys.executable)
    for options, says in (
        ((), f"the image {image} has no mpiexec and no mpirun, which starts ranks"),
        (("--mpi", "/opt/mpi/bin/mpirun"), f"the image {image} has no /opt/mpi/bin/mpirun"),
        (("--python", "python9"), f"the image {image} has no `python9` that runs"),
        (("--mpi", "true"), f"true of the image {image} is no mpiexec of Open MPI"),
    ):
        said, errors = ran_in_own(home, image, OWN_TALK, options=options)
        assert said["cause"] == "environment", errors
        assert says in said["message"]
        assert not os.path.exists(f"{said['folder']}/attempts/1/0.out")


@pytest.mark.matrix
@pytest.mark.parametrize("engine", ["podman"], indirect=True)
def test_chainermn_trains_in_an_image_that_is_taken_as_it_is(
    based, home: Path, environments: Path, tmp_path: Path
) -> None:
    made, errors = ran(home, "mpich", script="")
    image = jsonl.read(f"{made['folder']}/lock.json")["image"]
    variables = dict(image["mpi"]["variables"])
    variables["LD_LIBRARY_PATH"] += ":$LD_LIBRARY_PATH"  # Python's own
    lines = [f'ENV {name}="{value}"' for name, value in variables.items()]
    (tmp_path / "Containerfile").write_text("\n".join([f"FROM {image['reference']}", *lines]))
    name = "localhost/rechain-test:chainermn"
    based.run("build", "--tag", name, "--file", str(tmp_path / "Containerfile"), str(home))
    said, errors = ran_in_own(home, name, TRAINING)
    assert said["status"] == "Completed", errors
    assert "7.0.0 3.1.6 2 150 True\n" in Path(f"{said['folder']}/attempts/1/0.out").read_text()
    assert len(said["metrics"]["main/loss"]) == 3
    lock = jsonl.read(f"{said['folder']}/lock.json")
    assert (lock["kind"], lock["mpi"]["family"]) == ("user-managed", "mpich")
    assert lock["mpi"]["mpiexec"] == "/opt/rechain/mpi/bin/mpiexec"


def under_way(home: Path, family: str) -> tuple[subprocess.Popen[str], RunPaths]:
    """Start two ranks that stay, and wait until both are up."""
    source = home / "code"
    source.mkdir()
    (source / "train.py").write_text(ENDS)
    command = [
        sys.executable, "-m", "rechain", "run", "--json", "--docker", "-n", "2", "--mpi", family,
        "--framework-version", "7.0.0", "--python", interpreter("3.6"), "--grace", "60",
        str(source / "train.py"), "wait",
    ]  # fmt: skip
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def up() -> Path | None:
        assert started.poll() is None, started.communicate()
        for folder in (home / ".rechain" / "experiments").glob("*/*"):
            outputs = [folder / "attempts" / "1" / f"{rank}.out" for rank in range(2)]
            if all(one.exists() and "up" in one.read_text() for one in outputs):
                return folder
        return None

    return started, RunPaths(str(wait_for(up, "both ranks are up", 300)))


@pytest.mark.matrix
@pytest.mark.parametrize(("engine", "family"), PAIRS, indirect=["engine"])
@pytest.mark.parametrize("victims", [("supervisor",), ("guard",), ("guard", "supervisor")])
def test_whoever_of_the_pair_is_killed_no_rank_stays_in_its_container(
    based, home: Path, environments: Path, family: str, victims
) -> None:
    started, run = under_way(home, family)
    attempt = fold(run).last
    pids = [attempt.attempt[who]["pid"] for who in victims]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    said, errors = started.communicate(timeout=300)  # it reads the run, and so ends what is left
    assert jsonl.loads(said)["cause"] == "supervisor_lost", errors
    wait_for(lambda: not processes_of(run), "its processes are gone")
    wait_for(lambda: not based.run("ps", "--all", "--quiet"), "its container is gone")


@pytest.mark.matrix
@pytest.mark.parametrize(("engine", "family"), PAIRS, indirect=["engine"])
def test_ranks_in_a_container_are_canceled(
    based, home: Path, environments: Path, family: str
) -> None:
    started, run = under_way(home, family)
    subprocess.run([sys.executable, "-m", "rechain", "cancel", run.run_id], check=True)
    said, errors = started.communicate(timeout=300)
    assert jsonl.loads(said)["cause"] == "canceled", errors
    for rank in range(2):
        assert "asked" in Path(run.attempt(1).stdout(rank)).read_text()
    wait_for(lambda: not processes_of(run), "its processes are gone")
