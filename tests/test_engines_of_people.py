"""Engines as people have them: one is broken, one is not theirs alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rechain.environment.engines import CHOICE
from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.testing import processes_of, wait_for
from rechain.testing.engines import ThrowAwayEngine
from tests.conftest import interpreter, missing
from tests.plain_user import UID, PlainUser

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


LITTLE = "import os\nprint('in a container:', os.getpid() < 50)\n"


def run(home: Path, *options: str, script: str = LITTLE) -> tuple[int, dict[str, Any], str]:
    """Run a script that does little; return the exit code, the end and what was said."""
    (home / "train.py").write_text(script)
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
    before = sorted(broken.run("images", "--quiet", "--all").split())
    code, end, said = run(
        home, "--image", "nowhere.invalid/lab/torch:2", "--framework-version", "7.0.0"
    )
    assert (code, end["cause"]) == (125, "environment")
    assert HYBRID in end["message"]
    assert "starts no container" in end["message"]
    assert 'runtime = "runc"' in said
    assert "fetching" not in said
    assert not (cache / "envs").exists()
    assert sorted(broken.run("images", "--quiet", "--all").split()) == before


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


@pytest.mark.matrix
def test_without_an_engine_that_starts_anything_use_docker_goes_without(
    broken, home: Path, environments: Path, monkeypatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/no-daemon")
    monkeypatch.delenv(CHOICE)
    python = interpreter("3.6")
    code, _, said = run(home, "--docker", "--framework-version", "5.1.0", "--python", python)
    assert code == 0, said
    assert "in a container: False" in said
    assert said.count(f"{HYBRID}") == 1
    assert "no container is used" in said
    assert "`rechain doctor`" in said
    assert "in a container ·" not in said


@pytest.mark.engines
def test_who_names_an_engine_that_does_not_work_gets_an_error(
    engines, home: Path, monkeypatch
) -> None:
    for name, value in engines("podman").environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/no-daemon")
    monkeypatch.setenv(CHOICE, "docker")
    code, end, said = run(home, "--docker")
    assert (code, end["cause"]) == (125, "environment"), said
    assert "docker does not work" in end["message"]
    assert f"Without {CHOICE}" in end["hint"]


@pytest.mark.engines
def test_the_python3_of_a_debian_image_is_found_and_named(
    engines, home: Path, monkeypatch
) -> None:
    podman = engines("podman")
    for name, value in podman.environment.items():
        monkeypatch.setenv(name, value)
    image = podman.debian_image("python3")
    script = (
        "import subprocess, sys\nsubprocess.check_call([sys.executable, '-c', 'print(6 * 7)'])\n"
    )
    code, _, said = run(home, "--image", image, "--user-managed", script=script)
    assert code == 0, said
    assert "42\n" in said
    assert "its Python is 3.11." in said
    (folder,) = (home / ".rechain" / "experiments").glob("*/*")
    assert jsonl.read(f"{folder}/lock.json")["interpreter"]["path"] == "/usr/bin/python3"
    shown = subprocess.run(
        [sys.executable, "-m", "rechain", "show", folder.name],
        capture_output=True, text=True, check=True, cwd=home,
    )  # fmt: skip
    assert ", /usr/bin/python3" in shown.stdout


@pytest.mark.engines
def test_a_version_that_the_image_lacks_is_said_with_its_cure(
    engines, home: Path, monkeypatch
) -> None:
    podman = engines("podman")
    for name, value in podman.environment.items():
        monkeypatch.setenv(name, value)
    image = podman.base_image()
    code, _, said = run(home, "--image", image, "--user-managed", "--python", "3.6")
    assert code == 125
    assert said.count(f"the image {image} has no `python3.6` that runs") == 1
    assert "environment (as said above) after " in said
    assert "Name one with --python" in said
    assert "executable file not found" not in said
    assert "Permission denied" not in said


# Who is not root.

OWN = """
import json, os, sys, time
with open("outputs/made", "w") as file:
    file.write("x")
os.makedirs("deep/er")
with open(os.path.join(os.environ["HOME"], "cached"), "w") as file:
    file.write("x")
found = {"user": [os.getuid(), os.getgid()], "contained": os.path.exists("/etc/debian_version")}
found.update(first=os.path.exists("/proc/1/comm") and open("/proc/1/comm").read().strip())
print(json.dumps(found), flush=True)
if "stay" in sys.argv:
    if not os.fork():
        os.setsid()
    time.sleep(600)
