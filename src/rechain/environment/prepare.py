"""Make the environment of a job ready: resolve, lock, build."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rechain.environment import gpu, interpreters, store
from rechain.environment.build import alone, build, folder_of, workbench
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.resolve import identity
from rechain.exceptions import UserErrorException
from rechain.record import jsonl

if TYPE_CHECKING:
    from rechain.recipes import Cell, Recipe

__all__ = ["EnvironmentFailure", "build", "cache_usable", "prepare", "resolved"]


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
    lock, interpreter = _known(spec, cache, say) or resolved(spec, cache, say)
    for note in lock["notes"]:
        say(f"note: {note}")
    build(lock, cache, say, spec.get("wheelhouse"))
    document = {
        "schema": 1,
        "environment": folder_of(lock),
        "base": interpreter.stat,
        "lock": lock,
    }
    jsonl.write_atomic(store.resolved(cache, spec["digest"]), document)
    say(f"ready in {time.monotonic() - started:.1f} s")


def _recipe(spec: dict[str, Any]) -> Recipe:
    from rechain.environment import era
    from rechain.environment.spec import venv_spec

    try:
        asked = (spec["recipe"], spec["python"], spec["pip"], spec["strict"])
        further: dict[str, Any] = {name: spec.get(name) for name in ("mpi", "gpu", "as_of")}
        same = venv_spec(*asked, **further, constraints=spec.get("constraints", ()))
        recipe = era.recipe_of(spec)
    except UserErrorException as error:
        raise EnvironmentFailure(error.message, "Submit the run again.") from error
    if "gpu" in spec:
        same = gpu.settled(same, spec["gpus"])
    if same["digest"] != spec["digest"]:
        raise EnvironmentFailure(
            f"the job was described with another version of the recipe {spec['recipe']}",
            "Submit it again, or use the version of Rechain that it was submitted with.",
        )
    return recipe


def _known(
    spec: dict[str, Any], cache: str, say: Callable[[str], None]
) -> tuple[dict[str, Any], interpreters.Interpreter] | None:
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
    interpreter = interpreters.probe(cache, before["path"], before["from"])
    if interpreter is None or interpreter.version != before["version"]:
        return None
    if "mpi" in spec:
        mpi = _mpi(spec, cache, say)
        if {**lock["mpi"], **mpi} != lock["mpi"]:
            return None
    return lock, interpreter


def resolved(
    spec: dict[str, Any], cache: str, say: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Any], interpreters.Interpreter]:
    """Return the lock of a spec, and the interpreter that it is for; nothing is built.

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
    interpreter, notes = interpreters.choose(spec["python"], choice, cache, spec["strict"], say)
    cell = recipe.cell(interpreter.version)
    assert cell is not None, "choose() returns only what the recipe has a cell for"
    if gpus:
        pins, said = cupy.pins(cell, spec, gpus)
        cell = cell._replace(pins=(*cell.pins, *pins))
        notes += said
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
    with workbench(cache) as folder:
        lock = resolve(recipe, cell, interpreter, spec, mpi, folder=folder, say=say)
    lock["notes"] = [*notes, *lock["notes"]]
    return lock, interpreter


def _mpi(spec: dict[str, Any], cache: str, say: Callable[[str], None]) -> dict[str, Any]:
    from rechain.environment.mpi import provide

    return {"wanted": spec["mpi"]["wanted"], **provide(spec["mpi"], cache, say)}


def _mpi4py(cell: Cell) -> str:
    from rechain import recipes

    versions = recipes.mpis()["mpi4py"]
    return f"mpi4py=={versions.get(cell.python, versions['newer'])}"
