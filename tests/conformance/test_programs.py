"""Programs over v1's plain objects, run with Rechain and with the real SDK: the same comes of it.

What worked there works here, and gives the same; what failed there fails here with the same
exception or with one that says what is wrong, or works. Wordings are not compared.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.conformance.differences import Answer
from tests.conformance.programs import DIFFERENT, KINDS, REFUSED
from tests.conformance.side import Side


def check(sides: tuple[Side, Side], program: str) -> str | None:
    """Return what is different, if anything is that may not be."""
    theirs, ours = (side.ask({"program": program}) for side in sides)
    if "value" in theirs and "value" in ours:
        known = any(part in program for part in DIFFERENT)
        same = alike(theirs) == alike(ours) or known
    elif "value" in theirs:
        refused = any(part in program for part in REFUSED)
        same = refused and "UserErrorException" in ours["error"]
    else:
        same = "value" in ours or failed_alike(theirs, ours)
    return None if same else f"{program}\n  {unlike(alike(theirs), alike(ours))}"


def unlike(theirs: Any, ours: Any, at: str = "") -> list[str]:
    """Return where two values differ, and how."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        pairs = [(f"{at}.{n}", theirs.get(n), ours.get(n)) for n in {**theirs, **ours}]
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        pairs = [(f"{at}[{n}]", *pair) for n, pair in enumerate(zip(theirs, ours, strict=True))]
    else:
        return [] if theirs == ours else [f"{at}: v1 {theirs!r}, here {ours!r}"]
    return [text for name, one, other in pairs for text in unlike(one, other, name)]


def failed_alike(theirs: Answer, ours: Answer) -> bool:
    clear = "AzureMLException" in ours["error"]
    return theirs["error"] == ours["error"] or clear


def alike(answer: Any) -> Any:
    """Return a value without what v1 adds to all: a variable, and its own package index."""
    if isinstance(answer, dict):
        # Only a run configuration writes v1's conda dependencies into its document.
        left_out = ("EXAMPLE_ENV_VAR", "condaDependencies")
        found = {name: alike(item) for name, item in answer.items() if name not in left_out}
        return {
            name: item for name, item in found.items() if item or name != "environmentVariables"
        }
    if isinstance(answer, list):
        of_sdk = "https://pypi."
        return [alike(item) for item in answer if not (isinstance(item, str) and of_sdk in item)]
    return answer


def report(found: list[str | None]) -> None:
    failed = [text for text in found if text]
    assert not failed, f"{len(failed)} of {len(found)}\n" + "\n".join(failed)[:20000]


@pytest.mark.engines
@pytest.mark.parametrize("kind", KINDS)
def test_each_step(sides: tuple[Side, Side], kind: str) -> None:
    # Every tenth of 1,700.
    report([check(sides, program) for program in list(KINDS[kind].one_step())[::10]])


@pytest.mark.engines
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_compared_is_something(sides: tuple[Side, Side], kind: str) -> None:
    some = list(KINDS[kind].one_step())[::10]
    assert sum("value" in sides[0].ask({"program": program}) for program in some) > len(some) / 3


@pytest.mark.matrix
@pytest.mark.parametrize("kind", KINDS)
def test_every_step(sides: tuple[Side, Side], kind: str) -> None:
    report([check(sides, program) for program in KINDS[kind].one_step()])


@pytest.mark.matrix
@pytest.mark.parametrize("kind", KINDS)
def test_several_steps(sides: tuple[Side, Side], kind: str) -> None:
    chance = random.Random(20)
    report([check(sides, KINDS[kind].several_steps(chance)) for _ in range(1000)])
