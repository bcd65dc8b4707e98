"""Classes of Rechain and of the real SDK: the same members, called alike, with the same bases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dropin.test_dropin import NAMES
from tests.dropin.test_members import LEFT_OUT, MEMBERS

pytestmark = pytest.mark.engines

SCRIPT = Path(__file__).with_name("members.py")
ERRORS = [
    *(f"azureml.exceptions.{name}" for name in NAMES["azureml.exceptions"]),
    *(
        f"azureml.train.hyperdrive.exceptions.{name}"
        for name in NAMES["azureml.train.hyperdrive.exceptions"]
    ),
]
# Whose bases scripts may ask for; others have bases of the SDK's own making.
WITH_BASES = [path for path in MEMBERS if path.startswith("azureml.train")] + ERRORS

# Where a call differs on purpose: the member (or the whole class), and why.
CALLED_OTHERWISE: dict[str, dict[str, str]] = {
    "azureml.core.Experiment": {"start_logging": "v1 has *args and **kwargs; here they are named"},
    "azureml.core.ComputeTarget": {"wait_for_completion": "has those of AmlCompute too"},
    "azureml.core.Dataset": {"*": "datasets are of files; none is made with Dataset(...)"},
    "azureml.train.estimator.MMLBaseEstimator": {"__init__": "abstract in v1 too"},
}  # fmt: skip
BASES_OTHERWISE = {
    "azureml.exceptions.ServiceException": "v1's bases are those of its HTTP client",
}


def described(python: str) -> dict[str, Any]:
    said = subprocess.run(
        [python, str(SCRIPT), *MEMBERS, *ERRORS], capture_output=True, text=True, cwd="/",
        env={name: os.environ[name] for name in ("PATH", "HOME")},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.fixture(scope="module")
def both(v1: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What v1's classes have and what Rechain's have, by class."""
    return described(v1), described(sys.executable)


@pytest.mark.parametrize("path", MEMBERS)
def test_the_list_of_members_is_v1s(both, path: str) -> None:
    assert sorted(both[0][path]["members"]) == MEMBERS[path]


@pytest.mark.parametrize("path", WITH_BASES)
def test_bases(both, path: str) -> None:
    of_v1, ours = (side[path]["bases"] for side in both)
    assert (ours == of_v1) == (path not in BASES_OTHERWISE), (ours, of_v1)


@pytest.mark.parametrize("path", MEMBERS)
def test_calls(both, path: str) -> None:
    """Whatever v1 is called with, Rechain can be called with; its defaults are the same."""
    of_v1, ours = (side[path] for side in both)
    left_out = {name for names in LEFT_OUT.get(path, {}) for name in names.split()}
    otherwise = set(CALLED_OTHERWISE.get(path, {}))
    found = set()
    for name, theirs in {"__init__": of_v1["constructor"], **of_v1["members"]}.items():
        mine = ours["constructor"] if name == "__init__" else ours["members"].get(name)
        if theirs is None or name in left_out or fits(theirs, mine):
            continue
        found.add(name)
    assert found == otherwise or "*" in otherwise


def fits(theirs: list[list[str]], mine: list[list[str]] | None) -> bool:
    """Return whether what is called like the one can be called like the other."""
    if mine is None:
        return False
    if {kind for _, kind, _ in mine} >= {"*", "**"}:  # refuses whatever it is called with
        return True
    needed = [one for one in theirs if one[1] not in ("*", "**")]
    takes_all = any(kind == "**" for _, kind, _ in mine)
    if any(kind == "**" for _, kind, _ in theirs) and not takes_all:
        return False
    # Parameters that v1 has not come last, or by name.
    return [one for one in mine if one[1] not in ("*", "**")][: len(needed)] == needed
