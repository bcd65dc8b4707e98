"""`rechain doctor`: each probe tells what works from what does not."""

from __future__ import annotations

import json
import os

import pytest


@pytest.fixture
def doctor(rechain, home, tmp_path, monkeypatch):
    """A function: the checks by name, on a machine without engines."""
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECHAIN_ENGINE", "nothing")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")

    def call(code=0):
        done = rechain("doctor", "--json")
        assert done.returncode == code, done.stderr
        return {check["name"]: check for check in json.loads(done.stdout)}

    return call


@pytest.mark.fast
def test_what_is_there_and_what_is_not(doctor, rechain, monkeypatch, fake_gpu) -> None:
    found = doctor()
    assert found["cache"]["state"] == "works"
    assert found["python"]["state"] == "works"
    assert found["engine nothing"]["state"] == "missing"
    assert "podman or docker" in found["engine nothing"]["hint"]
    assert found["package index"]["state"] == "broken"
    assert "could not be reached" in found["package index"]["says"]
    said = rechain("doctor").stdout
    for check in found.values():
        assert check["name"] in said
        assert check["hint"] in said


@pytest.mark.fast
def test_a_fake_gpu_is_seen(doctor, fake_gpu) -> None:
    fake_gpu("0, GPU-1, NVIDIA T4, 535.104.05, 7.5")
    assert doctor()["gpu"]["says"] == "NVIDIA T4 (driver 535.104.05)"
    fake_gpu("Failed to initialize NVML", status=9)
    found = doctor()["gpu"]
    assert found["state"] == "missing"
    assert "Failed to initialize NVML" in found["says"]


@pytest.mark.fast
def test_nothing_runs_without_a_cache(doctor, tmp_path) -> None:
    (tmp_path / "cache").write_text("a file")
    found = doctor(code=1)
    assert found["cache"]["state"] == "needed"
    assert "RECHAIN_CACHE" in found["cache"]["hint"]


@pytest.mark.engines
def test_an_engine_is_tried_with_a_container(doctor, engine, monkeypatch) -> None:
    monkeypatch.setenv("RECHAIN_ENGINE", engine.name)
    before = sorted(engine.run("images", "--quiet", "--all").split())
    found = doctor()[f"engine {engine.name}"]
    assert found["state"] == "works", found
    assert found["says"].startswith(engine.name)
    assert "with limits" in found["says"]
    assert sorted(engine.run("images", "--quiet", "--all").split()) == before


@pytest.mark.engines
def test_an_engine_that_cannot_start_containers_is_broken(doctor, engines, monkeypatch) -> None:
    started = engines("podman")
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    with open(started.environment["CONTAINERS_CONF"], encoding="utf-8") as file:
        text = file.read().replace('runtime = "runc"', 'runtime = "none"')
    path = f"{started.root}/broken.conf"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    monkeypatch.setenv("CONTAINERS_CONF", path)
    found = doctor()["engine podman"]
    assert found["state"] == "broken"
    assert found["hint"]
    os.unlink(path)
