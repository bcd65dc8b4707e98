"""Real, throw-away container engines on one machine.

    with PodmanEngine() as engine:       # or DockerEngine()
        image = engine.base_image()
        engine.run("run", "--rm", "--network=host", image, "true")

Each has its images, containers and settings in one temporary folder; the machine's own engine, if
there is one, is not touched. Docker's is a dockerd of its own on a socket of its own, without a
network bridge; podman's is a storage of its own, with runc, which unlike crun works where cgroups
are version 1 or hybrid. Both have the host's network only (`--network=host`).

Needs root, and of Debian's packages docker.io; podman, runc and uidmap; mmdebstrap.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["PACKAGES", "DockerEngine", "EngineError", "PodmanEngine", "ThrowAwayEngine"]

PACKAGES = (
    "ca-certificates", "libssl3", "libsqlite3-0", "libffi8", "libreadline8", "zlib1g",
    "libbz2-1.0", "liblzma5",
)  # fmt: skip
"""Debian packages of the base image: what a Python that was built elsewhere needs to run in it."""

_RELEASE = "bookworm"
_SIZE = "8g"  # of an engine's images and containers; what is not used costs nothing
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A container's limits must not be above our own where the right to raise them is missing.
_CONTAINERS_CONF = """
[engine]
events_logger = "file"
cgroup_manager = "cgroupfs"
runtime = "runc"
tmp_dir = "{root}/tmp"
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
"""
_STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{root}/storage"
runroot = "{root}/run"
"""


class EngineError(Exception):
    """The engine could not be started, or a command of it failed; the message says why."""


