"""The Containerfile of an environment: pure, and the same for every lock.

What is installed is in the build's folder (`context`), not in this text. So a build needs no
package index, no credentials and, where git is in the base, no network; what is in the image is
what the lock's hashes say, byte for byte as it runs without a container.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PLACES", "Places", "parts", "text", "variables"]

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


def variables(mpi: bool) -> dict[str, str]:
    """Return the variables that an image sets, `PATH` without what the base image has in it."""
    programs = [PLACES.environment, *([PLACES.mpi] if mpi else [])]
    return {
        "PATH": ":".join(f"{place}/bin" for place in programs),
        "VIRTUAL_ENV": PLACES.environment,
        "LD_LIBRARY_PATH": f"{PLACES.python}/lib",
    }


def text(base: str, title: str, python: str, *, mpi: bool, ours: bool) -> str:
    """Return a Containerfile; see `parts` for the arguments."""
    return "".join(parts(base, title, python, mpi=mpi, ours=ours))


def parts(base: str, title: str, python: str, *, mpi: bool, ours: bool) -> tuple[str, str]:
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
    """
    at = PLACES
    set_here = variables(mpi)
    libraries = set_here["LD_LIBRARY_PATH"]
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
    lines += [
        f"COPY python/ {at.python}/",
        "# Libraries of the system that Python needs: the image's own, else those beside Python.",
        f'RUN cd {at.python}/needs && for name in *; do [ ! -e "$name" ] '
        '|| ldconfig -p | grep -qF "/$name" \\',
        ' || ln -s "../needs/$name" "../lib/$name"; done \\',
        f" && LD_LIBRARY_PATH={libraries} {at.python}/bin/python{python} -I -c 'import {_CHECK}'",
    ]
    if mpi:
        lines.append(f"COPY mpi/ {at.mpi}/")
    lines += [
        f"ENV PATH={set_here['PATH']}:${{PATH:-{_DEFAULT_PATH}}} \\",
        f"    VIRTUAL_ENV={at.environment} \\",
        f"    LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}",
        "# The recipe's packages.",
        *_packages("recipe", python),
    ]
    yours = ["# Yours.", *_packages("packages", python)]
    return "\n".join(lines) + "\n", "\n".join(yours) + "\n"


def _packages(folder: str, python: str) -> list[str]:
    at = PLACES.environment
    return [
        f"COPY {folder}/ {at}/",
        # Whoever runs it may not write there. Some packages hold files that are no Python 3.
        f"RUN {at}/bin/python -I -m compileall -q {at}/lib/python{python} >/dev/null || true",
    ]
