"""Which CuPy drives the GPUs of a machine."""

from __future__ import annotations

from typing import Any

from packaging.requirements import Requirement

from rechain import recipes
from rechain.environment.errors import EnvironmentFailure
from rechain.recipes import Cell, Recipe

__all__ = ["cells_for", "newest", "pins"]


def newest(cell: Cell, gpus: list[dict[str, str]]) -> str | None:
    """Return the requirement of the newest CuPy that a cell has for all of some GPUs.

    Args:
        cell: the cell; it names the newest first.
        gpus: what `gpu.look` returned.
    """
    needs = recipes.cuda()
    for text in cell.cupy:
        need = needs[Requirement(text).name]
        if all(_drives(need, gpu) for gpu in gpus):
            return text
    return None


def cells_for(recipe: Recipe, spec: dict[str, Any], gpus: list[dict[str, str]]) -> Recipe:
    """Return a recipe with those of its cells that have a CuPy for some GPUs.

    Args:
        recipe: the recipe.
        spec: what `gpu.settled` returned. A Python that it names stands, and so does a CuPy.
        gpus: what `gpu.look` returned.

    Raises:
        EnvironmentFailure: there is no such cell, and the spec requires a GPU.
    """
    if spec["python"] is not None or _is_left_alone(spec):
        return recipe
    cells = tuple(cell for cell in recipe.cells if newest(cell, gpus))
    if cells:
        return recipe._replace(cells=cells)
    if spec["gpu"]["wanted"] == "optional":
        return recipe
    raise _none(recipe.cells, gpus, recipe.title)


def pins(
    cell: Cell, spec: dict[str, Any], gpus: list[dict[str, str]]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the CuPy to install beside a cell's pins, and what the user should know of it.

    Args:
        cell: the cell.
        spec: what `gpu.settled` returned.
        gpus: what `gpu.look` returned.

    Raises:
        EnvironmentFailure: there is none for these GPUs, and the spec requires one.
    """
    if _is_left_alone(spec):
        return (), []
    found = newest(cell, gpus)
    if found is not None:
        return (found,), []
    failure = _none((cell,), gpus, f"{spec['recipe'].replace('-', ' ')} on Python {cell.python}")
    if spec["gpu"]["wanted"] == "required":
        raise failure
    return (), [f"no GPU is used: {failure.message}; the script runs without one (gpu = optional)"]


def _is_left_alone(spec: dict[str, Any]) -> bool:
    """Return whether no CuPy is added: one is asked for, or there is no framework to use it."""
    if spec["recipe"] == recipes.PLAIN:
        return True
    names = [Requirement(text).name for text in spec["pip"]]
    return any(name == "cupy" or name.startswith("cupy-") for name in names)


def _none(cells: tuple[Cell, ...], gpus: list[dict[str, str]], what: str) -> EnvironmentFailure:
    asked = sorted({Requirement(text).name for cell in cells for text in cell.cupy})
    needs = recipes.cuda()
    detail = [
        f"{name}: driver {needs[name]['driver']} or newer, compute capability "
        f"{' to '.join(needs[name]['capability'])}"
        for name in asked
    ]
    kinds = sorted({_words(gpu) for gpu in gpus})
    return EnvironmentFailure(
        f"no CuPy for {what} drives {' and '.join(kinds)}",
        "Take a newer Chainer or Python, require a CuPy of yours with pip_packages, update the "
        "driver, or let it run without a GPU: RECHAIN_GPU=optional (--gpu optional).",
        "\n".join(detail),
        cause="no_gpu",
    )


def _words(gpu: dict[str, str]) -> str:
    name = gpu["name"] or gpu["uuid"]
    known = (("driver", gpu["driver"]), ("compute capability", gpu["capability"]))
    said = ", ".join(f"{what} {value}" for what, value in known if value)
    return f"{name} ({said})" if said else name


def _drives(need: dict[str, Any], gpu: dict[str, str]) -> bool:
    low, high = need["capability"]
    driver = _numbers(gpu["driver"]) >= _numbers(need["driver"])
    # An nvidia-smi that does not tell the capability is older than the GPUs that need care.
    fits = not gpu["capability"] or _numbers(low) <= _numbers(gpu["capability"]) <= _numbers(high)
    return driver and fits


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]
