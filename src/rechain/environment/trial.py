"""Whether an engine starts containers: tried with one small program, before anything is built.

An engine may answer and be no use: its runtime does not know this machine's cgroups, a user has
no ids of its own to give away, a limit is above what may be had. All of that shows only when a
container starts. That it did is remembered until the next boot, for the settings that it had.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
import resource
import shutil
import subprocess
import tarfile
import time
from typing import Any, NamedTuple

from rechain.environment import store
from rechain.environment.build import alone
from rechain.environment.engines import Engine, Finding
from rechain.environment.errors import EnvironmentFailure
from rechain.record import host, jsonl

__all__ = ["Trial", "check_gpus", "hint_for", "start", "tried"]

_IMAGE = "localhost/rechain-trial"
_PATIENCE = 60.0  # seconds for each call of the client
_LIMITS = ("--memory=64m", "--cpus=1", "--shm-size=32m")
# Podman's settings lie in these folders; what is there is part of what was tried.
_SETTINGS = ("/usr/share/containers", "/etc/containers", "/etc/containers/containers.conf.d")
_IDS = ("/etc/subuid", "/etc/subgid")
# Where CDI specs lie: https://github.com/cncf-tags/container-device-interface
_DEVICES = ("/etc/cdi", "/var/run/cdi")
_KIND = "nvidia.com/gpu"
_MOST_PROCESSES = 32768  # podman lowers its own limit to this before it sets a container's


class Trial(NamedTuple):
    """What came of starting a container.

    Attributes:
        seconds: how long it took.
        problem: one line: what the engine said; empty if it started.
        without_limits: whether it did start without limits of memory and CPUs.
    """

    seconds: float
    problem: str = ""
    without_limits: bool = False


def tried(finding: Finding, cache: str) -> Finding:
    """Return what was found of an engine, after it has started a container once since the boot.

    Args:
        finding: an engine that answers.
        cache: what `store.cache_root` returned; that it works is kept there.

    Returns:
        The same, with what is wrong with limits; or, if it starts none, without the engine and
        with the problem and its cure.
    """
    engine = finding.engine
    assert engine is not None
    mark = _mark(engine, finding.settings)
    path = store.engine(cache, mark)
    boot = host.identity()["boot_id"]

    def known() -> Finding | None:
        found = store.read_known(path) or {}
        whole = found.get("boot_id") == boot and "limits" in found
        return finding._replace(limits=found["limits"]) if whole else None

    if (before := known()) is not None:
        return before
    with alone(f"{path[:-5]}.lock", lambda line: None):
        if (before := known()) is not None:
            return before
        try:
            made = start(engine, limits=True)
            problem = made.problem
        except EnvironmentFailure as failure:
            made, problem = Trial(0), failure.message
        if not problem or made.without_limits:
            jsonl.write_atomic(path, {"schema": 1, "boot_id": boot, "limits": problem})
            return finding._replace(limits=problem)
    return finding._replace(
        engine=None,
        problem=f"{engine.title} starts no container ({problem})",
        hint=hint_for(engine, problem),
    )


def start(engine: Engine, *, limits: bool) -> Trial:
    """Start a container of one program, in an image of nothing else, as a job's is started.

    Args:
        engine: the engine.
        limits: whether it gets limits of memory and CPUs, too.

    Raises:
        EnvironmentFailure: the engine does not answer in a minute.
    """
    image = f"{_IMAGE}:{os.getpid()}"
    try:
        made = engine.call("import", "-", image, stdin=_smallest(), seconds=_PATIENCE)
        if made.code:
            return Trial(0, f"it cannot make an image: {made.reason}")
        plain = ["run", "--rm", "--network=host", "--pull=never", "--log-driver=none"]
        plain += ["--security-opt=label=disable", f"--user={os.getuid()}:{os.getgid()}"]
        if engine.rootless and engine.name == "podman":
            plain.append("--userns=keep-id")
        started = time.monotonic()
        wanted = _LIMITS if limits else ()
        said = engine.call(*plain, *wanted, image, "/true", seconds=_PATIENCE)
        seconds = time.monotonic() - started
        # Podman's word and docker's: rootless, where cgroups are of version 1 or not theirs.
        ignored = [line for line in said.errors.splitlines() if re.search("ignored|discard", line)]
        if not said.code and limits and ignored:
            return Trial(seconds, ignored[0].strip(), True)
        if not said.code:
            return Trial(seconds)
        without = limits and not engine.call(*plain, image, "/true", seconds=_PATIENCE).code
        return Trial(seconds, said.reason, without)
    finally:
        engine.call("rmi", "--force", image, seconds=_PATIENCE)


def check_gpus(engine: Engine) -> None:
    """See whether an engine can give this machine's GPUs to a container.

    Podman takes them from a CDI spec that names them. Docker has a word of its own, which needs
    NVIDIA's runtime or hook where its daemon is; a daemon elsewhere is not looked into.

    Args:
        engine: the engine.

    Raises:
        EnvironmentFailure: it cannot; its cause is `no_gpu`.
    """
    if engine.name == "podman":
        if any(_names_gpus(path) for folder in _DEVICES for path in glob.glob(f"{folder}/*")):
            return
        raise EnvironmentFailure(
            f"podman cannot give a container the GPU: no CDI spec in {' or '.join(_DEVICES)} "
            f"names {_KIND}",
            "Install nvidia-container-toolkit, and run `nvidia-ctk cdi generate "
            "--output=/etc/cdi/nvidia.yaml` as root; or run without a container.",
            cause="no_gpu",
        )
    if not engine.variables.get("DOCKER_HOST", "unix:").startswith("unix:"):
        return
    said = engine.call("info", "--format", "{{json .Runtimes}}", seconds=_PATIENCE)
    if "nvidia" in said.text or shutil.which("nvidia-container-runtime-hook"):
        return
    raise EnvironmentFailure(
        "docker cannot give a container the GPU: its daemon has no NVIDIA runtime",
        "Install nvidia-container-toolkit, run `nvidia-ctk runtime configure --runtime=docker` as "
        "root, and start the daemon again; or run without a container.",
        cause="no_gpu",
    )


def _names_gpus(path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return _KIND in file.read()
    except OSError:
        return False


def hint_for(engine: Engine, problem: str) -> str:
    """Return what to do about an engine that starts no container.

    Args:
        engine: the engine.
        problem: what it said.
    """
    podman = engine.name == "podman"
    settings = _settings_of(engine)
    said = problem.lower()
    if "rlimit" in said:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        if not 0 <= processes <= _MOST_PROCESSES:
            processes = _MOST_PROCESSES
        if podman:
            return (
                f"It asks for more than it may have: write into {settings}, below [containers], "
                f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]'
            )
        return (
            f"It asks for more than it may have: write into {settings} "
            f'"default-ulimits": {{"nofile": {{"Name": "nofile", "Hard": {files}, '
            f'"Soft": {files}}}}}, and start its daemon again.'
        )
    if podman and "cgroup" in said and ("hybrid" in said or "crun" in said):
        return (
            "Its runtime crun does not know this machine's cgroups: install runc, and write into "
            f'{settings}, below [engine], runtime = "runc"'
        )
    if podman and re.search(r"newuidmap|newgidmap|subuid|subgid|uid_map", said):
        return (
            "Rootless podman needs newuidmap (the package uidmap) and ids of yours in /etc/subuid "
            "and /etc/subgid: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "
            "USER`, as root; then `podman system migrate`."
        )
    if podman and re.search(r"oci runtime|runtime .*not found|valid runtime", said):
        return f"Install runc or crun, or name one that is there in {settings}: runtime = ..."
    return f"Try `{engine.name} run` yourself, and see `{engine.name} info`."


def _settings_of(engine: Engine) -> str:
    """Return the file in which a user would change an engine's settings."""
    if engine.name == "docker":
        return "/etc/docker/daemon.json"
    own = engine.variables.get("CONTAINERS_CONF")
    if own or not engine.rootless:
        return own or "/etc/containers/containers.conf (or a file that CONTAINERS_CONF names)"
    return "~/.config/containers/containers.conf (or a file that CONTAINERS_CONF names)"