"""


@pytest.fixture
def plain() -> Iterator[Callable[..., PlainUser]]:
    """A function that makes a user who is not root."""
    with contextlib.ExitStack() as stack:

        def make(*groups: int, **variables: str) -> PlainUser:
            for command in ("nsenter", "newuidmap"):
                if shutil.which(command) is None:
                    missing(f"{command} (Debian: util-linux, uidmap)")
            # Not pytest's folder, which is root's alone.
            folder = tempfile.mkdtemp(prefix="plain-", dir="/tmp")
            stack.callback(shutil.rmtree, folder)
            user = PlainUser(folder, groups, variables)
            return stack.enter_context(user)

        yield make


def rootless(user: PlainUser, podman: ThrowAwayEngine, image: str) -> None:
    """Give a user a podman of its own, rootless, with an image."""
    settings = f"{user.home}/.config/containers"
    storage = '[storage]\ndriver = "overlay"\n'
    own = Path(podman.environment["CONTAINERS_CONF"]).read_text()
    own = "\n".join(line for line in own.splitlines() if "tmp_dir" not in line)
    user.run("mkdir", "-p", settings)
    for name, text in (("containers", own), ("storage", storage)):
        path = Path(settings) / f"{name}.conf"
        path.write_text(text)
        os.chown(path, UID, UID)
    archive = f"{user.folder}/image.tar"
    podman.run("save", "--output", archive, image)
    user.run("podman", "load", "--input", archive)
    os.unlink(archive)


def rechain(user: PlainUser, *arguments: str, check: bool = True) -> str:
    """Run `rechain` as a user in its folder `here`; return what it said."""
    return user.run(
        sys.executable, "-m", "rechain", *arguments, cwd=f"{user.home}/here", check=check
    ).stdout


def prepared(user: PlainUser, script: str) -> None:
    user.run("mkdir", f"{user.home}/here")
    path = Path(user.home) / "here" / "train.py"
    path.write_text(script)
    os.chown(path, UID, UID)


def below(folder: str) -> list[os.stat_result]:
    return [
        os.lstat(f"{where}/{name}")
        for where, folders, names in os.walk(folder)
        for name in (*folders, *names)
    ]


def theirs(user: PlainUser, image: str) -> None:
    """Run as a user in a container: all that is made is the user's, and nothing is left."""
    prepared(user, OWN)
    said = jsonl.loads(
        rechain(user, "run", "--json", "--image", image, "--user-managed", "train.py")
    )
    folder = said["folder"]
    found = jsonl.loads((Path(folder) / "attempts/1/0.out").read_text())
    assert found["user"] == [UID, UID]
    assert found["contained"]
    assert (Path(folder) / "work/outputs/made").read_text() == "x"
    assert not (Path(user.home) / "cached").exists(), "HOME is the image's"
    assert {(facts.st_uid, facts.st_gid) for facts in below(f"{user.home}/here")} == {(UID, UID)}
    assert {facts.st_uid for facts in below(f"{user.home}/.cache")} == {UID}


def ended_with_its_supervisor(user: PlainUser, image: str, engine: str) -> None:
    """Kill both of the pair: nothing of the container stays."""
    said = rechain(user, "run", "--detach", "--image", image, "--user-managed", "train.py", "stay")
    (folder,) = [
        one for one in (Path(user.home) / "here/.rechain/experiments").glob("*/*")
        if one.name in said
    ]  # fmt: skip
    run = RunPaths(str(folder))
    attempt = run.attempt(1)
    wait_for(lambda: Path(attempt.stdout(0)).exists(), "it is prepared")
    wait_for(lambda: Path(attempt.stdout(0)).read_text(), "the script is up")
    wait_for(lambda: fold(run).last and fold(run).last.ranks, "its pid is known")
    assert user.run(engine, "ps", "--quiet").stdout.split()
    pids = [fold(run).last.attempt[who]["pid"] for who in ("guard", "supervisor")]
    for number in ("STOP", "KILL"):
        user.run("kill", f"-{number}", *map(str, pids))
    wait_for(lambda: "supervisor lost" in rechain(user, "show", run.run_id), "a reader")
    wait_for(lambda: not user.run(engine, "ps", "--all", "--quiet").stdout, "no container")
    wait_for(lambda: not processes_of(run), "its processes are gone")


@pytest.mark.engines
def test_a_rootless_podman_runs_as_its_user(engines, plain) -> None:
    podman = engines("podman")
    image = podman.python_image(sys.executable)
    user = plain()
    rootless(user, podman, image)
    theirs(user, image)
    ended_with_its_supervisor(user, image, "podman")


LIMITED = """
import sys
from rechain import Environment, Experiment, ScriptRunConfig, Workspace
from rechain.runconfig import DockerConfiguration
environment = Environment.from_docker_image("e", sys.argv[1])
for arguments in ([], ["--memory=64m"], ["--memory=64m"]):
    docker = DockerConfiguration(use_docker=True, arguments=arguments)
    config = ScriptRunConfig(
        ".", "train.py", environment=environment, docker_runtime_config=docker
    )
    run = Experiment(Workspace.local(), "limited").submit(config)
    run.wait_for_completion()
    print(run.folder)
"""


