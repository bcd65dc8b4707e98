"""What an image of the user's own has to start ranks with: its Python, and its MPI."""

from __future__ import annotations

import os
import re
from typing import Any

from rechain.environment import mpi, store
from rechain.environment.engines import Engine
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.spec import digest_of
from rechain.record import jsonl

__all__ = ["for_ranks"]

_OLDEST = (3, 6)  # of what runs our guards in there
# One container answers all. A plain `python` may be called python3, as when the script is started.
_QUESTIONS = """
python=$(command -v "$1" || { [ "$1" != python ] || command -v python3; }) || exit 3
echo "python $python $("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')"
shift
for name in "$@"; do mpiexec=$(command -v "$name") && break; done || exit 4
echo "mpiexec $mpiexec"
"$mpiexec" --version 2>&1
"""


def for_ranks(
    engine: Engine, image: dict[str, Any], environment: dict[str, Any], cache: str
) -> dict[str, Any]:
    """Return an image of the user's own with what its ranks are started with.

    The image is asked once, in a container of its own.

    Args:
        engine: what has the image.
        image: what `ensure` returned.
        environment: the `environment` of the job.
        cache: what `store.cache_root` returned.

    Returns:
        The image with its `mpi` (`{"family", "version", "mpiexec", "variables"}`) and its
        `interpreter` (`{"path", "version"}`), absolute paths inside.

    Raises:
        EnvironmentFailure: it has no Python, or none that is new enough, or no MPI.
        OSError: the cache cannot be written.
    """
    named = environment["mpi"]["mpiexec"]
    asked = {"image": image["id"], "python": environment["python"], "mpiexec": named}
    path = f"{cache}/images/ranks-{digest_of(asked)[:32]}.json"
    known = store.read_known(path)
    if known is None:
        known = {"schema": 1, **_ask(engine, image, environment["python"], named)}
        os.makedirs(os.path.dirname(path), exist_ok=True)
        jsonl.write_atomic(path, known)
    return {**image, "interpreter": known["interpreter"], "mpi": known["mpi"]}


def _ask(engine: Engine, image: dict[str, Any], python: str, named: str | None) -> dict[str, Any]:
    names = ["mpiexec", "mpirun"] if named is None else [named]
    what = image["reference"]
    plain = ["run", "--rm", "--pull=never", "--network=host", "--entrypoint=/bin/sh"]
    said = engine.call(*plain, image["id"], "-c", _QUESTIONS, "sh", python, *names)
    found = re.search(r"^python (\S+) ([\d.]+)$", said.text, re.MULTILINE)
    launcher = re.search(r"^mpiexec (\S+)$", said.text, re.MULTILINE)
    if said.code not in (0, 3) and not said.text.startswith("python "):
        raise EnvironmentFailure(
            f"{engine.title} cannot ask {what} for its MPI: {said.reason}",
            "`rechain doctor` starts a container with each engine and says what it lacks.",
            said.errors.strip(),
        )
    if found is None:
        raise EnvironmentFailure(
            f"the image {what} has no `{python}` that runs",
            "Name one with --python.",
            said.errors.strip(),
        )
    if tuple(map(int, found[2].split(".")[:2])) < _OLDEST:
        raise EnvironmentFailure(
            f"ranks in an image need its Python to be 3.6 or newer, and {found[1]} of {what} is "
            f"{found[2]}",
            "Name another one with --python.",
        )
    if launcher is None:
        raise EnvironmentFailure(
            f"the image {what} has no {' and no '.join(names)}, which starts ranks",
            "Put an MPI into it (Debian: openmpi-bin, mpich), name its mpiexec with --mpi, or "
            "leave out user_managed: then Rechain provides Python and MPI.",
        )
    introduction = mpi.introduced(said.text)
    if introduction is None:
        raise EnvironmentFailure(
            f"{launcher[1]} of the image {what} is no mpiexec of {', '.join(mpi.NAMES.values())}",
            "Name another one with --mpi: its path in the image.",
            said.text.strip(),
        )
    family, version = introduction
    return {
        "interpreter": {"path": found[1], "version": found[2]},
        # Its own mpi4py belongs to its own MPI: nothing need be told to them.
        "mpi": {"family": family, "version": version, "mpiexec": launcher[1], "variables": {}},
    }
