"""Environments for GPUs that a fake nvidia-smi reports: real packages, and no GPU to use them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rechain import Chainer, Experiment, Mpi, Run, Workspace
from rechain.record import jsonl
from rechain.record.journal import AttemptState, fold
from rechain.record.paths import RunPaths
from rechain.testing import processes_of, wait_for

pytestmark = pytest.mark.engines

V100 = "0, GPU-aaaa, Tesla V100-SXM2-16GB, 440.33.01, 7.0"
H100 = "0, GPU-bbbb, NVIDIA H100 80GB HBM3, 535.104.05, 9.0"
SCRIPT = """
import os, chainer, pkg_resources
names = sorted(one.key for one in pkg_resources.working_set if one.key.startswith("cupy"))
print(chainer.__version__, *names, os.environ.get("CUDA_VISIBLE_DEVICES"))
"""


def done(source: Path, version: str) -> Run:
    (source / "train.py").write_text(SCRIPT)
    estimator = Chainer(
        str(source),
        entry_script="train.py",
        compute_target="local",
        framework_version=version,
        use_docker=False,
        use_gpu=True,
    )
    run = Experiment(Workspace.local(), "gpu").submit(estimator)
    run.wait_for_completion(raise_on_error=False)
    wait_for(lambda: not processes_of(RunPaths(run.folder)), "the run's guard to leave")
    return run


def test_more_ranks_than_fake_gpus_are_said(source, home, fake_gpu) -> None:
    fake_gpu(V100)
    (source / "train.py").write_text("")
    for ranks, notes in ((1, 0), (2, 1)):
        estimator = Chainer(
            str(source),
            entry_script="train.py",
            compute_target="local",
            distributed_training=Mpi(ranks),
            user_managed=True,
            use_docker=False,
            use_gpu=True,
        )
        run = Experiment(Workspace.local(), "gpu").submit(estimator)
        run.wait_for_completion()
        wait_for(lambda run=run: not processes_of(RunPaths(run.folder)), "the guard to leave")
        found = [note for note in last(run).notes if "intra_rank" in note]
        assert len(found) == notes
    assert found[0].startswith("2 ranks and 1 GPU: ")


def last(run: Run) -> AttemptState:
    return fold(RunPaths(run.folder)).last


def said(run: Run) -> str:
    assert last(run).end["cause"] == "completed", last(run).end
    return Path(RunPaths(run.folder).attempt(1).stdout(0)).read_text().strip()


def test_a_script_has_the_cupy_that_drives_a_fake_gpu(
    source, environments, fake_gpu, monkeypatch
) -> None:
    fake_gpu(V100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aaaa")
    for _ in range(2):  # built, and found again
        run = done(source, "7.8.1")
        assert said(run) == "7.8.1 cupy-cuda102 GPU-aaaa"
        assert last(run).notes == []
    lock = jsonl.read(RunPaths(run.folder).lock)
    assert "cupy-cuda102" in {package["name"] for package in lock["packages"]}
    assert lock["gpu"]["wanted"] == "required"
    assert [gpu["driver"] for gpu in lock["gpu"]["found"]] == ["440.33.01"]
    assert not Path(RunPaths(run.folder).attempt(1).prepare_result).exists()


def test_a_fake_gpu_that_no_cupy_drives_ends_the_run_before_anything_is_built(
    source, environments, fake_gpu, monkeypatch
) -> None:
    fake_gpu(H100)
    run = done(source, "4.5.0")
    end = last(run).end
    assert (end["cause"], end["message"]) == (
        "no_gpu",
        "no CuPy for chainer 4.5.0 drives NVIDIA H100 80GB HBM3 (driver 535.104.05, compute "
        "capability 9.0)",
    )
    assert "RECHAIN_GPU=optional" in end["hint"]
    assert not Path(RunPaths(run.folder).lock).exists()
    assert run.get_status() == "Failed"
    monkeypatch.setenv("RECHAIN_GPU", "optional")
    run = done(source, "4.5.0")
    assert said(run) == "4.5.0 None"
    lock = jsonl.read(RunPaths(run.folder).lock)
    assert any("the script runs without one" in note for note in lock["notes"])
