"""ChainerMN trained by two ranks through the whole of Rechain, under each MPI."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rechain import Workspace
from rechain.record import jsonl
from tests.conftest import interpreter, missing

ROOT = Path(__file__).parents[1]

VERSIONS = ("4.5.0", "5.1.0", "7.0.0")
PYTHONS = {"3.6": "3.1.6", "3.11": "4.1.2"}  # with the mpi4py that there is for each
# What `--mpi` is given, what that is for people, and how mpi4py calls it.
MPIS = {
    "mpiexec.openmpi": ("system, Open MPI", "Open MPI"),
    "mpiexec.mpich": ("system, MPICH", "MPICH"),
    "openmpi": ("package openmpi", "Open MPI"),
    "mpich": ("package mpich", "MPICH"),
    "impi-rt": ("package impi-rt", "Intel(R) MPI"),
}
ALSO_ENGINES = {("5.1.0", "3.6", "mpiexec.openmpi"), ("7.0.0", "3.11", "mpich")}

# As people have them: each rank trains on its part of the data.
SCRIPT = """
import numpy as np
import chainer, chainer.functions as F, chainer.links as L
import chainermn
import mpi4py
from chainer import training
from chainer.training import extensions

comm = chainermn.create_communicator("naive")
data = None
if comm.rank == 0:
    np.random.seed(0)
    x = np.random.rand(300, 64).astype("f") - 0.5
    t = x.dot(np.random.rand(64, 3).astype("f") - 0.5).argmax(1).astype("i")
    data = chainer.datasets.TupleDataset(x, t)
data = chainermn.scatter_dataset(data, comm, shuffle=True, seed=0)
np.random.seed(comm.rank)
model = L.Classifier(chainer.Sequential(L.Linear(64, 32), F.relu, L.Linear(32, 3)))
optimizer = chainermn.create_multi_node_optimizer(chainer.optimizers.Adam(0.01), comm)
optimizer.setup(model)
batches = chainer.iterators.SerialIterator(data, 25)
test = chainer.iterators.SerialIterator(data, 25, repeat=False, shuffle=False)
trainer = training.Trainer(training.StandardUpdater(batches, optimizer), (3, "epoch"))
trainer.extend(chainermn.create_multi_node_evaluator(extensions.Evaluator(test, model), comm))
if comm.rank == 0:
    trainer.extend(extensions.LogReport())
trainer.run()
weights = comm.gather_obj(model.predictor[0].W.data.tolist())
if comm.rank == 0:
    print(chainer.__version__, mpi4py.__version__, comm.size, len(data), weights[0] == weights[1])
"""


def cells() -> Iterator[Any]:
    for version in VERSIONS:
        for minor in PYTHONS:
            for mpi in MPIS:
                marks = [pytest.mark.matrix]
                if (version, minor, mpi) in ALSO_ENGINES:
                    marks.append(pytest.mark.engines)
                yield pytest.param(version, minor, mpi, marks=marks)


def rechain(source: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "rechain", "run", "--json", "--no-docker", *options]
    ended = subprocess.run(
        [*command, str(source / "train.py")], capture_output=True, text=True, check=False
    )
    assert ended.stdout, ended.stderr
    said = jsonl.loads(ended.stdout)
    assert said["exit_code"] == ended.returncode
    return {**said, "stderr": ended.stderr}


@pytest.mark.parametrize(("version", "minor", "mpi"), list(cells()))
def test_chainermn_trains(
    source: Path, environments: Path, version: str, minor: str, mpi: str
) -> None:
    if mpi.startswith("mpiexec") and shutil.which(mpi) is None:
        missing(mpi)
    (source / "train.py").write_text(SCRIPT)
    options = ["-n", "2", "--mpi", mpi, "--framework-version", version]
    said = rechain(source, *options, "--python", interpreter(minor))
    assert said["cause"] == "completed", said["stderr"]
    assert f"{version} {PYTHONS[minor]} 2 150 True" in said["stderr"]
    losses = said["metrics"]["validation/main/loss"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    run = Workspace.local().get_run(said["run_id"])
    found = jsonl.read(run._paths.attempt(1).rank(0, "mpi"))
    assert found["size"] == 2
    assert found["library"].startswith(MPIS[mpi][1])
    lock = jsonl.read(f"{run.folder}/lock.json")
    assert lock["mpi"]["wanted"] == mpi
    assert lock["mpi"]["version"] in re.sub("^.*?MPI", "", found["library"])
    assert lock["mpi"]["builds_mpi4py"] == (minor == "3.6")
    log = Path(run._paths.attempt(1).prepare_log).read_text()
    if minor == "3.11":
        assert "building mpi4py" not in log


@pytest.mark.engines
def test_chainermn_trains_on_condas_python(
    source: Path, environments: Path, channel: Path
) -> None:
    """With the mpi4py that was built with another Python of the same ABI, if one was."""
    mpi = next(mpi for _, minor, mpi in sorted(ALSO_ENGINES) if minor == "3.6")
    if shutil.which(mpi) is None:
        missing(mpi)
    (source / "train.py").write_text(SCRIPT)
    options = ["-n", "2", "--mpi", mpi, "--framework-version", "5.1.0", "--conda", "python=3.6"]
    said = rechain(source, *options, "--conda", "tool=1", "--channel", str(channel))
    assert said["cause"] == "completed", said["stderr"]
    assert "5.1.0 3.1.6 2 150 True" in said["stderr"]
    lock = jsonl.read(f"{Workspace.local().get_run(said['run_id']).folder}/lock.json")
    assert lock["interpreter"]["from"] == "conda"
    # conda's own Python has no libpython that it uses, and others of its ABI have none at all.
    built = list((environments / "mpi4py").glob("*/mpi4py/MPI.*.so"))
    assert built
    for library in built:
        assert b"libpython3" not in library.read_bytes()


@pytest.mark.matrix
def test_a_version_of_mpi4py_that_cannot_be_built_is_said(
    source: Path, environments: Path
) -> None:
    (source / "train.py").write_text(SCRIPT)
    options = ["-n", "2", "--mpi", "mpiexec.openmpi", "--python", interpreter("3.6")]
    said = rechain(source, *options, "--pip", "mpi4py==3.0.0")
    assert said["cause"] == "environment"
    assert "building mpi4py failed: mpi4py==3.0.0 has no wheel" in said["stderr"]
    assert "Leave out the version of mpi4py, and you get 3.1.6" in said["stderr"]


def table() -> str:
    """Return the cells for people."""
    lines = [
        "| MPI (`--mpi`) | " + " | ".join(f"Chainer {version}" for version in VERSIONS) + " |",
        "| --- |" + " --- |" * len(VERSIONS),
    ]
    for mpi, (words, _) in MPIS.items():
        trained = "trained on Python " + ", ".join(PYTHONS)
        lines.append(f"| {words} (`{mpi}`) |" + f" {trained} |" * len(VERSIONS))
    return "\n".join(lines)


@pytest.mark.fast
def test_the_documentation_has_the_cells_that_are_tested() -> None:
    assert table() in (ROOT / "docs" / "environments.md").read_text()


@pytest.mark.engines
def test_mpi4py_in_a_script_of_one_process(source: Path, environments: Path) -> None:
    (source / "train.py").write_text(
        "from mpi4py import MPI; print(MPI.COMM_WORLD.size, MPI.Get_library_version())"
    )
    options = ["--framework-version", "7.0.0", "--python", interpreter("3.11")]
    said = rechain(source, *options, "--pip", "mpi4py")
    assert said["cause"] == "completed", said["stderr"]
    assert re.search("1 (Open MPI|MPICH|Intel)", said["stderr"])
