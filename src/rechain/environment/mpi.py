"""The MPI that starts the ranks of a script: one that is there, or one of the package index.

A launcher is asked once which MPI it belongs to, and its answer kept until its file changes. An
MPI of the package index has a folder of its own in the cache, since it belongs to no Python; so
the environments of all Pythons use the same.
"""

from __future__ import annotations

import glob
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from rechain import recipes
from rechain.environment import seal, store, uv
from rechain.environment.build import alone, put_in_place, workbench, write_lines
from rechain.environment.errors import EnvironmentFailure
from rechain.record import jsonl

__all__ = ["LIBRARIES", "NAMES", "ask", "install", "introduced", "provide", "says"]

NAMES = {"openmpi": "Open MPI", "mpich": "MPICH", "impi": "Intel MPI"}

_PATIENCE = 20.0  # seconds for a launcher to say what it is; a cold network disk is slow

# How each launcher introduces itself; MPICH's is Hydra, and MVAPICH's as well.
_SAYS = {
    "openmpi": r"\((?:Open MPI|OpenRTE)\) (\d[\w.]*)",
    "mpich": r"HYDRA build details:\s+Version:\s+(\d[\w.]*)",
    "impi": r"Intel\(R\) MPI Library .*Version (\d[\w.]*)",
}
# What mpi4py's wheels link to (readelf -d), by the ABI that they are told by MPI4PY_MPIABI:
# https://mpi4py.readthedocs.io/en/stable/overview.html. Intel MPI has MPICH's ABI.
LIBRARIES = {"openmpi": "libmpi.so.40", "mpich": "libmpi.so.12", "impi": "libmpi.so.12"}
_DEBIANS_MPICH = "libmpich.so.12"  # Debian's name for the same, so that both MPIs can be there


