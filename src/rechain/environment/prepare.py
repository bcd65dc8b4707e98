"""Make the environment of a job ready: resolve, lock, build."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rechain.environment import gpu, interpreters, store, uv
from rechain.environment.build import alone, build, folder_of, packages_of, workbench
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.resolve import identity
from rechain.exceptions import UserErrorException
from rechain.record import jsonl

if TYPE_CHECKING:
    from rechain.recipes import Cell, Recipe

__all__ = ["EnvironmentFailure", "build", "cache_usable", "prepare", "resolved"]

# The Pythons of CondaDependencies.create() and CondaDependencies() in v1's last SDK.
_OF_V1 = ("3.10.18", "3.8.13")


def prepare(
    spec: dict[str, Any], cache: str, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Return the environment of a spec, building it if need be.

    Args:
        spec: the `environment` of a job.json, as `venv_spec` made it; with a GPU, as
            `gpu.settled` did.
        cache: what `store.cache_root` returned.
        say: takes lines for people, as things happen.

    Returns:
        What `store.find` returns.

    Raises:
        EnvironmentFailure: it cannot be made ready.
    """
    found = store.find(cache, spec["digest"])
    if found is not None:
        return found
    with cache_usable(cache), alone(store.resolved(cache, spec["digest"])[:-5] + ".lock", say):
        found = store.find(cache, spec["digest"])
        if found is None:
            _make(spec, cache, say)
            found = store.find(cache, spec["digest"])
    if found is None:
        raise EnvironmentFailure(
            "the environment was built, and is not there any more",
            "Something else changes the cache or the interpreter; submit the run again.",
        )
    return found


@contextmanager
def cache_usable(cache: str) -> Iterator[None]:
    """Make it a failure of the environment when the cache cannot be written.

    Raises:
        EnvironmentFailure: its disk is full, or it cannot be used at all.
    """
    try:
        yield
    except UserErrorException as error:  # of settings that are read where it is built
        raise EnvironmentFailure(error.message) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EnvironmentFailure(
                f"the disk that holds {cache} is full",
                "Make room, or put the cache elsewhere with RECHAIN_CACHE.",
                str(error),
            ) from error
        raise EnvironmentFailure(
            f"the cache {cache} cannot be used: {error.strerror}",
            "Put it elsewhere with RECHAIN_CACHE.",
            str(error),
        ) from error


def _make(spec: dict[str, Any], cache: str, say: Callable[[str], None]) -> None:
    started = time.monotonic()
    lock = _known(spec, cache, say) or resolved(spec, cache, say)[0]
    for note in lock["notes"]:
        say(f"note: {note}")
    prefix = build(lock, cache, say, spec.get("wheelhouse"), _below(spec, cache, say))
    base = os.stat(f"{prefix}/bin/python")  # of the interpreter, where that is a link to it
    document: dict[str, Any] = {
        "schema": 1,
        "environment": folder_of(lock),
        "base": [base.st_mtime_ns, base.st_size],
        "lock": lock,
    }
    if "conda" in lock:
        from rechain.environment.conda.install import activation

        document["activation"] = activation(prefix, os.environ, say)
    jsonl.write_atomic(store.resolved(cache, spec["digest"]), document)
    say(f"ready in {time.monotonic() - started:.1f} s")