def _smallest() -> bytes:
    """Return an archive of `true`, and of the libraries that it loads."""
    program = shutil.which("true") or "/bin/true"
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.add(os.path.realpath(program), "true")
        for library in re.findall(r"(?:=> |\t)(/\S+) \(", said.stdout):
            archive.add(os.path.realpath(library), library[1:])
    return made.getvalue()


def _mark(engine: Engine, settings: dict[str, Any] | None) -> str:
    """Return a name for an engine with its settings, and with who calls it."""
    variables = engine.variables
    home = os.path.expanduser(variables.get("HOME", "~"))
    folders = [*_SETTINGS, f"{variables.get('XDG_CONFIG_HOME') or f'{home}/.config'}/containers"]
    paths = [engine.program, *_IDS]
    paths += [variables[name] for name in variables if name.endswith("_CONF")]
    for folder in folders if engine.name == "podman" else ():
        try:
            paths += sorted(f"{folder}/{name}" for name in os.listdir(folder))
        except OSError:
            pass  # it need not be there
    facts = {
        "settings": settings,
        "variables": {k: v for k, v in variables.items() if k.startswith(("DOCKER", "CONTAINER"))},
        "user": [os.getuid(), os.getgid(), sorted(os.getgroups())],
        "limits": [resource.getrlimit(n) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)],
        "files": [[path, *_state(path)] for path in paths],
    }
    return hashlib.sha256(jsonl.dumps(facts).encode()).hexdigest()[:32]


def _state(path: str) -> list[int]:
    try:
        facts = os.stat(path)
    except OSError:
        return []
    return [facts.st_mtime_ns, facts.st_size]