@pytest.mark.engines
def test_limits_that_a_rootless_podman_ignores_are_said_by_each_run_that_has_some(
    engines, plain
) -> None:
    podman = engines("podman")
    image = podman.python_image(sys.executable)
    user = plain()
    rootless(user, podman, image)
    prepared(user, OWN)
    path = Path(user.home) / "here" / "submit.py"
    path.write_text(LIMITED)
    said = user.run(sys.executable, str(path), image, cwd=f"{user.home}/here").stdout
    doctor = rechain(user, "doctor", check=False)
    ignored = "but not with limits" in doctor
    assert ignored or "with limits" in doctor
    notes = [
        [note for attempt in fold(RunPaths(folder)).attempts for note in attempt.notes]
        for folder in said.splitlines()
        if "/experiments/limited/" in folder
    ]
    of_limits = [[one for one in each if one.startswith("--memory=64m: ")] for each in notes]
    assert list(map(len, of_limits)) == [0, int(ignored), int(ignored)]
    assert all("do not hold in containers of podman" in one for one in of_limits[1])


@pytest.mark.engines
def test_a_docker_of_the_group_runs_as_its_user(engines, plain) -> None:
    docker = engines("docker")
    image = docker.python_image(sys.executable)
    group = UID + 1
    os.chown(f"{docker.root}/socket", 0, group)
    os.chmod(f"{docker.root}/socket", 0o660)
    try:
        address = docker.environment["DOCKER_HOST"]
        user = plain(group, DOCKER_HOST=address, RECHAIN_ENGINE="docker")
        theirs(user, image)
        ended_with_its_supervisor(user, image, "docker")
    finally:
        os.chown(f"{docker.root}/socket", 0, 0)


@pytest.mark.engines
def test_a_docker_of_another_group_is_said_with_its_cure(engines, plain) -> None:
    docker = engines("docker")
    os.chmod(f"{docker.root}/socket", 0o660)
    user = plain(DOCKER_HOST=docker.environment["DOCKER_HOST"], RECHAIN_ENGINE="docker")
    prepared(user, OWN)
    command = ("run", "--json", "--image", "localhost/x:1", "--user-managed", "train.py")
    said = jsonl.loads(rechain(user, *command, check=False))
    assert said["cause"] == "environment"
    assert "permission denied" in said["message"]
    assert "the group docker" in said["hint"]


# GPUs.

GPU = "0, GPU-aaaa, NVIDIA T4, 535.104.05, 7.5"


@pytest.mark.engines
@pytest.mark.parametrize(
    ("engine", "lacks", "cure"),
    [("podman", "no CDI spec", "nvidia-ctk cdi"), ("docker", "no NVIDIA runtime", "nvidia-ctk")],
    indirect=["engine"],
)
def test_an_engine_that_cannot_pass_on_a_fake_gpu_is_found_before_anything_is_built(
    engine, home: Path, tmp_path: Path, monkeypatch, fake_gpu, lacks, cure
) -> None:
    fake_gpu(GPU)
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    code, end, said = run(home, "--gpu", "required", "--image", "nowhere.invalid/lab/torch:2")
    assert (code, end["cause"]) == (125, "no_gpu")
    assert lacks in end["message"]
    assert cure in said
    assert "fetching" not in said
    assert not (tmp_path / "cache" / "envs").exists()


@pytest.mark.engines
@pytest.mark.parametrize("engine", ["podman"], indirect=True)
def test_podman_gives_a_fake_gpu_that_a_cdi_spec_names(
    engine, home: Path, tmp_path: Path, monkeypatch, fake_gpu
) -> None:
    fake_gpu(GPU)
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    driver = tmp_path / "driver"
    driver.write_text("535.104.05\n")
    mount = {"hostPath": str(driver), "containerPath": "/opt/driver", "options": ["bind", "ro"]}
    spec = {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [{"name": "all", "containerEdits": {"mounts": [mount]}}],
    }
    made = not os.path.exists("/etc/cdi")
    path = Path("/etc/cdi") / f"rechain-test-{os.getpid()}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(jsonl.dumps(spec))
    try:
        image = engine.python_image(sys.executable)
        script = "print('driver', open('/opt/driver').read())\n"
        options = ("--gpu", "required", "--image", image, "--user-managed")
        code, _, said = run(home, *options, script=script)
    finally:
        path.unlink()
        if made:
            path.parent.rmdir()
    assert code == 0, said
    assert "driver 535.104.05" in said
