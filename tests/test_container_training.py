"""Real Chainer, trained in containers of podman and docker, through the whole of Rechain."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rechain import Workspace
from rechain.record import jsonl
from tests.conftest import interpreter
from tests.test_training import SCRIPT

CELLS = [
    pytest.param("podman", "5.1.0", "3.6", marks=pytest.mark.engines),
    pytest.param("podman", "7.0.0", "3.11", marks=pytest.mark.matrix),
    pytest.param("docker", "5.1.0", "3.6", marks=pytest.mark.matrix),
    pytest.param("docker", "7.0.0", "3.6", marks=pytest.mark.matrix),
]


@pytest.mark.parametrize(("engine", "version", "minor"), CELLS, indirect=["engine"])
def test_a_training_in_a_container_is_recorded_as_any_other(
    engine, home: Path, environments: Path, monkeypatch: pytest.MonkeyPatch, version, minor
) -> None:
    monkeypatch.setenv("RECHAIN_BASE_IMAGE", engine.base_image())
    source = home / "code 雪"
    source.mkdir()
    (source / "train.py").write_text(SCRIPT)
    command = [
        sys.executable, "-m", "rechain", "run", "--json", "--docker",
        "--framework-version", version, "--python", interpreter(minor), str(source / "train.py"),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    said = jsonl.loads(ended.stdout)
    assert f"chainer {version} numpy " in ended.stderr
    assert len(said["metrics"]["main/loss"]) == 3
    run = Workspace.local().get_run(said["run_id"])
    lock = jsonl.read(f"{run.folder}/lock.json")
    assert lock["interpreter"]["version"].startswith(f"{minor}.")
    assert lock["image"]["engine"].startswith(engine.name)
    assert os.stat(f"{run.folder}/work/result/log").st_uid == os.getuid()
    monkeypatch.delenv("RECHAIN_BASE_IMAGE")
    command = [sys.executable, "-m", "rechain", "replay", "--json", "--verify", run.id]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    said = jsonl.loads(ended.stdout)
    assert said["differences"]["changes"] == [], ended.stderr
    again = Workspace.local().get_run(said["run_id"])
    assert again.get_status() == "Completed"
    assert jsonl.read(f"{again.folder}/lock.json")["image"] == lock["image"]
