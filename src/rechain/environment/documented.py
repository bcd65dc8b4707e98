"""What v1's documentation says is in its images for Chainer, against what is here."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from rechain import recipes
from rechain.exceptions import UserErrorException

if TYPE_CHECKING:
    from rechain.recipes import Cell

__all__ = ["Row", "of_lock", "of_version", "on_this_machine", "versions"]

_TITLES = {
    "python": "Python",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "nccl": "NCCL",
    "intelmpi": "IntelMpi",
    "ubuntu": "Ubuntu",
}
_FAMILIES = {"openmpi": "Open MPI", "mpich": "MPICH", "impi": "Intel MPI"}
_GPU_ONLY = ("cuda", "cudnn", "nccl")


class Row(NamedTuple):
    """One documented dependency.

    Attributes:
        name: what it is called there.
        documented: its version there.
        here: what there is in its place, "" for nothing.
        state: `same`, `newer`, `older`, `provided by Rechain` or `absent`.
        why: one line: where it comes from, or why it is not there.
    """

    name: str
    documented: str
    here: str
    state: str
    why: str


def versions() -> list[str]:
    """Return the versions of Chainer that the documentation has a table for."""
    return list(_table()["versions"])


def of_version(version: str, machine: dict[str, str] | None = None) -> list[Row]:
    """Return the table of a version of Chainer, as its recipe's first Python has it.

    Args:
        version: such as `5.1.0`.
        machine: what `on_this_machine` returned; None to leave this machine out of it.

    Raises:
        UserErrorException: the documentation has none.
    """
    documented = _documented(version)
    cell = recipes.load(f"chainer-{version}").cells[0]
    have = {
        "python": (cell.python, f"the newest {cell.python} that is found; other Pythons by name"),
        "chainer": (version, "built from its sdist"),
        "intelmpi": _no_mpi(),
        "cupy-cuda90": _cupy(cell),
        **_machine(machine, gpu=True),
    }
    return _rows(documented, have)


def of_lock(
    lock: dict[str, Any],
    machine: dict[str, str] | None = None,
    image: dict[str, Any] | None = None,
) -> list[Row]:
    """Return the table of an environment's version of Chainer, as the environment has it.

    Args:
        lock: its lock document.
        machine: see `of_version`.
        image: the image of its run's container, if it had one.

    Raises:
        UserErrorException: it has no Chainer of a version that the documentation has.
    """
    packages = {one["name"]: one["version"] for one in lock["packages"]}
    documented = _documented(packages.get("chainer", ""))
    cupy = next((name for name in packages if re.fullmatch(r"cupy(-cuda\w+)?", name)), None)
    have = {
        "python": (lock["interpreter"]["version"], "the machine's"),
        "chainer": (packages["chainer"], "of the package index"),
        "intelmpi": _mpi(lock["mpi"]) if "mpi" in lock else _no_mpi(),
        "cupy-cuda90": (
            ("", "an environment for the CPU; --gpu adds the one that drives the GPU")
            if cupy is None
            else (f"{cupy} {packages[cupy]}", "the newest that drives the GPU")
        ),
        **_machine(machine, gpu=cupy is not None),
    }
    if image is not None:
        have.update(_container(image, gpu=cupy is not None))
    if "conda" in lock:
        python, count = have["python"][0], len(lock["conda"]["packages"])
        have["python"] = (python, "of conda")
        have["miniconda"] = ("Rechain's", f"rattler installed {count} packages of conda")
    if "horovod" in packages:
        have["horovod"] = (packages["horovod"], "asked for")
    return _rows(documented, have)


def on_this_machine() -> dict[str, str]:
    """Return what of the table is this machine's own: `git` and `system`."""
    import platform
    import subprocess

    try:
        said = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True)
        git = said.stdout.split()[2]
    except (OSError, subprocess.SubprocessError, IndexError):
        git = ""
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError, AttributeError):
        system = os.uname().sysname
    return {"git": git, "system": system}


def _table() -> dict[str, Any]:
    return recipes.documented()