def provide(
    setting: dict[str, Any], cache: str, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Return the MPI of a job, installing it if need be.

    Args:
        setting: what `mpi_setting` returned.
        cache: what `store.cache_root` returned.
        say: takes lines for people.

    Returns:
        `{"family", "version", "mpiexec", "variables"}`: `openmpi`, `mpich` or `impi`; two words
        for people; an absolute path; and what mpiexec and its ranks need to be told.

    Raises:
        EnvironmentFailure: there is no such MPI.
        OSError: the cache cannot be written.
    """
    mpiexec = setting["mpiexec"]
    if mpiexec is None:
        known = recipes.mpis()
        name = known["default"] if setting["wanted"] == "auto" else setting["wanted"]
        mpiexec = f"{install(name, known['package'][name], cache, say)}/bin/mpiexec"
    return ask(cache, mpiexec)


def install(name: str, package: dict[str, Any], cache: str, say: Callable[[str], None]) -> str:
    """Return the folder of an MPI of the package index, installing it if need be.

    Args:
        name: the package.
        package: its `version` and `hash`.
        cache: what `store.cache_root` returned.
        say: takes lines for people.

    Raises:
        EnvironmentFailure: it cannot be installed.
        OSError: the cache cannot be written.
    """
    final = f"{cache}/mpi/{name}-{package['version']}"
    if os.path.exists(final):
        if store.holds(final):
            return final
        say(f"{name} {package['version']} was changed since it was installed")
    os.makedirs(os.path.dirname(final), exist_ok=True)
    with alone(f"{final}.lock", say), workbench(cache) as folder:
        if os.path.exists(final) and store.holds(final):
            return final
        say(f"installing {name} {package['version']} (once)")
        line = f"{name}=={package['version']} --hash={package['hash']}"
        write_lines(f"{folder}/requirements.txt", [line])
        arguments = ["pip", "install", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        arguments += ["--requirements", "requirements.txt", "--prefix", f"{folder}/made"]
        # Copies: what is written into a file here is not in uv's cache then.
        arguments += ["--link-mode", "copy", "--python", sys.executable]
        for again in ([], ["--reinstall-package", name]):
            done = uv.run([*arguments, *again], folder)
            if done.code != 0:
                raise uv.explain(done.errors, f"installing {name}")
            (site,) = glob.glob(f"{folder}/made/lib/python*/site-packages")
            if not seal.damaged(site, [name], ""):
                break
            say(f"uv's cache has damaged files of {name}: fetched again")
            uv.run(["cache", "clean", name], folder)
            seal.forget(site, [name])
        seal.put(f"{folder}/made")
        put_in_place(f"{folder}/made", final)
    return final


def ask(cache: str, mpiexec: str) -> dict[str, Any]:
    """Return what an mpiexec is, asking it unless it has been asked before.

    Args:
        cache: what `store.cache_root` returned.
        mpiexec: its absolute path.

    Returns:
        See `provide`.

    Raises:
        EnvironmentFailure: it is none, or of an MPI that Rechain does not know.
        OSError: the cache cannot be written.
    """
    known = store.mpi_facts(cache, mpiexec)
    if known is not None:
        return known
    try:
        status = os.stat(mpiexec)
        family, version = _introduction(mpiexec)
    except (OSError, subprocess.SubprocessError) as error:
        raise EnvironmentFailure(
            f"{mpiexec} cannot be run: {error}", "Name another MPI with --mpi."
        ) from error
    facts = {
        "family": family,
        "version": version,
        "mpiexec": mpiexec,
        "variables": _variables(family, mpiexec, cache),
    }
    os.makedirs(cache, exist_ok=True)
    with alone(f"{store.mpis(cache)}.lock", lambda line: None):
        probes = (store.read_known(store.mpis(cache)) or {"probes": {}})["probes"]
        probes[mpiexec] = {"stat": [status.st_mtime_ns, status.st_size], "facts": facts}
        jsonl.write_atomic(store.mpis(cache), {"schema": 1, "probes": probes})
    return facts


def _introduction(mpiexec: str) -> tuple[str, str]:
    said = _run(mpiexec, "--version")
    if found := introduced(said.stdout):
        return found
    raise EnvironmentFailure(
        f"{mpiexec} is no mpiexec of {', '.join(NAMES.values())}",
        "Name another one with --mpi, or have one installed: --mpi mpich.",
        f"{mpiexec} --version ended with {said.returncode} and said:\n{said.stdout.strip()}",
    )


def introduced(said: str) -> tuple[str, str] | None:
    """Return the family and the version of an mpiexec by what its `--version` says, if known."""
    for family, pattern in _SAYS.items():
        if found := re.search(pattern, said):
            return family, found[1]
    return None


def _variables(family: str, mpiexec: str, cache: str) -> dict[str, str]:
    """Return what makes mpi4py load the library that belongs to a launcher."""
    # Told nothing, a wheel asks the first libmpi it finds, and takes MPICH 5 for neither kind.
    variables = {"MPI4PY_MPIABI": "openmpi" if family == "openmpi" else "mpich"}
    prefix, library = _library(family, mpiexec)
    if library is not None:
        variables["LD_LIBRARY_PATH"] = _folder_with(LIBRARIES[family], library, cache)
    if prefix is not None and family == "impi":
        variables["I_MPI_ROOT"] = prefix
        variables["FI_PROVIDER"] = "tcp"  # a machine alone has no other network to speak of
    return variables


def _library(family: str, mpiexec: str) -> tuple[str | None, str | None]:
    """Return a launcher's installation and its library, as far as they can be found."""
    names = [LIBRARIES[family]] + [_DEBIANS_MPICH] * (family == "mpich")
    machine = f"{os.uname().machine}-linux-gnu"
    below = ("lib", "lib64", f"lib/{machine}", f"lib/{machine}/openmpi/lib", "lib/release")
    for path in (mpiexec, os.path.realpath(mpiexec)):
        prefix = os.path.dirname(os.path.dirname(path))
        for name in names:
            for folder in below:
                if os.path.exists(found := f"{prefix}/{folder}/{name}"):
                    return prefix, found
    return None, None


def _folder_with(name: str, library: str, cache: str) -> str:
    """Return a folder where the loader finds a library, and if possible no other than MPI's."""
    folder, own = os.path.split(library)
    system = os.path.realpath(folder).startswith("/usr/lib")
    if own == name and not system:
        return folder
    links = f"{cache}/mpi/links{library.replace('/', '-')}"
    os.makedirs(links, exist_ok=True)
    try:
        os.symlink(library, f"{links}/{name}")
    except FileExistsError:
        pass
    return links


def says(*command: str) -> str:
    """Return what a program prints; nothing if it cannot be run."""
    try:
        return _run(*command).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_PATIENCE,
        check=False,
        text=True,
        errors="replace",
    )
