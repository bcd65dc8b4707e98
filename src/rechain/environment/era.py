"""Eras: an environment as it would have been made on a day of the past."""

from __future__ import annotations

import datetime
import re

from rechain import recipes
from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.recipes import Cell, Recipe

__all__ = ["day", "moment", "recipe_of"]

# When each Python came out (its PEP's release schedule).
_RELEASED = {
    "3.6": "2016-12-23",
    "3.7": "2018-06-27",
    "3.8": "2019-10-14",
    "3.9": "2020-10-05",
    "3.10": "2021-10-04",
    "3.11": "2022-10-24",
    "3.12": "2023-10-02",
    "3.13": "2024-10-07",
}
# From this year on setuptools has no pkg_resources, which many a setup.py of before imports; and
# from that year on it takes the place of distutils, whose parts an older NumPy looks for.
_NO_PKG_RESOURCES, _NO_DISTUTILS = "2026", "2022"
_LAST_WITH_SETUPTOOLS = (3, 11)  # the last Python whose new environments had it from the start

# Packages follow a new Python with wheels within about this time.
_SETTLED = datetime.timedelta(days=365)


def moment(as_of: object) -> str:
    """Return the moment as of which packages resolve.

    Args:
        as_of: a date (its end, in UTC), or a moment with its time zone; as text in ISO 8601.

    Returns:
        The moment in RFC 3339, UTC, to the second: `2018-12-31T23:59:59Z`.

    Raises:
        UserErrorException: it is neither, or not over yet.
    """
    given = as_of
    try:
        if isinstance(given, str):
            text = given.strip()
            if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
                given = datetime.date.fromisoformat(text)
            else:
                given = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
        if isinstance(given, datetime.datetime):
            if given.tzinfo is None:
                raise UserErrorException(
                    f"as_of is {as_of!r}, a time without a time zone; write {given:%Y-%m-%d} for "
                    f"the whole day, or {given:%Y-%m-%dT%H:%M:%S}Z"
                )
            found = given.astimezone(datetime.timezone.utc)
        elif isinstance(given, datetime.date):
            end = datetime.time(23, 59, 59, tzinfo=datetime.timezone.utc)
            found = datetime.datetime.combine(given, end)
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise UserErrorException(
            f"as_of is {as_of!r}; it must be a date such as 2018-12-31"
        ) from None
    if found.date() > datetime.datetime.now(datetime.timezone.utc).date():
        raise UserErrorException(
            f"as_of is {as_of!r}, a day to come: what there will be then cannot be resolved"
        )
    return f"{found:%Y-%m-%dT%H:%M:%S}Z"


def day(moment: str) -> str:
    """Return the day of a moment, for people."""
    return moment[:10]


def recipe_of(spec: dict[str, Any]) -> Recipe:
    """Return the recipe that a spec names, as of the spec's date if it has one.

    Raises:
        UserErrorException: there is no such recipe.
    """
    recipe = recipes.load(spec["recipe"])
    as_of = spec.get("as_of")
    if as_of is None:
        return recipe
    change = _plain_as_of if recipe.name == recipes.PLAIN else _as_of
    cells = [change(cell, recipe, as_of) for cell in recipe.cells]
    # The Pythons that people had then come first; of these, the recipe's order holds.
    cells.sort(key=lambda cell: not _had(cell.python, as_of))
    builds = recipe.build_constraints
    if recipe.name == recipes.PLAIN and as_of < _NO_PKG_RESOURCES:
        builds = (*builds, "setuptools<81")
    return recipe._replace(cells=tuple(cells), build_constraints=builds)


def _as_of(cell: Cell, recipe: Recipe, as_of: str) -> Cell:
    """Return a cell as of a date: its pins hold where they are not of a later one."""
    if cell.as_of is None or cell.as_of <= as_of:
        return cell._replace(as_of=as_of)
    pins = tuple(
        pin if pin.partition("==")[0] == recipe.framework else pin.partition("==")[0]
        for pin in cell.pins
    )
    note = (
        f"as of {day(as_of)}: the recipe's versions, of {day(cell.as_of)}, give way to those of "
        "that day"
    )
    return cell._replace(as_of=as_of, pins=pins, notes=(*cell.notes, note))


def _plain_as_of(cell: Cell, recipe: Recipe, as_of: str) -> Cell:
    """Return a cell of no framework as of a date, with what every environment then had."""
    if tuple(map(int, cell.python.split("."))) > _LAST_WITH_SETUPTOOLS:
        return cell._replace(as_of=as_of)
    limit = "setuptools<60" if as_of < _NO_DISTUTILS else "setuptools<81"
    return cell._replace(
        as_of=as_of,
        pins=(*cell.pins, "setuptools"),
        constraints=(*cell.constraints, limit),
    )


def _had(python: str, as_of: str) -> bool:
    released = _RELEASED.get(python)
    if released is None:
        return False
    return datetime.date.fromisoformat(released) + _SETTLED <= datetime.date.fromisoformat(
        day(as_of)
    )
