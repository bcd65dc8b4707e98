"""Estimators of Rechain and of the real SDK, called alike: the same run configuration or error.

What may differ is in `differences.py`. The SDK runs on a Python 3.9 of its own, the drop-in on
Rechain's; both answer to `worker.py`.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings

from tests.conformance.calls import VALUES, Call, afterwards, calls, singles
from tests.conformance.differences import DIFFERENCES, alike, expected, warned
from tests.conformance.side import Side


def check(sides: tuple[Side, Side], call: Call) -> list[str]:
    real, ours = sides
    wanted, names, same_call = expected(call, real.ask)
    got = ours.ask(call)
    if "crash" in wanted:  # v1 stumbles: Rechain says what is wrong
        assert "error" in got, (call, wanted, got)
        return [*names, "crash"]
    assert alike(got) == alike(wanted), (call, names, got.get("message"), wanted.get("message"))
    if same_call and "run_config" in got:
        assert warned(got, call, ours=True) == warned(wanted, call), (call, got["warnings"])
    if "message" in got:
        assert any(name in got["message"] for name in VALUES), got["message"]
    return names


@pytest.mark.engines
@pytest.mark.parametrize("kind", ["Chainer", "Estimator"])
def test_each_parameter_alone(sides: tuple[Side, Side], kind: str) -> None:
    """And with the other target, since v1's rules for images go by it; then each change after."""
    failed = {}
    seen: set[str] = set()
    for call in (*singles(kind), *afterwards(kind)):
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