def _documented(version: str) -> dict[str, str]:
    table = _table()
    known = table["versions"]
    if version not in known:
        what = f"Chainer {version}" if version else "an environment without Chainer"
        raise UserErrorException(
            f"v1's documentation has no table for {what}; it has {' and '.join(known)}"
        )
    at = known.index(version)
    return {name: row[at] for name, row in table["row"].items()}


def _no_mpi() -> tuple[str, str]:
    newest = recipes.mpis()["package"]["impi-rt"]["version"]
    return "", (
        f"one process needs none; ranks get the machine's MPI, or Intel's {newest} (--mpi impi-rt)"
    )


def _mpi(mpi: dict[str, Any]) -> tuple[str, str]:
    name = _FAMILIES[mpi["family"]]
    here = mpi["version"] if mpi["family"] == "impi" else f"{name} {mpi['version']}"
    of_index = mpi["wanted"] in recipes.mpis()["package"]
    return here, "of the package index" if of_index else "the machine's"


def _cupy(cell: Cell) -> tuple[str, str]:
    if not cell.cupy:
        return "", "this cell of the recipe has none"
    newest, *others = [text.replace("==", " ") for text in cell.cupy]
    oldest = f", down to {others[-1]}" if others else ""
    return newest, f"with --gpu, the newest that drives the GPU{oldest}"


def _machine(machine: dict[str, str] | None, gpu: bool) -> dict[str, tuple[str, str]]:
    """Return what is left to the machine."""
    libraries = "the machine's own, where CuPy looks for it; nothing is installed"
    if not gpu:
        libraries = "an environment for the CPU"
    git, system = (machine["git"], machine["system"]) if machine else ("", "")
    return {
        **dict.fromkeys(_GPU_ONLY, ("", libraries)),
        "git": (git, "the machine's own" if git or machine is None else "not on this machine"),
        "ubuntu": (system, "no container: the script runs on the machine as it is"),
        "horovod": ("", "it never had a binding for Chainer; ranks speak ChainerMN"),
        "miniconda": ("", "no conda is needed: uv installs, and rattler what is asked of conda"),
    }


def _container(image: dict[str, Any], gpu: bool) -> dict[str, tuple[str, str]]:
    """Return what is left to the image of a container."""
    reference = image["base"]["reference"]
    ubuntu = re.search(r"(?:^|/)ubuntu:(\d+\.\d+)|ubuntu(\d+\.\d+)", reference)
    system = f"Ubuntu {ubuntu[1] or ubuntu[2]}" if ubuntu else reference
    found = {
        "git": ("", "that of the image, which is not looked into"),
        "ubuntu": (system, f"the image of the run's container ({reference})"),
    }
    if gpu:
        found.update(dict.fromkeys(_GPU_ONLY, ("", "the image's own, where CuPy looks for it")))
    return found


def _rows(documented: dict[str, str], have: dict[str, tuple[str, str]]) -> list[Row]:
    rows = []
    for name, version in documented.items():
        title = _TITLES.get(name, name)
        if name == "azureml-defaults":
            why = "azureml.core inside the job; nothing is installed"
            rows.append(Row(title, version, "Rechain's", "provided by Rechain", why))
            continue
        here, why = have[name]
        rows.append(Row(title, version, here, _state(name, version, here), why))
    return rows


def _state(name: str, documented: str, here: str) -> str:
    if not here:
        return "absent"
    if name == "ubuntu" and not here.startswith("Ubuntu"):
        return "absent"
    if name in ("intelmpi", "miniconda") and not here[0].isdigit():
        return "provided by Rechain"
    numbers = re.search(r"(\d+(?:\.\d+)*)$|(\d+(?:\.\d+)+)", here)
    mine = _numbers(numbers[0] if numbers else "0")
    theirs = _numbers(documented)
    if mine == theirs[: len(mine)] and name == "python":
        return "newer" if len(mine) < len(theirs) else "same"
    return "same" if mine == theirs else "newer" if mine > theirs else "older"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
