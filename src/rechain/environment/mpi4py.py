"""mpi4py for Pythons that have no wheel of it: built against the MPI that starts the ranks.

Once per Python, kind of MPI, C library and machine; the environments get copies.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from rechain import recipes
from rechain.environment import seal, store, uv
from rechain.environment.build import (
    alone,
    put_in_place,
    requirement,
    tell_builds,
    workbench,
    write_build_settings,
    write_lines,
)
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.mpi import LIBRARIES, NAMES, install, says
from rechain.job.hashing import sha256

__all__ = ["built", "compiler_of", "folder_of"]

# One huge generated file of thin wrappers: what -O3 and debug symbols add is 47 s (80 against 33).
_FLAGS = "-O1 -g0"

# A package of development files, for the people whose machine lacks an mpicc.
_MORE = {"openmpi": "libopenmpi-dev", "mpich": "libmpich-dev", "impi": "mpich"}


def built(lock: dict[str, Any], python: str, cache: str, say: Callable[[str], None]) -> str:
    """Return a folder with what mpi4py puts into site-packages, building it if need be.

    Args:
        lock: the lock document of an environment.
        python: its interpreter, which builds.
        cache: what `store.cache_root` returned.
        say: takes lines for people.

    Raises:
        EnvironmentFailure: it cannot be built.
        OSError: the cache cannot be written.
    """
    (package,) = (one for one in lock["packages"] if one["name"] == "mpi4py")
    library = _library(lock["interpreter"])
    mpicc, abi = compiler_of(lock["mpi"], cache, say)
    final = _folder(lock, package, abi, cache)
    if os.path.exists(final):
        if store.holds(final):
            return final
        say("the mpi4py that was built was changed since")
    with alone(f"{final}.lock", say), workbench(cache) as folder:
        if os.path.exists(final) and store.holds(final):
            return final
        write_lines(f"{folder}/requirements.txt", [requirement(package)])
        write_build_settings(folder, lock["build"])
        arguments = ["pip", "install", "--no-deps", "--requirements", "requirements.txt"]
        arguments += ["--build-constraints", "build.txt", "--target", "made"]
        arguments += ["--python", python]
        # A Python before 3.8 links extensions to its own libpython, if it has one. Others of the
        # same ABI have none, or (conda's) are one already: they would not load it, or have two.
        # What is linked is an empty library, and the process has the symbols in any case.
        write_lines(f"{folder}/{library}", ["/* no library, for the linker */"])
        linker = f"{says(mpicc, '-show').split(' ', 1)[0]} -shared"
        more = {"MPICC": mpicc, "CFLAGS": _FLAGS, "LDSHARED": linker, "LDFLAGS": f"-L{folder}"}
        # From scratch: in its cache uv builds a second time where it did the first, and what was
        # compiled there for one MPI would be taken for another.
        done = uv.run([*arguments, "--no-cache"], folder, tell_builds(say), more)
        if done.code != 0:
            failure = uv.explain(done.errors, "building mpi4py")
            failure.hint = (
                f"Leave out the version of mpi4py, and you get {_known(lock)}, which fits MPIs of "
                "today."
            )
            raise failure
        seal.put(f"{folder}/made")
        put_in_place(f"{folder}/made", final)
    return final


def folder_of(lock: dict[str, Any], cache: str) -> str | None:
    """Return the folder of the mpi4py that a lock's environment has a copy of, if it is there."""
    if not lock.get("mpi", {}).get("builds_mpi4py"):
        return None
    (package,) = (one for one in lock["packages"] if one["name"] == "mpi4py")
    try:
        _, abi = compiler_of(lock["mpi"], cache, lambda line: None)
    except EnvironmentFailure:
        return None  # what would build it is gone
    folder = _folder(lock, package, abi, cache)
    return folder if os.path.exists(folder) else None


def _folder(lock: dict[str, Any], package: dict[str, Any], abi: str, cache: str) -> str:
    python = f"{lock['interpreter']['abi']}{abi} without {_library(lock['interpreter'])}"
    return f"{cache}/mpi4py/{_short(requirement(package) + python)}"


def _library(interpreter: dict[str, Any]) -> str:
    """Return what the library of a Python is called."""
    minor = interpreter["version"].rpartition(".")[0]
    return f"libpython{minor}{interpreter['abi'].lstrip('cp0123456789')}.so"


def _known(lock: dict[str, Any]) -> str:
    versions = recipes.mpis()["mpi4py"]
    minor = lock["interpreter"]["version"].rpartition(".")[0]
    return str(versions.get(minor, versions["newer"]))


def _short(text: str) -> str:
    data = text.encode()
    return sha256(len(data))(data).hexdigest()[:16]


def compiler_of(mpi: dict[str, Any], cache: str, say: Callable[[str], None]) -> tuple[str, str]:
    """Return what builds against an MPI.

    Args:
        mpi: what `provide` returned.
        cache: what `store.cache_root` returned.
        say: takes lines for people.

    Returns:
        The path of its mpicc, and a text that is the same wherever the result can be used. Where
        the MPI lies does not count: the ranks are told.

    Raises:
        EnvironmentFailure: there is none.
    """
    mpicc = _mpicc(mpi, cache, say)
    shown = says(mpicc, "-show")
    compiler = shown.split(" ", 1)[0]
    if not compiler or shutil.which(compiler) is None:
        raise EnvironmentFailure(
            f"mpi4py has to be built for this Python, and there is no compiler for {mpicc} "
            f"({compiler or 'it names none'})",
            _way_out(mpi),
        )
    links = shown.replace(os.path.dirname(os.path.dirname(mpicc)), "")
    return mpicc, "\n".join([LIBRARIES[mpi["family"]], links, os.uname().machine, _libc()])


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (OSError, ValueError):
        return ""


def _mpicc(mpi: dict[str, Any], cache: str, say: Callable[[str], None]) -> str:
    for mpicc in _wrappers(mpi["mpiexec"]):
        if _family_of(mpicc) == mpi["family"]:
            return mpicc
    if mpi["family"] == "impi":
        # What is built for MPICH runs with Intel MPI: https://www.mpich.org/abi/
        return f"{install('mpich', recipes.mpis()['package']['mpich'], cache, say)}/bin/mpicc"
    raise EnvironmentFailure(
        f"mpi4py has to be built for this Python, and there is no mpicc of "
        f"{NAMES[mpi['family']]} beside {mpi['mpiexec']}",
        _way_out(mpi),
    )


def _way_out(mpi: dict[str, Any]) -> str:
    return (
        f"Install {_MORE[mpi['family']]} and gcc, or choose Python 3.8 or newer, for which mpi4py "
        "is there ready-made."
    )


def _wrappers(mpiexec: str) -> Iterator[str]:
    for path in (mpiexec, os.path.realpath(mpiexec)):
        folder, name = os.path.split(path)
        for name_of_it in (re.sub(r"^mpi(exec|run)", "mpicc", name), "mpicc", "mpiicc"):
            if os.access(mpicc := f"{folder}/{name_of_it}", os.X_OK) and mpicc != path:
                yield mpicc
        for family in ("openmpi", "mpich"):  # Debian's names, where several MPIs are there
            if os.access(mpicc := f"{folder}/mpicc.{family}", os.X_OK):
                yield mpicc


def _family_of(mpicc: str) -> str | None:
    if "Open MPI" in says(mpicc, "--showme:version"):
        return "openmpi"
    said = says(mpicc, "-v")
    if "Intel(R) MPI" in said:
        return "impi"
    return "mpich" if "for MPICH version" in said else None
