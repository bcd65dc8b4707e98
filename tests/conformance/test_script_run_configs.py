"""`ScriptRunConfig` of Rechain and of the real SDK, called alike: the same attributes or error."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.conformance.calls import POOL, Call, obj
from tests.conformance.differences import Answer, alike
from tests.conformance.side import Side

pytestmark = pytest.mark.engines

START: Call = {"class": "ScriptRunConfig", "source_directory": "."}
VALUES: dict[str, list[Any]] = {
    "source_directory": ["sub", ""],
    "script": ["train.py", None, ""],
    "arguments": [[], None, ["--a", 1, 1.5, None, "", "a b"], ["--t", True]],
    "run_config": [
        None, obj("RunConfiguration"),
        obj("RunConfiguration", script="theirs.py", arguments=["--x", 1]),
        obj("RunConfiguration", script="theirs.py", communicator="IntelMpi", framework="PySpark"),
        obj("RunConfiguration", command="theirs"),
    ],
    "compute_target": [None, "local", "cluster", "", POOL],
    "environment": [
        None, obj("Environment"), obj("Environment", user_managed=True),
        obj("Environment", docker=True, image="theirs:1", variables={"B": "2"}),
    ],
    "distributed_job_config": [
        None, obj("MpiConfiguration"),
        obj("MpiConfiguration", process_count_per_node=3, node_count=2),
        obj("PyTorchConfiguration", communication_backend="Gloo", process_count=4, node_count=2),
        obj("PyTorchConfiguration", process_count=2),
        obj("TensorflowConfiguration", worker_count=2, parameter_server_count=1),
    ],
    "resume_from": [None, obj("DataPath", path="old/run")],
    "max_run_duration_seconds": [60, None, 2592000],
    "command": [None, "python a.py", ["python", "a.py", 1], ""],
    "docker_runtime_config": [
        None, obj("DockerConfiguration"),
        obj("DockerConfiguration", use_docker=True, arguments=["-x"], shm_size="8g",
            shared_volumes=False),
    ],
}  # fmt: skip
# What v1 refuses, each with its class.
WRONG: list[Call] = [
    {"distributed_job_config": "mpi"},
    {"distributed_job_config": obj("ParallelTaskConfiguration")},
    {"distributed_job_config": obj("Mpi")}, {"docker_runtime_config": "docker"},
    {"resume_from": 5}, {"run_config": None, "resume_from": 5},
]  # fmt: skip


def different(call: Call) -> str | None:
    """Return why Rechain refuses what v1 takes; None if it does not."""
    if call.get("script") and call.get("command"):
        return "script and command say what to run twice"
    return None


def spoken(answer: Answer) -> list[list[str]]:
    """Return the warnings of an answer: by which logger, how loud."""
    return sorted([logger, level] for logger, level, _ in answer["warnings"])


def calls() -> list[Call]:
    """Return each value alone, and each with each of another parameter."""
    found = [{**START, name: value} for name, values in VALUES.items() for value in values]
    for (one, some), (two, others) in itertools.combinations(VALUES.items(), 2):
        found += [{**START, one: value, two: other} for value in some[1:] for other in others[1:]]
    return found


def test_script_run_configs(sides: tuple[Side, Side]) -> None:
    real, ours = sides
    failed = {}
    for call in [*calls(), *({**START, **wrong} for wrong in WRONG)]:
        wanted, got = real.ask(call), ours.ask(call)
        if different(call) or "crash" in wanted:
            same = got.get("error") == "UserErrorException"
        else:
            if call.get("resume_from") and call.get("run_config"):
                # v1 appends to the arguments of the caller's run configuration.
                wanted["run_config"]["arguments"] = got["run_config"]["arguments"]
            same = alike(got) == alike(wanted)
            if "run_config" in got:
                same = same and spoken(got) == spoken(wanted)
        if not same:
            failed[json.dumps(call)] = (got, wanted)
    assert not failed, "\n\n".join(f"{call}\n{both}" for call, both in failed.items())[:20000]
