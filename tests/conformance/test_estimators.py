"""Estimators of Rechain and of the real SDK, called alike: the same run configuration or error.

What may differ is in `differences.py`. The SDK runs on a Python 3.9 of its own, the drop-in on
Rechain's; both answer to `worker.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.conformance.calls import FILES, Call, calls, singles
from tests.conformance.differences import DIFFERENCES, Answer, alike, expected, warned

WORKER = Path(__file__).with_name("worker.py")


class Side:
    """A process that makes estimators."""

    def __init__(self, python: str, which: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [python, str(WORKER), which],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
            env={name: os.environ[name] for name in ("PATH", "HOME")},
        )  # fmt: skip

    def ask(self, call: Call) -> Answer:
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the process is gone: {call}"
        return json.loads(line)

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope="module")
def sides(v1: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "sub").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
        if name.startswith(("req", "comm", "env")):
            (folder / "sub" / name).write_text(text) if name != "env.yml" else None
    both = Side(v1, "v1", folder), Side(sys.executable, "dropin", folder)
    yield both
    for side in both:
        side.end()


def check(sides: tuple[Side, Side], call: Call) -> list[str]:
    real, ours = sides
    wanted, names, same_call = expected(call, real.ask)
    got = ours.ask(call)
    if "crash" in wanted:  # v1 stumbles: Rechain says what is wrong
        assert "error" in got, (call, wanted, got)
        return [*names, "crash"]
    assert alike(got) == alike(wanted), (call, names, got.get("message"), wanted.get("message"))
    if same_call:
        assert warned(got, call, ours=True) == warned(wanted, call), (call, got["warnings"])
    if "message" in got:
        assert any(name in got["message"] for name in (*call, "vm_size")), got["message"]
    return names


@pytest.mark.engines
@pytest.mark.parametrize("kind", ["Chainer", "Estimator"])
def test_each_parameter_alone(sides: tuple[Side, Side], kind: str) -> None:
    """And with the other target, since v1's rules for images go by it."""
    failed = {}
    seen: set[str] = set()
    for call in singles(kind):
        try:
            seen.update(check(sides, call))
        except AssertionError as error:
            failed[json.dumps(call)] = str(error)[:2000]
    assert not failed, "\n\n".join(f"{call}\n{text}" for call, text in failed.items())
    if kind == "Estimator":
        return
    alone = {difference.name for difference in DIFFERENCES if "together" not in difference.name}
    assert alone - seen <= {"a cluster's name for several nodes"}, "differences that are none"


@pytest.mark.matrix
@settings(
    max_examples=3000, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(call=calls())
def test_parameters_together(sides: tuple[Side, Side], call: Call) -> None:
    check(sides, call)
