"""The same calls by the real SDK of v1 and by Rechain: attributes, documents, files, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.matrix

CASES = Path(__file__).with_name("cases.py")
NAMES = [
    line.split("(")[0].removeprefix("def ")
    for before, line in zip(
        CASES.read_text().splitlines(), CASES.read_text().splitlines()[1:], strict=False
    )
    if before == "@case"
]


def results(python: str, which: str) -> dict[str, object]:
    environ = {name: os.environ[name] for name in ("PATH", "HOME")}
    said = subprocess.run(
        [python, str(CASES), which], capture_output=True, text=True, env=environ, cwd="/"
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def both(v1: str) -> tuple[dict[str, object], dict[str, object]]:
    """What v1 gives and what Rechain gives, by case."""
    return results(v1, "v1"), results(sys.executable, "rechain")


def readable(value: object) -> object:
    """Return a result with its files read, without what Rechain deliberately leaves out."""
    from ruamel.yaml import YAML

    if isinstance(value, list):
        return [readable(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"yaml"}:
        return readable(YAML(typ="safe").load(value["yaml"]))
    # v1 sends a variable that its authors forgot to every job.
    return {key: readable(item) for key, item in value.items() if key != "EXAMPLE_ENV_VAR"}


def keys(value: object) -> object:
    """Return the keys of a result in their order."""
    if isinstance(value, list):
        return [keys(item) for item in value]
    return {key: keys(item) for key, item in value.items()} if isinstance(value, dict) else None


@pytest.mark.parametrize("name", NAMES)
def test_the_same_as_v1(both, name) -> None:
    of_v1, ours = (readable(side[name]) for side in both)
    assert ours == of_v1
    assert json.dumps(keys(ours)) == json.dumps(keys(of_v1))