def _below(spec: dict[str, Any], cache: str, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the built environment of the recipe alone, if the spec asks to build on it."""
    if not spec.get("layered") or "conda" in spec:  # whose files hold the path that they are at
        return None
    found = store.find(cache, _again(spec, pip=())["digest"])
    if found is None:
        say("the recipe's own environment is not there to build on")
    return found


def _again(spec: dict[str, Any], pip: Iterable[str]) -> dict[str, Any]:
    """Return a spec with other packages."""
    from rechain.environment.spec import venv_spec

    asked = (spec["recipe"], spec["python"], pip, spec["strict"])
    wishes = ("mpi", "gpu", "as_of", "conda")
    further: dict[str, Any] = {name: spec.get(name) for name in wishes}
    same = venv_spec(*asked, **further, constraints=spec.get("constraints", ()))
    return gpu.settled(same, spec["gpus"]) if "gpu" in spec else same


def _recipe(spec: dict[str, Any]) -> Recipe:
    from rechain.environment import era

    try:
        same = _again(spec, spec["pip"])
        recipe = era.recipe_of(spec)
    except UserErrorException as error:
        raise EnvironmentFailure(error.message, "Submit the run again.") from error
    if same["digest"] != spec["digest"]:
        raise EnvironmentFailure(
            f"the job was described with another version of the recipe {spec['recipe']}",
            "Submit it again, or use the version of Rechain that it was submitted with.",
        )
    return recipe


def _known(spec: dict[str, Any], cache: str, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Return what the spec resolved to before, if its interpreter is still what it was.

    So an environment that was thrown away comes back as it was.
    """
    known = store.read_known(store.resolved(cache, spec["digest"]))
    if known is None:
        return None
    lock = known["lock"]
    if identity(lock) != lock["digest"]:
        say("note: what the cache says of this environment was changed: it is resolved again")
        return None
    before = lock["interpreter"]
    if "conda" not in lock:
        interpreter = interpreters.probe(cache, before["path"], before["from"])
        if interpreter is None or interpreter.version != before["version"]:
            return None
        if not all(map(store.holds, store.foundations(cache, {"interpreter": before}))):
            return None  # one that was downloaded, and was changed
    if "mpi" in spec:
        mpi = _mpi(spec, cache, say)
        if {**lock["mpi"], **mpi} != lock["mpi"]:
            return None
    known_lock: dict[str, Any] = lock
    return known_lock


def resolved(
    spec: dict[str, Any], cache: str, say: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Any], interpreters.Interpreter | None]:
    """Return the lock of a spec, and the interpreter that it is for; nothing is built.

    If its Python is conda's, there is no such interpreter yet.

    Args:
        spec: see `prepare`.
        cache: what `store.cache_root` returned.
        say: takes lines for people.

    Raises:
        EnvironmentFailure: there is no such environment.
    """
    if "lock" in spec:
        from rechain.environment import locks

        mpi = _mpi(spec, cache, say) if "mpi" in spec else None
        return locks.settle(spec["lock"], mpi, cache, say)
    from rechain.environment.resolve import resolve

    recipe = _recipe(spec)
    gpus = spec["gpus"] if "gpu" in spec else []
    choice = recipe
    if gpus:
        from rechain.environment import cupy

        choice = cupy.cells_for(recipe, spec, gpus)
    fitted, choice, chosen = _fitting(spec, choice)
    with workbench(cache) as folder:
        interpreter, notes, conda = _interpreter(fitted, choice, folder, cache, say)
        cell = recipe.cell(interpreter.version)
        assert cell is not None, "only what the recipe has a cell for is chosen"
        cell, said, mpi = _settled(spec, recipe, cell, gpus, cache, say)
        further: dict[str, Any] = {}
        if conda is not None:
            from rechain.environment.conda import pip

            site = packages_of(f"{folder}/prefix", {"interpreter": interpreter._asdict()})
            further["known"] = pip.installed(site)
            pip.check(spec["pip"], further["known"], interpreter.version)
            if mpi is not None and "mpi4py" in further["known"]:
                pip.check_mpi(conda["packages"])
        os.mkdir(f"{folder}/resolving")
        where = f"{folder}/resolving"
        lock = resolve(recipe, cell, interpreter, spec, mpi, folder=where, say=say, **further)
    lock["notes"] = [*chosen, *notes, *said, *lock["notes"]]
    if conda is None:
        return lock, interpreter
    lock.update(kind="conda", conda=conda)
    lock["interpreter"].update(path="bin/python", **{"from": "conda"})
    return {**lock, "digest": identity(lock)}, None


