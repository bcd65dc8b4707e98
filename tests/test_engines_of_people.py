"""Engines as people have them: one is broken, one is not theirs alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.environment.engines import CHOICE
from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from tests.conftest import interpreter

HYBRID = "cgroups in hybrid mode not supported, drop all controllers from cgroupv2"


@pytest.fixture
def broken(engines, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A real podman that answers, and whose fake runtime refuses as crun does on old cgroups."""
    podman = engines("podman")
    for name, value in podman.environment.items():
        monkeypatch.setenv(name, value)
    runtime, settings = f"{podman.root}/crun", f"{podman.root}/crun.conf"
    Path(runtime).write_text(f"#!/bin/sh\necho '{HYBRID}' >&2\nexit 1\n")
    os.chmod(runtime, 0o755)
    text = Path(podman.environment["CONTAINERS_CONF"]).read_text()
    Path(settings).write_text(text.replace('runtime = "runc"', f'runtime = "{runtime}"'))
    monkeypatch.setenv("CONTAINERS_CONF", settings)
    yield podman
    for path in (runtime, settings):
        os.unlink(path)


def run(home: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run a script that does next to nothing; return the exit code and what was said."""
    (home / "train.py").write_text("import os\nprint('in a container:', os.getpid() < 50)\n")
    command = [sys.executable, "-m", "rechain", "run", *options]
    said = subprocess.run(
        [*command, "train.py"], capture_output=True, text=True, check=False, cwd=home
    )
    (folder,) = (home / ".rechain" / "experiments").glob("*/*")
    state = fold(RunPaths(str(folder)))
    assert state.end is not None
    return said.returncode, state.end, said.stdout + said.stderr


@pytest.mark.engines
def test_an_engine_whose_fake_runtime_starts_nothing_is_found_before_anything_is_built(
    broken, home: Path, tmp_path: Path, monkeypatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("RECHAIN_CACHE", str(cache))
    before = broken.run("images", "--quiet", "--all")
    code, end, said = run(
        home, "--image", "nowhere.invalid/lab/torch:2", "--framework-version", "7.0.0"
    )
    assert (code, end["cause"]) == (125, "environment")
    assert HYBRID in end["message"]
    assert "starts no container" in end["message"]
    assert 'runtime = "runc"' in said
    assert "fetching" not in said
    assert not (cache / "envs").exists()
    assert broken.run("images", "--quiet", "--all") == before


@pytest.mark.engines
def test_of_two_engines_the_one_that_works_is_taken_and_that_is_said_once(
    broken, engines, home: Path, tmp_path: Path, monkeypatch
) -> None:
    docker = engines("docker")
    for name, value in docker.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(CHOICE)
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    image = docker.python_image(sys.executable)
    code, _, said = run(home, "--image", image, "--user-managed")
    assert code == 0, said
    assert "in a container: True" in said
    assert said.count("starts no container") == 1
    assert said.count(HYBRID) == 1
    (note,) = [line for line in said.splitlines() if HYBRID in line]
    assert "is used" in note
    assert note.startswith("note: podman ")
    (lock,) = (home / ".rechain" / "experiments").glob("*/*/lock.json")
    assert jsonl.read(str(lock))["image"]["engine"].startswith("docker ")


@pytest.mark.engines
def test_without_an_engine_that_starts_anything_use_docker_goes_without(
    broken, home: Path, environments: Path
) -> None:
    python = interpreter("3.6")
    code, _, said = run(home, "--docker", "--framework-version", "5.1.0", "--python", python)
    assert code == 0, said
    assert "in a container: False" in said
    assert said.count(f"{HYBRID}") == 1
    assert "no container is used" in said