class ThrowAwayEngine:
    """What both engines have; they run while their context is entered.

    Attributes:
        name: `podman` or `docker`.
        root: the folder with everything in it; gone afterwards.
        environment: the variables by which the engine's client, and Rechain, find this engine.
    """

    name = ""
    commands: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.root = ""
        self.environment: dict[str, str] = {}

    def __enter__(self) -> ThrowAwayEngine:
        """Start the engine, and wait until it answers.

        Raises:
            EngineError: it does not start; the end of its log is in the message.
        """
        lacking = [name for name in self.commands if shutil.which(name, path=_path()) is None]
        if lacking:
            raise EngineError(f"there is no {', '.join(lacking)} here")
        # Short: a Unix socket's path has 107 characters at most.
        self.root = tempfile.mkdtemp(prefix=f"{self.name}-", dir="/tmp")
        # In memory: to write and to remove an image's files is most of what a test would wait for.
        tmpfs = ["mount", "-t", "tmpfs", "-o", f"mode=755,size={_SIZE}", "tmpfs", self.root]
        if subprocess.run(tmpfs, check=False, capture_output=True).returncode:
            os.chmod(self.root, 0o755)
        self.environment = {"RECHAIN_ENGINE": self.name}
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all containers and the engine; nothing of them stays."""
        try:
            for container in self.run("ps", "--all", "--quiet", check=False).split():
                self.run("rm", "--force", container, check=False)
        finally:
            self._stop()

    def run(self, *arguments: str, check: bool = True, stdin: str = "") -> str:
        """Run the engine's client, and return what it said on stdout.

        Args:
            *arguments: what follows `podman` or `docker`.
            check: whether it must not fail.
            stdin: what it reads.

        Raises:
            EngineError: it failed; the message has what it said.
        """
        program = shutil.which(self.name, path=_path())
        assert program is not None
        done = subprocess.run(
            [program, *arguments],
            input=stdin, env={**os.environ, **self.environment}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise EngineError(f"{self.name} {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def base_image(self) -> str:
        """Return a small Debian image, made of Debian's packages: no registry is asked for it.

        The packages are fetched once and kept for all engines and tests of the user, below the
        folder for temporary files.

        Raises:
            EngineError: it cannot be made.
        """
        name = f"localhost/rechain-test:{_RELEASE}"
        if not self.run("images", "--quiet", name).strip():
            self.run("import", _base_archive(), name)
        return name

    def debian_image(self, *packages: str) -> str:
        """Return a Debian image with more of Debian's packages, from its package index.

        It is made once and kept for all engines and tests of the user, as the small one is.

        Args:
            *packages: their names.

        Raises:
            EngineError: it cannot be made.
        """
        digest = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
        name = f"localhost/rechain-test:{_RELEASE}-{digest}"
        if self.run("images", "--quiet", name).strip():
            return name
        with _kept(f"{_RELEASE}-with-{digest}.tar") as archive:
            if os.path.exists(archive):
                self.run("load", "--input", archive)
                return name
            with tempfile.TemporaryDirectory(dir=self.root) as folder:
                recipe = f"{folder}/Containerfile"
                with open(recipe, "w", encoding="utf-8") as file:
                    file.write(
                        f"FROM {self.base_image()}\nRUN apt-get update && apt-get install -y "
                        f"--no-install-recommends {' '.join(packages)}\n"
                    )
                self.run("build", "--network=host", "--tag", name, "--file", recipe, folder)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{archive}.part")  # podman adds to none
            self.run("save", "--output", f"{archive}.part", name)
            os.rename(f"{archive}.part", archive)
        return name

    def python_image(self, python: str) -> str:
        """Return an image with a Python of this machine in it, at the path that it has here.

        Args:
            python: the interpreter of an installation in a folder of its own (pyenv's, uv's);
                system Pythons are not.

        Raises:
            EngineError: it cannot be made.
        """
        # Where its files are, not links to them.
        prefix = os.path.dirname(os.path.dirname(os.path.realpath(python)))
        digest = hashlib.sha256(prefix.encode()).hexdigest()[:12]
        name = f"localhost/rechain-test:python-{digest}"
        if self.run("images", "--quiet", name).strip():
            return name
        left_out = ("--exclude=__pycache__", "--exclude=test", "--exclude=*.a")
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            archive = f"{folder}/python.tar"
            subprocess.run(["tar", "-C", "/", *left_out, "-cf", archive, prefix[1:]], check=True)
            # Whoever calls it must reach it, and some installations lie in a private home.
            parents, parent = [], os.path.dirname(prefix)
            while parent != "/":
                parents.append(parent)
                parent = os.path.dirname(parent)
            with open(f"{folder}/Containerfile", "w", encoding="utf-8") as file:
                file.write(
                    f"FROM {self.base_image()}\nADD python.tar /\n"
                    f"RUN chmod a+rx {' '.join(parents)}\nENV PATH={prefix}/bin:{_PATH}\n"
                )
            recipe = f"{folder}/Containerfile"
            self.run("build", "--network=host", "--tag", name, "--file", recipe, folder)
        return name

    def _start(self) -> None:
        raise NotImplementedError

    def _stop(self) -> None:
        for mount in reversed(_mounts_below(self.root)):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)


class DockerEngine(ThrowAwayEngine):
    """A dockerd of its own."""

    name = "docker"
    commands = ("docker", "dockerd", "setpriv", "umount")

    def __init__(self) -> None:
        super().__init__()
        self._daemon: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """End the daemon by SIGKILL, as a crash would: its containers live on."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()
        # Its containerd dies with it; where nobody reaps that, a next one would believe it alive.
        with contextlib.suppress(OSError):
            os.unlink(f"{self.root}/exec/containerd/containerd.pid")

    def stop(self) -> None:
        """End the daemon by SIGTERM, as `systemctl restart` does: it stops its containers."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGTERM)
        try:
            self._daemon.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()

    def start(self) -> None:
        """Start the daemon (again), and wait until it answers.

        Raises:
            EngineError: it does not start.
        """
        with open(f"{self.root}/log", "ab") as log:
            self._daemon = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "TERM", "dockerd", "--iptables=false",
                    "--ip6tables=false", "--bridge=none", f"--data-root={self.root}/data",
                    f"--exec-root={self.root}/exec", f"--pidfile={self.root}/pid",
                    f"--host=unix://{self.root}/socket",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env={**os.environ, "PATH": _path()}, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + 120
        while not self.run("info", "--format", "{{.ServerVersion}}", check=False).strip():
            if self._daemon.poll() is not None or time.monotonic() > until:
                raise EngineError(f"dockerd does not start\n{self._log()}")
            time.sleep(0.05)  # it tells nobody when it is ready

    def _start(self) -> None:
        os.mkdir(f"{self.root}/config")
        self.environment["DOCKER_HOST"] = f"unix://{self.root}/socket"
        self.environment["DOCKER_CONFIG"] = f"{self.root}/config"
        self.start()

    def _stop(self) -> None:
        if self._daemon is not None and self._daemon.poll() is None:
            self.stop()
        super()._stop()

    def _log(self) -> str:
        with open(f"{self.root}/log", encoding="utf-8", errors="replace") as file:
            return "".join(file.readlines()[-15:])


class PodmanEngine(ThrowAwayEngine):
    """A podman with storage and settings of its own."""

    name = "podman"
    commands = ("podman", "runc", "umount")

    def _start(self) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 32768)
        if processes < 0:
            processes = 32768
        for name, text in (("containers", _CONTAINERS_CONF), ("storage", _STORAGE_CONF)):
            path = f"{self.root}/{name}.conf"
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.format(root=self.root, files=files, processes=processes))
        self.environment["CONTAINERS_CONF"] = f"{self.root}/containers.conf"
        self.environment["CONTAINERS_STORAGE_CONF"] = f"{self.root}/storage.conf"
        self.environment["REGISTRY_AUTH_FILE"] = f"{self.root}/auth.json"
        with open(self.environment["REGISTRY_AUTH_FILE"], "w", encoding="utf-8") as file:
            file.write("{}")
        self.run("info")


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{_PATH}"


@contextlib.contextmanager
def _kept(name: str) -> Iterator[str]:
    """Give the path of a file that is kept for all, and time to make it."""
    folder = f"{tempfile.gettempdir()}/rechain-testing-{os.getuid()}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(f"{folder}/{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield f"{folder}/{name}"


def _base_archive() -> str:
    digest = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:12]
    with _kept(f"{_RELEASE}-{digest}.tar") as final:
        if os.path.exists(final):
            return final
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
        try:
            subprocess.run(
                [*command, _RELEASE, f"{final}.part.tar"],
                check=True, capture_output=True, text=True, env={**os.environ, "PATH": _path()},
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            raise EngineError(f"mmdebstrap cannot make the base image: {said[-2000:]}") from error
        os.rename(f"{final}.part.tar", final)
    return final


def _mounts_below(root: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        points = [line.split()[4] for line in file]
    return [point for point in points if root and f"{point}/".startswith(f"{root}/")]
