"""What all tests share: a workspace of their own, and interpreters that are really there."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rechain.environment.engines import CHOICE, VARIABLES
from rechain.testing import wait_for
from rechain.testing.engines import DockerEngine, PodmanEngine, ThrowAwayEngine
from rechain.testing.slurm import COMMANDS, SlurmCluster

SDK = ("azureml-core==1.61.0.post4", "azureml-train-core==1.62.0", "setuptools<81")
CI = os.environ.get("CI") == "true"

# Azurite's well-known account, published in its documentation.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

# A shell ignores SIGINT in what it starts in the background, and so would all that we start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def missing(what: str) -> None:
    """Say that this machine lacks something: a skip for a stranger, a failure in CI."""
    if CI:
        pytest.fail(f"CI must have {what}")
    pytest.skip(f"this machine has no {what}")


@functools.cache
def interpreters() -> dict[str, str]:
    """Return the path of one interpreter for each Python minor version there is."""
    import findpython

    found: dict[str, str] = {}
    for version in sorted(findpython.find_all(allow_prereleases=False), reverse=True):
        code = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
        answer = subprocess.run(
            [str(version.executable), "-I", "-S", "-c", code],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if answer.returncode == 0:
            minor, path = answer.stdout.split(maxsplit=1)
            found.setdefault(minor, path.strip())
    return found


def interpreter(minor: str) -> str:
    """Return an interpreter of a Python minor version."""
    path = interpreters().get(minor)
    if path is None:
        missing(f"Python {minor}")
        raise AssertionError
    return path


@functools.cache
def uv_cache() -> str:
    """Return the user's own cache of uv: what lies there only saves time."""
    from uv import find_uv_bin

    home = os.path.expanduser("~root" if os.getuid() == 0 else "~")
    said = subprocess.run(
        [find_uv_bin(), "cache", "dir"],
        capture_output=True, text=True, check=True, env={**os.environ, "HOME": home},
    )  # fmt: skip
    return said.stdout.strip()


@pytest.fixture(scope="session")
def v1(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python 3.9 of an environment with the real SDK of v1."""
    from uv import find_uv_bin

    folder = tmp_path_factory.mktemp("sdk") / "venv"
    tool = find_uv_bin()
    subprocess.run([tool, "venv", "-q", "-p", interpreter("3.9"), str(folder)], check=True)
    python = str(folder / "bin" / "python")
    installed = subprocess.run(
        [tool, "pip", "install", "-q", "-p", python, *SDK], capture_output=True, text=True
    )
    if installed.returncode:
        missing(f"package index with the SDK of v1 ({installed.stderr.strip()[-300:]})")
    return python


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of environments that the tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel of conda with Python 3.6 and 3.9, NumPy for each, and small packages."""
    from tests import conda_channel

    if shutil.which("zstd") is None:
        missing("zstd")
    pythons = {minor: interpreter(minor) for minor in ("3.6", "3.9")}
    numpy = {"3.6": "1.14.6", "3.9": "1.22.4"}
    return conda_channel.make(tmp_path_factory.mktemp("conda"), pythons, numpy, uv_cache())


@pytest.fixture
def environments(home: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environments that `rechain` makes: the test's own, of the user's packages."""
    monkeypatch.setenv("UV_CACHE_DIR", uv_cache())
    monkeypatch.setenv("RECHAIN_CACHE", str(cache))
    return cache


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder, a workspace and a HOME of the test's own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.delenv("RECHAIN_HOME", raising=False)
    # Else it would be this machine's, in which others may have a pool of the same name.
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(tmp_path / "queue"))
    # `python` means this interpreter: shims and aliases differ from machine to machine.
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name in ("python", "python3"):
        (bin_folder / name).symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def fake_gpu(home: Path, tmp_path: Path) -> Callable[..., None]:
    """A function that puts an nvidia-smi on PATH: it prints these lines, with this status."""

    def make(*lines: str, status: int = 0) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.write_text("\n".join(["#!/bin/sh", "cat <<END", *lines, "END", f"exit {status}"]))
        program.chmod(0o755)

    return make


@pytest.fixture
def source(home: Path) -> Path:
    """An empty source folder."""
    folder = home / "code"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[SlurmCluster]:
    """A real Slurm of two nodes that the tests share: what a test starts on it, it must end."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    for command in COMMANDS:
        if shutil.which(command, path=path) is None:
            missing(f"{command} (Debian: slurm-wlm, munge)")
    with SlurmCluster(2, kill_wait=20) as cluster:  # room for a grace period
        yield cluster


@pytest.fixture
def slurm(slurm_cluster: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """That Slurm, found by all of its commands; nothing of a test that fails stays on it."""
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield slurm_cluster
    if slurm_cluster.run("squeue", "--noheader", "--states=PENDING,RUNNING"):
        slurm_cluster.run("scancel", f"--user={os.getuid()}")
        wait_for(lambda: not slurm_cluster.run("squeue", "--noheader"), "an empty queue")


@pytest.fixture(scope="session")
def engines() -> Iterator[Callable[[str], ThrowAwayEngine]]:
    """A function that returns a real engine by its name: the tests share it and its images."""
    running: dict[str, ThrowAwayEngine] = {}
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    with contextlib.ExitStack() as stack:

        def start(name: str) -> ThrowAwayEngine:
            if name not in running:
                kind = {"podman": PodmanEngine, "docker": DockerEngine}[name]
                for command in (*kind.commands, "mmdebstrap"):
                    if shutil.which(command, path=path) is None:
                        missing(f"{command} (Debian: docker.io, podman, runc, mmdebstrap)")
                if os.geteuid() != 0:
                    missing("right to start a container engine")
                running[name] = stack.enter_context(kind())
            return running[name]

        yield start


@pytest.fixture(params=["podman", "docker"])
def engine(
    request: pytest.FixtureRequest,
    engines: Callable[[str], ThrowAwayEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ThrowAwayEngine]:
    """Both engines in turn, found by all that looks for one; no container of a test stays."""
    started = engines(request.param)
    for name in {*VARIABLES, CHOICE} - {"HOME", "PATH", "TMPDIR"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    yield started
    no_container_left(started)


def no_container_left(engine: ThrowAwayEngine) -> None:
    """See that no container of a test stays; engines remove one a moment after its end."""

    def left() -> list[str]:
        return engine.run("ps", "--all", "--quiet").split()

    try:
        wait_for(lambda: not left(), "no container is left behind", 60)
    finally:
        for container in left():
            engine.run("rm", "--force", container)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 4 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        missing("right to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        missing(f"right to mount a small file system ({made.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Azurite, Microsoft's server of the blob protocol."""
    npm = shutil.which("npm")
    if npm is None:
        missing("npm, which brings Azurite")
    folder = tmp_path_factory.mktemp("azurite")
    made = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--silent", "azurite@3"], cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        missing(f"package registry with Azurite ({made.stderr.strip()[-300:]})")
    server = subprocess.Popen(
        [folder / "node_modules/.bin/azurite-blob", "--blobHost", "127.0.0.1", "--blobPort", "0",
         "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"],
        stdout=subprocess.PIPE, text=True, cwd=folder,
    )  # fmt: skip
    try:
        found = None
        for line in server.stdout:
            if found := re.search(r"listens on http://(127\.0\.0\.1:\d+)", line):
                break
        assert found, "Azurite ended"
        threading.Thread(target=server.stdout.read, daemon=True).start()
        yield found[1]
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