def _fitting(spec: dict[str, Any], recipe: Recipe) -> tuple[dict[str, Any], Recipe, list[str]]:
    """Return spec and recipe with the Pythons alone that an exact NumPy has wheels for, and notes.

    What the user names stays; that v1 names a Python where the user names none is no wish.
    """
    limits = filter(None, map(uv.newest_python, spec["pip"]))
    newest, named = next(limits, None), spec["python"]
    if newest is None or (named and (named not in _OF_V1 or spec["strict"])):
        return spec, recipe, []
    cells = tuple(one for one in recipe.cells if _minor(one.python) <= _minor(newest))
    if not cells or (named and _minor(named) <= _minor(newest)):
        return spec, recipe, []
    said = f"Python {named}, which v1 takes where none is named, has no such NumPy: "
    notes = [f"{said}one up to {newest} is taken"] if named else []
    return {**spec, "python": None}, recipe._replace(cells=cells), notes


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _interpreter(
    spec: dict[str, Any], recipe: Recipe, folder: str, cache: str, say: Callable[[str], None]
) -> tuple[interpreters.Interpreter, list[str], dict[str, Any] | None]:
    """Return the interpreter, notes on it, and the `conda` of the lock if it is conda's.

    That one is installed in `folder`, with the rest of conda's packages, while pip's are resolved.
    """
    asked = spec.get("conda")
    if asked is None:
        try:
            wanted = (spec["python"], recipe, cache, spec["strict"], say)
            return *interpreters.choose(*wanted), None
        except EnvironmentFailure as failure:
            from rechain.environment.conda.asked import fallback

            if spec["python"] and os.sep in spec["python"]:
                raise
            asked = fallback(os.environ)
            if asked is None:
                failure.hint += (
                    " Or name a channel of conda that has one (channels in ~/.condarc)."
                )
                raise
            say(f"{failure.message}: conda is asked for one")
    from rechain.environment.conda.install import install
    from rechain.environment.conda.solve import solve

    wanted_packages = list(asked["packages"])
    if spec["python"]:
        wanted_packages.append(f"python={spec['python']}")
    asked = {**asked, "packages": wanted_packages}
    how: dict[str, Any] = {"cache": cache, "environ": os.environ, "say": say}
    found = solve(asked, _pythons(spec, recipe), as_of=spec.get("as_of"), **how)
    lock = {"channels": asked["channels"], "requested": asked["packages"], "packages": found}
    prefix = f"{folder}/prefix"
    install(lock, prefix, prefix, **how)
    interpreter = interpreters.probe(cache, f"{prefix}/bin/python", "conda")
    if interpreter is None:
        raise EnvironmentFailure(
            "the Python of conda that was installed does not run on this machine",
            "Name another channel, or another Python in conda_packages.",
        )
    return interpreter, [], lock


def _pythons(spec: dict[str, Any], recipe: Recipe) -> list[str]:
    """Return the Pythons that will do, the first choice first; those that need patches last."""
    cells = sorted(recipe.cells, key=lambda cell: cell.patched)
    if spec["strict"]:
        cells = [cell for cell in cells if not cell.patched]
    if spec["python"]:
        cells = [cell for cell in cells if spec["python"].split(".")[:2] == cell.python.split(".")]
    return [cell.python for cell in cells]


def _settled(
    spec: dict[str, Any],
    recipe: Recipe,
    cell: Cell,
    gpus: list[dict[str, str]],
    cache: str,
    say: Callable[[str], None],
) -> tuple[Cell, list[str], dict[str, Any] | None]:
    """Return the cell with what GPUs and ranks need, notes on that, and the MPI of the ranks."""
    notes: list[str] = []
    if gpus:
        from rechain.environment import cupy

        pins, notes = cupy.pins(cell, spec, gpus)
        cell = cell._replace(pins=(*cell.pins, *pins))
    if spec["strict"] and cell.needed([*cell.pins, *spec["pip"]]):
        raise EnvironmentFailure(
            f"{recipe.title} runs on Python {cell.python} only with what Python, NumPy or CuPy "
            "have dropped since put back, which strict forbids",
            "Name an older Python, or leave out strict.",
        )
    mpi = _mpi(spec, cache, say) if "mpi" in spec else None
    if mpi is not None:
        cell = cell._replace(pins=(*cell.pins, *recipe.with_mpi, _mpi4py(cell)))
        if spec["mpi"] == {"wanted": "auto", "mpiexec": None}:
            notes.append(f"{mpi['family']} {mpi['version']} is installed: no mpiexec is on PATH")
    return cell, notes, mpi


def _mpi(spec: dict[str, Any], cache: str, say: Callable[[str], None]) -> dict[str, Any]:
    from rechain.environment.mpi import provide

    return {"wanted": spec["mpi"]["wanted"], **provide(spec["mpi"], cache, say)}


def _mpi4py(cell: Cell) -> str:
    from rechain import recipes

    versions = recipes.mpis()["mpi4py"]
    return f"mpi4py=={versions.get(cell.python, versions['newer'])}"
