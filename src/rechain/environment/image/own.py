"""What an image of the user's own starts scripts with: its Python, and its MPI for ranks."""

from __future__ import annotations

import os
import re
from typing import Any

from rechain.environment import mpi, store
from rechain.environment.engines import Engine
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.spec import digest_of
from rechain.record import jsonl

__all__ = ["asked"]

_OLDEST = (3, 6)  # of what runs our guards in there
# One container answers all. A plain `python` may be called python3; nothing else is guessed.
_PYTHON = """
python=$(command -v "$1" || { [ "$1" = python ] && command -v python3; }) || exit 3
echo "python $python $("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')"
"""
_VERSION = 'import sys; print("python", sys.argv[1], "%d.%d.%d" % sys.version_info[:3])'
_MPI = """
shift
for name in "$@"; do mpiexec=$(command -v "$name") && break; done || exit 4
echo "mpiexec $mpiexec"
"$mpiexec" --version 2>&1
"""


def asked(
    engine: Engine, image: dict[str, Any], environment: dict[str, Any], cache: str
) -> dict[str, Any]:
    """Return an image of the user's own with what its script, or ranks, are started with.

    The image is asked once, in a container of its own.

    Args:
        engine: what has the image.
        image: what `ensure` returned.
        environment: the `environment` of the job.
        cache: what `store.cache_root` returned.

    Returns:
        The image with its `interpreter` (`{"path", "version"}`) and, where there are ranks, its
        `mpi` (`{"family", "version", "mpiexec", "variables"}`), absolute paths inside.

    Raises:
        EnvironmentFailure: it has no Python, or none that is new enough, or no MPI for ranks.
        OSError: the cache cannot be written.
    """
    names: list[str] = []
    if "mpi" in environment:
        named = environment["mpi"]["mpiexec"]
        names = ["mpiexec", "mpirun"] if named is None else [named]
    wanted = {"image": image["id"], "python": environment["python"], "mpiexec": names}
    path = f"{cache}/images/asked-{digest_of(wanted)[:32]}.json"
    known = store.read_known(path)
    if known is None:
        known = {"schema": 1, **_ask(engine, image, environment, names)}
        os.makedirs(os.path.dirname(path), exist_ok=True)
        jsonl.write_atomic(path, known)
    return {**image, "interpreter": known["interpreter"], "mpi": known["mpi"]}


def _ask(
    engine: Engine, image: dict[str, Any], environment: dict[str, Any], names: list[str]
) -> dict[str, Any]:
    python, wanted = environment["python"], environment["image"]
    what = image.get("asked") or image["reference"]
    otherwise = "leave out user_managed"
    if "context" in wanted:
        otherwise = "give the environment conda_dependencies"
    plain = ["run", "--rm", "--pull=never", "--network=host"]
    by_path = python.startswith("/") and not names  # so an image needs no shell
    if by_path:
        said = engine.call(*plain, f"--entrypoint={python}", image["id"], "-c", _VERSION, python)
    else:
        questions = _PYTHON + (_MPI if names else "")
        shell = [*plain, "--entrypoint=/bin/sh", image["id"], "-c", questions, "sh"]
        said = engine.call(*shell, python, *names)
    found = re.search(r"^python (\S+) ([\d.]+)$", said.text, re.MULTILINE)
    launcher = re.search(r"^mpiexec (\S+)$", said.text, re.MULTILINE)
    lacking = (0, 3, 127) if by_path else (0, 3)
    if said.code not in lacking and not said.text.startswith("python "):
        raise EnvironmentFailure(
            f"{engine.title} cannot ask {what} for its Python: {said.reason}",
            "If it has no /bin/sh, name the path of its Python with --python; else see `rechain "
            "doctor`, which starts a container with each engine.",
            said.errors.strip(),
        )
    if found is None:
        or_other = " and no `python3`" if python == "python" else ""
        raise EnvironmentFailure(
            f"the image {what} has no `{python}`{or_other} that runs",
            f"Name one with --python, or {otherwise}: then Rechain provides Python.",
            said.errors.strip(),
        )
    if tuple(map(int, found[2].split(".")[:2])) < _OLDEST:
        raise EnvironmentFailure(
            f"the Python of an image must be 3.6 or newer, and {found[1]} of {what} is {found[2]}",
            "Name another one with --python.",
        )
    interpreter = {"path": found[1], "version": found[2]}
    if not names:
        return {"interpreter": interpreter, "mpi": None}
    if launcher is None:
        raise EnvironmentFailure(
            f"the image {what} has no {' and no '.join(names)}, which starts ranks",
            "Put an MPI into it (Debian: openmpi-bin, mpich), name its mpiexec with --mpi, or "
            f"{otherwise}: then Rechain provides Python and MPI.",
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
        "interpreter": interpreter,
        # Its own mpi4py belongs to its own MPI: nothing need be told to them.
        "mpi": {"family": family, "version": version, "mpiexec": launcher[1], "variables": {}},
    }
