"""The Containerfile of an environment: pure, and the same for every lock.

What is installed is in the build's folder (`context`), not in this text. So a build needs no
package index, no credentials and, where git is in the base, no network; what is in the image is
what the lock's hashes say, byte for byte as it runs without a container.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PLACES", "Places", "parts", "places", "text", "variables"]

# Where an image has nothing to say, its engine says this.
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Modules of Python that need a library of the system, and git, which clones from https.
_CHECK = "bz2, ctypes, hashlib, lzma, sqlite3, ssl, zlib"


class Places(NamedTuple):
    """Where things are in an image: the interpreter, the packages, MPI."""

    python: str = "/opt/rechain/python"
    environment: str = "/opt/rechain/environment"
    mpi: str = "/opt/rechain/mpi"


PLACES = Places()


def places(prefix: str | None) -> Places:
    """Return where things are in the image of an environment.

    Args:
        prefix: the folder of an environment of conda on this machine: its files hold that path,
            so it is the same in the image. None for another environment.
    """
    return PLACES if prefix is None else Places(python=prefix, environment=prefix)


def variables(mpi: bool, conda: str | None = None) -> dict[str, str]:
    """Return the variables that an image sets, `PATH` without what the base image has in it."""
    at = places(conda)
    programs = [at.environment, *([at.mpi] if mpi else [])]
    path = ":".join(f"{place}/bin" for place in programs)
    if conda is not None:
        return {"PATH": path, "CONDA_PREFIX": conda}
    return {
        "PATH": path,
        "VIRTUAL_ENV": at.environment,
        "LD_LIBRARY_PATH": f"{at.python}/lib",
    }


def text(
    base: str, title: str, python: str, *, mpi: bool, ours: bool, conda: str | None = None
) -> str:
    """Return a Containerfile; see `parts` for the arguments."""
    return "".join(parts(base, title, python, mpi=mpi, ours=ours, conda=conda))


def parts(
    base: str, title: str, python: str, *, mpi: bool, ours: bool, conda: str | None = None
) -> tuple[str, str]:
    """Return a Containerfile: all below the user's packages, and those.

    The layers are in the order of how seldom they change: one more package of the user's leaves
    all but the last in place.

    Args:
        base: the image to build on.
        title: what the environment is, for people: `chainer 7.0.0`.
        python: its Python's minor version, such as `3.6`.
        mpi: whether it has an MPI.
        ours: whether the base is Rechain's choice, and git is put in; an image of the user's keeps
            what it has.
        conda: the environment's folder, if its Python is conda's.
    """
    at = places(conda)
    set_here = variables(mpi, conda)
    lines = [
        f"# {title} on Python {python} with its pip. What is copied lies beside this file.",
        f"FROM {base}",
        "USER root",
    ]
    if ours:
        lines += [
            "RUN command -v git >/dev/null || { apt-get update \\",
            " && apt-get install -y --no-install-recommends ca-certificates git \\",
            " && rm -rf /var/lib/apt/lists/*; }",
        ]
    if conda is None:
        lines += _python(at, python)
    if mpi:
        lines.append(f"COPY mpi/ {at.mpi}/")
    if libraries := set_here.get("LD_LIBRARY_PATH"):
        set_here["LD_LIBRARY_PATH"] = f"{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
    set_here["PATH"] += f":${{PATH:-{_DEFAULT_PATH}}}"
    lines.append("ENV " + " \\\n    ".join(f"{name}={set_here[name]}" for name in set_here))
    before = "The" if conda is None else "Python and packages of conda, and the"
    lines.append(f"# {before} recipe's packages.")
    lines += _packages("recipe", at, python)
    if conda is not None:
        lines.append(f"RUN {at.python}/bin/python -I -c 'import {_CHECK}'")
    yours = ["# Yours.", *_packages("packages", at, python)]
    return "\n".join(lines) + "\n", "\n".join(yours) + "\n"


def _python(at: Places, python: str) -> list[str]:
    libraries = f"{at.python}/lib"
    return [
        f"COPY python/ {at.python}/",
        "# Libraries of the system that Python needs: the image's own, else those beside Python.",
        f'RUN cd {at.python}/needs && for name in *; do [ ! -e "$name" ] '
        '|| ldconfig -p | grep -qF "/$name" \\',
        ' || ln -s "../needs/$name" "../lib/$name"; done \\',
        f" && LD_LIBRARY_PATH={libraries} {at.python}/bin/python{python} -I -c 'import {_CHECK}'",
    ]


def _packages(folder: str, places: Places, python: str) -> list[str]:
    at = places.environment
    return [
        f"COPY {folder}/ {at}/",
        # Whoever runs it may not write there. Some packages hold files that are no Python 3.
        f"RUN {at}/bin/python -I -m compileall -q {at}/lib/python{python} >/dev/null || true",
    ]
