"""Which packages a framework version needs, by Python: one data file per version.

A recipe is a set of cells, one per Python minor version, in the order of preference: the Pythons
the version was made for come first. What is in a cell was installed and trained with before it
was written down; the tests do so again.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Any, NamedTuple

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "PLAIN",
    "Cell",
    "Recipe",
    "cuda",
    "documented",
    "images",
    "imports",
    "load",
    "mpis",
    "names",
    "read_toml",
]

# The recipe for no framework: a Python, and what the user asks for.
PLAIN = "plain"

_FOLDER = os.path.dirname(os.path.abspath(__file__))


class Cell(NamedTuple):
    """One framework version on one Python.

    Attributes:
        python: the minor version, such as `3.6`.
        as_of: the moment (RFC 3339, UTC) as of which unpinned packages resolve; not before the
            upload of the newest pin. None: as of now.
        pins: exact requirements of what is installed in any case.
        constraints: what must hold for every package, also for those the user adds.
        notes: what users of this cell should know.
        cupy: exact requirements of CuPy for various GPUs, the newest first.
        compat: what has to be put back for it to run there, names of `rechain_guest.compat`;
            empty where the framework runs as it is.
    """

    python: str
    as_of: str | None
    pins: tuple[str, ...]
    constraints: tuple[str, ...]
    notes: tuple[str, ...]
    cupy: tuple[str, ...] = ()
    compat: tuple[str, ...] = ()

    @property
    def patched(self) -> bool:
        """Whether it needs a patch in any case, with CuPy and without."""
        return bool(self.needed(()))

    def needed(self, packages: Iterable[str]) -> list[str]:
        """Return the patches that are needed with these packages: CuPy's only where there is one.

        Args:
            packages: names.
        """
        with_cupy = any(name.startswith("cupy") for name in packages)
        return [name for name in self.compat if with_cupy or not name.startswith("cupy.")]


class Recipe(NamedTuple):
    """One framework version.

    Attributes:
        name: such as `chainer-7.0.0`.
        framework: such as `chainer`; empty, like its version, for none.
        version: such as `7.0.0`.
        requires: what the framework's own metadata requires.
        with_mpi: exact requirements of what is installed too where there is an MPI.
        cells: by Python, the preferred first.
        owned: patterns of canonical package names that are never installed, with the reason.
        build_constraints: what must hold for the packages that sdists are built with.
        build_undated: packages that builds may take newer than the cell's `as_of`.
        build_extra: what the build of a named sdist needs and does not declare.
        document: the whole content, as plain JSON values.
    """

    name: str
    framework: str
    version: str
    requires: tuple[str, ...]
    with_mpi: tuple[str, ...]
    cells: tuple[Cell, ...]
    owned: dict[str, str]
    build_constraints: tuple[str, ...]
    build_undated: tuple[str, ...]
    build_extra: dict[str, list[str]]
    document: dict[str, Any]

    def cell(self, python: str) -> Cell | None:
        """Return the cell for a Python version such as `3.6` or `3.6.15`, if there is one."""
        minor = ".".join(python.split(".")[:2])
        return next((cell for cell in self.cells if cell.python == minor), None)

    @property
    def title(self) -> str:
        """What it makes, for people: `chainer 7.0.0`."""
        return f"{self.framework} {self.version}".strip() or "an environment of your packages"

    @property
    def pythons(self) -> str:
        """The Pythons there are cells for, for people: `3.6, 3.7 or 3.8`."""
        *most, last = [cell.python for cell in self.cells]
        return f"{', '.join(most)} or {last}" if most else last


def names() -> list[str]:
    """Return the names of all recipes, by framework and version."""
    found = [name[:-5] for name in os.listdir(_FOLDER) if re.fullmatch(r".+-\d.*\.toml", name)]
    return sorted(found, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])


def load(name: str) -> Recipe:
    """Read a recipe.

    Raises:
        UserErrorException: there is none of this name.
    """
    known = names()
    if name not in (*known, PLAIN):
        framework, _, version = name.partition("-")
        listed = ", ".join(n.partition("-")[2] for n in known if n.startswith(f"{framework}-"))
        raise UserErrorException(
            f"{framework} {version} is not among the versions Rechain knows: {listed or known}; "
            f"with packages of its day: --as-of DATE --pip {framework}=={version}"
        )
    document = read_toml(f"{_FOLDER}/{name}.toml")
    build = document["build"]
    return Recipe(
        name=name,
        framework=document["framework"],
        version=document["version"],
        requires=tuple(document["requires"]),
        with_mpi=tuple(document.get("with_mpi", ())),
        cells=tuple(
            Cell(
                python=cell["python"],
                as_of=cell.get("as_of"),
                pins=tuple(cell["pins"]),
                constraints=tuple(cell["constraints"]),
                notes=tuple(cell.get("notes", ())),
                cupy=tuple(cell.get("cupy", ())),
                compat=tuple(cell.get("compat", ())),
            )
            for cell in document["cell"]
        ),
        owned=document["owned"],
        build_constraints=tuple(build["constraints"]),
        build_undated=tuple(build["undated"]),
        build_extra=build["extra"],
        document=document,
    )


def mpis() -> dict[str, Any]:
    """Return the MPIs of the package index.

    Returns:
        `default`: the name of one package; `package`: by name, its `version` and `hash`;
        `mpi4py`: its version by Python, `newer` for all others.
    """
    return read_toml(f"{_FOLDER}/mpi.toml")


def cuda() -> dict[str, Any]:
    """Return what each build of CuPy needs of a machine.

    Returns:
        By package: `driver`, the oldest of NVIDIA's that will do, and `capability`, the lowest
        and the highest compute capability of a GPU.
    """
    content = read_toml(f"{_FOLDER}/cuda.toml")
    del content["schema"]
    return content


def documented() -> dict[str, Any]:
    """Return what v1's documentation says its images for Chainer have.

    Returns:
        `versions` of Chainer, and by `row` the documented version of a dependency for each.
    """
    return read_toml(f"{_FOLDER}/documented.toml")


def images() -> dict[str, Any]:
    """Return which images environments are built on.

    Returns:
        `cpu`, `gpu` by the package of CuPy, and what v1 documents as `documented`.
    """
    content = read_toml(f"{_FOLDER}/images.toml")
    del content["schema"]
    return content


def imports() -> dict[str, list[str]]:
    """Return which distributions (patterns) bring a module whose name is not their own."""
    return read_toml(f"{_FOLDER}/imports.toml")


def read_toml(path: str) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not TOML.
    """
    reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    with open(path, "rb") as file:
        content: dict[str, Any] = reader.load(file)
    return content
