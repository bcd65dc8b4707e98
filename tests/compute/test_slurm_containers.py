"""Containers on the nodes of a real Slurm: each node has an engine with images of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rechain.compute.slurm import SlurmTarget
from rechain.compute.slurm.settings import Settings, request
from rechain.compute.target import StartError
from rechain.environment.engines import CHOICE, VARIABLES
from rechain.record import jsonl
from rechain.record.journal import fold, fold_attempt
from rechain.record.paths import RunPaths
from rechain.record.requests import ask_to_stop
from rechain.testing import make_run, wait_for
from rechain.testing.engines import PodmanEngine
from rechain.testing.runs import payload
from rechain.testing.slurm import SlurmCluster
from rechain.workspace.reconcile import reconcile
from tests.conftest import interpreter, no_container_left

PATIENCE = 120  # seconds; only ends a test that hangs

Engines = dict[str, PodmanEngine]


@pytest.fixture(scope="module")
def slurm_cluster(nodes_engines: Engines) -> Iterator[SlurmCluster]:
    """A Slurm whose nodes see those engines' folders, which are mounts of their own."""
    with SlurmCluster(2, kill_wait=20) as cluster:
        yield cluster


@pytest.fixture
def there(
    nodes_engines: Engines, slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engines]:
    """Those engines, found on the nodes by the target's prologue and nowhere else."""
    for name in {*VARIABLES, CHOICE} - {"HOME", "PATH", "TMPDIR"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(CHOICE, "podman")
    lines = ["case $(uname -n) in"]
    for node, engine in nodes_engines.items():
        found = {name: value for name, value in engine.environment.items() if name in VARIABLES}
        words = " ".join(f"{name}={value}" for name, value in found.items())
        lines.append(f"{node}) export {words};;")
    (tmp_path / "prologue").write_text("\n".join([*lines, "esac\n"]))
    yield nodes_engines
    for engine in nodes_engines.values():
        no_container_left(engine)


Start = Callable[..., Any]


@pytest.fixture
def start(
    there: Engines, nodes_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Start:
    """Start a script in an image with this Python, which the first node has."""
    monkeypatch.setenv("RECHAIN_CACHE", str(nodes_cache))

    def call(
        script: str, *options: str, node: str = "n1", image: Any = None, **fields: Any
    ) -> Any:
        if image is None:
            image = there["n1"].python_image(sys.executable)
        settings = Settings(
            prologue=tmp_path / "prologue",
            options=[f"--nodelist={node}", "--mem=500", *options],
            **fields.pop("settings", {}),
        )
        asked = {"reference": image, "asked": image, "built": False, "pull": False}
        run, job = make_run(
            tmp_path / "ws", script, python="python", target="cluster",
            slurm=request(settings.to_json()),
            container={"shm_size": "32m", "arguments": [], "mounts": []},
            environment={"image": {"digest": "0" * 64, **asked, **fields.pop("more", {})}},
            **fields,
        )  # fmt: skip
        target = SlurmTarget("cluster", request(settings.to_json()))
        handle = target.start(target.plan(run, job), run, payload(job))
        jsonl.write_new(run.submission, {"schema": 1, "handle": handle})
        return run, job

    return call


def text(path: str) -> str:
    return Path(path).read_text() if os.path.exists(path) else ""


def number(run: Any) -> str:
    return str(jsonl.read(run.submission)["handle"]["job"])


def up(run: Any, attempt: int = 1) -> None:
    """Wait until the script has said so."""

    def said() -> bool:
        end = fold(run).end
        assert end is None, end
        return "up" in text(run.attempt(attempt).stdout(0))

    wait_for(said, "the script is up", PATIENCE)


def ended(run: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for the end, as a reader does; return it."""

    def end() -> Any:
        reconcile(run, job)
        return fold(run).end

    return dict(wait_for(end, "the end of the run", PATIENCE))


def empty(cluster: SlurmCluster) -> None:
    wait_for(lambda: not cluster.run("squeue", "--noheader"), "an empty queue", PATIENCE)


SAYS = """
import os
print(os.uname().nodename, os.getpid() != 1, open("/proc/1/cmdline").read().split("\\0")[-4])
print(os.environ["SLURM_JOB_ID"], os.environ["MINE"])
print([os.environ.get(name) for name in ("LD_LIBRARY_PATH", "PYTHONHOME", "BASH_ENV")])
with open("made", "w") as file:
    file.write("x")
"""


@pytest.mark.engines
def test_a_script_runs_in_a_container_of_its_node(start, slurm, tmp_path) -> None:
    with open(tmp_path / "prologue", "a", encoding="utf-8") as file:
        file.write("export LD_LIBRARY_PATH=/usr/lib BASH_ENV=/etc/none MINE=mine\n")
    run, job = start(SAYS)
    end = ended(run, job)
    log = text(run.attempt(1).container_log) + text(run.slurm_log(number(run)))
    assert end["cause"] == "completed", (end["message"], end, log)
    said = text(run.attempt(1).stdout(0)).splitlines()
    assert said[0].startswith("n1 True")
    assert said[1].split() == [number(run), "mine"]
    assert said[2].startswith("[None")
    assert os.path.exists(f"{run.work}/made")
    empty(slurm)


GENTLE = """
import signal, sys, time
def stop(*_):
    print("asked", flush=True)
    time.sleep(2)  # conmon hears Slurm's SIGTERM, too
    sys.exit(5)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.engines
def test_scancel_asks_a_script_in_a_container(start, slurm) -> None:
    run, job = start(GENTLE, grace_seconds=15)
    up(run)
    slurm.run("scancel", number(run))
    end = ended(run, job)
    assert (end["cause"], end["exit_code"]) == ("canceled", 5)
    assert "asked" in text(run.attempt(1).stdout(0))
    empty(slurm)


@pytest.mark.engines
def test_nothing_of_a_container_lives_on_when_slurm_kills_all(start, slurm, there) -> None:
    run, job = start(GENTLE)
    up(run)
    (before,) = there["n1"].run("ps", "--quiet").split()
    slurm.run("scancel", "--signal=KILL", "--full", number(run))
    assert ended(run, job)["cause"] in ("supervisor_lost", "canceled")
    empty(slurm)
    wait_for(lambda: not there["n1"].run("ps", "--quiet"), "no container runs", PATIENCE)
    there["n1"].run("rm", "--force", before, check=False)  # what its engine remembers


@pytest.mark.engines
def test_the_memory_that_slurm_gives_is_the_containers(start, slurm) -> None:
    run, job = start(
        "x = [b'x' * (1 << 20) for _ in range(600)]\nprint(sum(map(len, x)))", "--mem=128"
    )
    end = ended(run, job)
    assert (end["cause"], end["signal"]) == ("out_of_memory", signal.SIGKILL)
    empty(slurm)


@pytest.mark.engines
def test_an_image_that_only_one_node_has_is_carried_to_the_other(start, there, slurm) -> None:
    image = there["n1"].python_image(sys.executable)
    assert not there["n2"].run("images", "--quiet", image)
    for node in ("n1", "n2"):
        run, job = start("import os\nprint(os.uname().nodename)", node=node)
        end = ended(run, job)
        assert end["cause"] == "completed", (end["message"], text(run.attempt(1).prepare_log))
        assert text(run.attempt(1).stdout(0)) == f"{node}\n"
    assert jsonl.read(run.lock)["image"]["loaded"]["from"].endswith("-podman.tar")
    assert any("image was loaded from" in note for note in fold_attempt(run.attempt(1)).notes)
    there["n2"].run("rmi", image)
    empty(slurm)


@pytest.mark.matrix
def test_an_image_that_cannot_be_loaded_is_said(start, there, nodes_cache, slurm) -> None:
    run, job = start("pass")
    assert ended(run, job)["cause"] == "completed"
    (archive,) = (nodes_cache / "images").glob("*.tar")
    os.truncate(archive, 100_000)
    run, job = start("pass", node="n2")
    assert ended(run, job)["cause"] == "environment"
    assert f"it cannot be loaded from {archive}: " in text(run.attempt(1).prepare_log)
    archive.unlink()
    empty(slurm)


@pytest.mark.matrix
def test_a_container_ends_at_its_time_limit_and_on_request(start, slurm) -> None:
    deaf = GENTLE.replace("stop)", "signal.SIG_IGN)")
    run, job = start(deaf, seconds=3)
    assert ended(run, job)["cause"] == "time_limit"
    run, job = start(GENTLE, grace_seconds=15)
    up(run)
    ask_to_stop(run)
    end = ended(run, job)
    assert (end["cause"], end["exit_code"]) == ("canceled", 5)
    empty(slurm)


@pytest.mark.matrix
def test_a_requeued_job_has_its_next_attempt_in_a_container(start, slurm) -> None:
    run, job = start("import os, time\nprint('up', os.getpid(), flush=True)\ntime.sleep(600)")
    up(run)
    slurm.run("scontrol", "requeue", number(run))
    wait_for(lambda: slurm.job(number(run))["JobState"] == "PENDING", "it is queued", PATIENCE)
    slurm.start_now(number(run))
    up(run, 2)
    assert fold_attempt(run.attempt(1)).end["cause"] == "preempted"
    slurm.run("scancel", number(run))
    assert ended(run, job)["cause"] == "canceled"
    empty(slurm)


@pytest.mark.engines
def test_a_registrys_password_comes_from_the_file_of_secrets(start) -> None:
    registry = {"address": "registry.example", "username": "me"}
    with pytest.raises(StartError, match="RECHAIN_REGISTRY_PASSWORD"):
        start("pass", image="registry.example/x:1", more={"registry": registry})


@pytest.mark.engines
def test_a_node_without_an_engine_is_said(start, tmp_path, slurm) -> None:
    (tmp_path / "prologue").write_text("export RECHAIN_ENGINE=/opt/none/podman\n")
    run, job = start("pass")
    end = ended(run, job)
    assert end["cause"] == "environment"
    assert "/opt/none/podman" in end["message"]
    empty(slurm)


RANKS = """
import os, signal, sys, time
from mpi4py import MPI
comm = MPI.COMM_WORLD
print(comm.allreduce(1), len(set(comm.allgather(os.readlink("/proc/self/ns/pid")))), flush=True)
print(os.path.exists("/opt/rechain"), os.environ["SLURM_JOB_NUM_NODES"], flush=True)
def stop(*_):
    print("asked", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, stop)
comm.Barrier()
if "wait" in sys.argv:
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.mark.matrix
def test_the_environment_in_an_image_and_ranks_of_one_node_in_it(
    there, home: Path, environments: Path, tmp_path: Path, monkeypatch, slurm
) -> None:
    """Through the whole of Rechain: built on the node, used again, asked to end by Slurm."""
    monkeypatch.setenv("RECHAIN_BASE_IMAGE", there["n1"].base_image())
    (home / "train.py").write_text(RANKS)
    rechain = [sys.executable, "-m", "rechain"]
    options = ["--sbatch-option=--nodelist=n1", "--sbatch-option=--mem=1000"]
    prologue = ["--prologue", str(tmp_path / "prologue")]
    subprocess.run([*rechain, "target", "add", "lab", "--slurm", *prologue, *options], check=True)
    command = [
        *rechain, "run", "--json", "--target", "lab", "--docker", "-n", "2",
        "--framework-version", "7.0.0", "--python", interpreter("3.6"),
    ]  # fmt: skip
    done = subprocess.run([*command, "train.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first = RunPaths(jsonl.loads(done.stdout)["folder"])
    for rank in range(2):
        assert text(first.attempt(1).stdout(rank)) == "2 1\nTrue 1\n"
    done = subprocess.run(
        [*command, "--detach", "--grace", "15", "train.py", "wait"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    second = RunPaths(jsonl.loads(done.stdout)["folder"])
    up(second)
    wait_for(lambda: "up" in text(second.attempt(1).stdout(1)), "the other is up", PATIENCE)
    image = jsonl.read(first.lock)["image"]
    assert jsonl.read(second.lock)["image"] == image
    slurm.run("scancel", f"--name={second.run_id}")
    end = ended(second, jsonl.read(second.job))
    assert end["cause"] == "canceled"
    assert all("asked" in text(second.attempt(1).stdout(rank)) for rank in range(2))
    empty(slurm)


@pytest.mark.engines
def test_check_starts_a_container_on_a_node(there, home: Path, tmp_path: Path) -> None:
    rechain = [sys.executable, "-m", "rechain", "target"]
    prologue = tmp_path / "prologue"
    add = [*rechain, "add", "lab", "--slurm", "--prologue", str(prologue)]
    subprocess.run(add, check=True)

    def said() -> str:
        done = subprocess.run([*rechain, "check", "lab"], capture_output=True, text=True)
        return next(line for line in done.stdout.splitlines() if " containers " in line)

    assert re.match(r"ok +containers +podman \S+ starts one in \d", said())
    broken = tmp_path / "containers.conf"
    broken.write_text('[engine]\nruntime = "none"\n')
    with open(prologue, "a", encoding="utf-8") as file:
        file.write(f"export CONTAINERS_CONF={broken}\n")
    assert re.match(r"note +containers +podman.* starts none: .*none", said())
