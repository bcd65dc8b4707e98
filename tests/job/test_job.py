"""The job's document is complete, immutable, and without secrets."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path

import pytest

from rechain.exceptions import RunConfigurationException
from rechain.job.job import Job

pytestmark = pytest.mark.fast


@pytest.fixture
def job() -> Job:
    return Job(
        experiment="mnist",
        command=["train.py", "--epoch", "3"],
        source={"directory": "/src", "snapshot": None},
        secret_values={"TOKEN": "hunter2"},
    )


def test_round_trip(job: Job) -> None:
    document = json.loads(json.dumps(job.to_json()))
    assert document["schema"] == 1
    again = Job.from_json(document)
    assert again.to_json() == document
    assert again.secrets == ["TOKEN"]
    assert again.secret_values == {}


def test_the_fields_are_those_of_the_page(job: Job) -> None:
    page = Path(__file__, "../../../docs/run-folder.md").resolve().read_text()
    block = page.split("### job.json")[1].split("```")[1]
    block = re.sub(r"\[.*?\]|script\"|child\"|interactive\"", "", block.strip()[1:-1])
    while "{" in block:  # what is within a field is no field
        block = re.sub(r"{[^{}]*}", "", block)
    assert set(re.findall(r'"(\w+)"', block)) - {"local"} == job.to_json().keys()


def test_secrets_are_in_memory_only(job: Job) -> None:
    assert "hunter2" not in repr(job)
    assert "hunter2" not in json.dumps(job.to_json())
    with pytest.raises(TypeError):
        pickle.dumps(job)
    assert job.replace(run_id="x").secret_values == {"TOKEN": "hunter2"}


def test_immutable(job: Job) -> None:
    with pytest.raises(AttributeError):
        job.run_id = "x"
    with pytest.raises(AttributeError):
        del job.secret_values
    before = copy.deepcopy(job.to_json())
    job.command.append("more")
    job.limits["seconds"] = 1
    job.to_json()["command"].append("more")
    assert job.to_json() == before


def test_replace(job: Job) -> None:
    other = job.replace(run_id="mnist_1_00000000")
    assert (job.run_id, other.run_id) == (None, "mnist_1_00000000")
    assert other.command == job.command
    assert other != job
    assert other.replace(run_id=None) == job


def test_unknown_fields(job: Job) -> None:
    with pytest.raises(TypeError, match="no field colour"):
        Job(colour="red")
    with pytest.raises(AttributeError):
        job.colour  # noqa: B018
    assert Job.from_json({**job.to_json(), "colour": "red"}).command == job.command


def test_another_schema(job: Job) -> None:
    with pytest.raises(RunConfigurationException, match="newer Rechain: its schema is 2"):
        Job.from_json({**job.to_json(), "schema": 2})


@pytest.mark.parametrize("document", [{}, [], {"schema": 1}, {"schema": "1", "command": []}])
def test_not_a_job(document: dict[str, object]) -> None:
    with pytest.raises(RunConfigurationException, match="not a job"):
        Job.from_json(document)


def test_missing_fields_have_defaults() -> None:
    job = Job.from_json({"schema": 1, "command": ["a.py"]})
    assert job.limits == {"seconds": None, "grace_seconds": 10, "stall_seconds": None}
    assert job.kind == "script"
