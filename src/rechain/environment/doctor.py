"""What of this machine works for trainings: asked, not guessed, in a few seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from rechain.environment import engines, gpu, interpreters, trial, uv
from rechain.environment.engines import Engine
from rechain.environment.errors import EnvironmentFailure

__all__ = ["Check", "examine"]

_ROOM = 5 << 30  # bytes: a framework with CuPy, and what is downloaded for it
_PATIENCE = {"UV_HTTP_TIMEOUT": "10", "UV_HTTP_RETRIES": "0"}
_SMALL = "six"  # a package that every index has


class Check(NamedTuple):
    """What came of one probe.

    Attributes:
        name: what was looked at: `python`, `engine docker`, ...
        state: `works`; `missing`, which most trainings do without; `broken`, if it is there and
            does not work; `needed`, if nothing goes without it.
        says: one line: what is there, or what is wrong.
        hint: what to install or fix; empty if nothing.
    """

    name: str
    state: str
    says: str
    hint: str = ""


def examine(environ: Mapping[str, str], cache: str) -> list[Check]:
    """Probe this machine.

    Args:
        environ: the caller's variables.
        cache: what `store.cache_root` returned; what interpreters say is kept there.

    Returns:
        What came of each probe, always in the same order.
    """
    probes: list[Callable[[], Iterator[Check]]] = [
        lambda: _cache(cache),
        lambda: _pythons(cache),
        _index,
        _git,
        lambda: _engines(environ),
        lambda: _gpus(environ),
        lambda: _mpis(environ, cache),
        lambda: _slurm(environ),
    ]
    with ThreadPoolExecutor(len(probes)) as pool:
        return [
            check for found in pool.map(lambda probe: list(probe()), probes) for check in found
        ]


def _cache(cache: str) -> Iterator[Check]:
    try:
        os.makedirs(cache, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            free = shutil.disk_usage(cache).free
    except OSError as error:
        hint = "Put it elsewhere with RECHAIN_CACHE."
        yield Check("cache", "needed", f"{cache} cannot be written: {error.strerror}", hint)
        return
    says = f"{cache}, {free / (1 << 30):.0f} GiB free"
    if free < _ROOM:
        yield Check("cache", "broken", says, "Make room, or put it elsewhere with RECHAIN_CACHE.")
    else:
        yield Check("cache", "works", says)


def _pythons(cache: str) -> Iterator[Check]:
    try:
        found = interpreters.found(cache)
    except OSError as error:
        yield Check("python", "needed", f"cannot look for any: {error.strerror}")
        return
    versions = sorted({one.release[:2] for one in found})
    if not versions:
        hint = "Install one (apt, pyenv, conda), or let uv download one: Python 3.8 and newer."
        yield Check("python", "missing", "there is none that environments can be built on", hint)
        return
    says = ", ".join(f"{major}.{minor}" for major, minor in versions)
    hint = ""
    if (3, 6) not in versions:
        hint = "Chainer 4 and 5 were made for 3.6, which pyenv and conda have; 3.8 will do."
    yield Check("python", "works", says, hint)


def _index() -> Iterator[Check]:
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/requirements.in", "w", encoding="utf-8") as file:
                file.write(f"{_SMALL}\n")
            arguments = ["pip", "compile", "requirements.in", "--output-file", "made.txt"]
            # Its own cache: what uv has seen before would answer for the index.
            done = uv.run([*arguments, "--cache-dir", f"{folder}/cache"], folder, extra=_PATIENCE)
    except EnvironmentFailure as failure:
        yield Check("package index", "needed", failure.message, failure.hint)
        return
    if done.code:
        why = uv.explain(done.errors, f"asking for {_SMALL}")
        yield Check("package index", "broken", why.message, why.hint)
    else:
        seconds = time.monotonic() - started
        yield Check("package index", "works", f"answers in {seconds:.1f} s")


def _git() -> Iterator[Check]:
    said = _says("git", "--version")
    if said:
        yield Check("git", "works", said.removeprefix("git version "))
    else:
        hint = "Install git to have each run's commit and changes recorded."
        yield Check("git", "missing", "there is no git on PATH", hint)


def _engines(environ: Mapping[str, str]) -> Iterator[Check]:
    for finding in engines.look(environ):
        name = f"engine {finding.name}"
        if finding.engine is not None:
            yield _container(name, finding.engine)
        elif finding.installed:
            yield Check(name, "broken", finding.problem, finding.hint)
        else:
            yield Check(name, "missing", finding.problem, finding.hint)


def _container(name: str, engine: Engine) -> Check:
    try:
        made = trial.start(engine, limits=True)
    except (EnvironmentFailure, OSError) as error:
        return Check(name, "broken", f"{engine.title}: {error}")
    if not made.problem:
        says = f"{engine.title}, starts a container in {made.seconds:.1f} s, with limits"
        return Check(name, "works", says)
    if made.without_limits:
        says = f"{engine.title}, starts containers, but not with limits: {made.problem}"
        hint = "Limits of memory and CPUs need cgroups that the engine may write."
        return Check(name, "broken", says, hint)
    says = f"{engine.title} starts no container: {made.problem}"
    return Check(name, "broken", says, trial.hint_for(engine, made.problem))


def _gpus(environ: Mapping[str, str]) -> Iterator[Check]:
    found, why = gpu.look(environ)
    if not found:
        hint = "Nothing is missing if this machine has no NVIDIA GPU."
        if shutil.which("nvidia-smi"):
            hint = "Run `nvidia-smi`: the driver may need to be installed anew."
        yield Check("gpu", "missing", why, hint)
        return
    names = [f"{one['name']} (driver {one['driver']})" for one in found]
    yield Check("gpu", "works", ", ".join(names))
    for finding in engines.look(environ):
        if finding.engine is None:
            continue
        try:
            trial.check_gpus(finding.engine)
        except EnvironmentFailure as failure:
            yield Check(f"gpu in {finding.name}", "missing", failure.message, failure.hint)
        else:
            yield Check(f"gpu in {finding.name}", "works", "containers get it")


def _mpis(environ: Mapping[str, str], cache: str) -> Iterator[Check]:
    from rechain.environment import mpi

    path = environ.get("PATH", os.defpath)
    launcher = shutil.which("mpiexec", path=path) or shutil.which("mpirun", path=path)
    if launcher is None:
        hint = "None is needed: MPICH comes from the package index. A cluster has its own module."
        yield Check("mpi", "missing", "there is no mpiexec on PATH", hint)
        return
    try:
        facts = mpi.ask(cache, os.path.abspath(launcher))
    except (EnvironmentFailure, OSError) as error:
        yield Check("mpi", "broken", str(error), getattr(error, "hint", ""))
        return
    title = mpi.NAMES[facts["family"]]
    yield Check("mpi", "works", f"{title} {facts['version']} ({launcher})")


def _slurm(environ: Mapping[str, str]) -> Iterator[Check]:
    if shutil.which("sbatch", path=environ.get("PATH", os.defpath)) is None:
        yield Check("slurm", "missing", "there is no sbatch on PATH")
        return
    said = _says("sbatch", "--version")
    if not said:
        words = "sbatch does not work: Slurm is not configured on this machine"
        hint = "Go to a login node of the cluster, or set SLURM_CONF to the cluster's slurm.conf."
        yield Check("slurm", "broken", words, hint)
        return
    hint = "Name it as a target: `rechain target add NAME --slurm`."
    yield Check("slurm", "works", said, hint)


def _says(*command: str) -> str:
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=20, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip() if said.returncode == 0 else ""
