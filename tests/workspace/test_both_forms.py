"""An estimator and its `to_script_run_config()` are one run: their records are the same."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rechain import Chainer, Environment, Estimator, Experiment, Mpi, Run, Workspace
from rechain.estimator import MMLBaseEstimator
from rechain.estimator.compiling import compile
from rechain.record import jsonl
from tests.workspace.conftest import Submitter

SCRIPT = """
import os, sys
from azureml.core import Run

run = Run.get_context()
run.log("rank", int(os.environ.get("RECHAIN_RANK", 0)))
run.log_list("arguments", sys.argv[1:])
run.tag("COLOR", os.environ["COLOR"])
"""


def record(run: Run) -> dict[str, Any]:
    """Return what a run's folder says, without what differs between two runs of one job.

    That is ids and times, and what described it: the estimator's class and its own parameters.
    """
    run.wait_for_completion()
    job = jsonl.read(run._paths.job)
    for key in ("run_id", "submitted", "estimator"):
        del job[key]
    lock = Path(run.folder, "lock.json")
    journal = Path(run.folder, "attempts/1/journal.jsonl").read_text()
    events = [json.loads(line) for line in journal.splitlines()]
    return {
        "job": json.loads(json.dumps(job).replace(run.id, "ID")),
        "lock": jsonl.read(lock) if lock.exists() else None,
        "metrics": run.get_metrics(),
        "tags": run.tags,
        "end": [(event["cause"], event["exit_code"]) for event in events if "cause" in event],
        # The first of them builds the environment, and has a log of that.
        "files": [name for name in run.get_file_names() if "image_build" not in name],
    }


def same(estimator: MMLBaseEstimator) -> dict[str, Any]:
    experiment = Experiment(Workspace.local(), "digits")
    first = record(experiment.submit(estimator, tags={"a": "b"}))
    second = record(experiment.submit(estimator.to_script_run_config(), tags={"a": "b"}))
    assert first == second
    assert first["end"] == [("completed", 0)]
    return first


@pytest.mark.fast
@pytest.mark.parametrize("use_docker", [True, False])
def test_with_a_python_of_the_users(submit: Submitter, use_docker: bool) -> None:
    found = same(
        submit.estimator(
            SCRIPT,
            script_params={"--epochs": 3, "--flag": "", "--sizes": [1, 2.5], "": "last"},
            environment_variables={"COLOR": "red", "MY_TOKEN": "hunter2"},
            max_run_duration_seconds=60,
            use_docker=use_docker,
        )
    )
    assert found["metrics"]["arguments"] == ["--epochs", "3", "--flag", "--sizes", "1", "2.5",
                                             "last"]  # fmt: skip
    assert found["tags"] == {"a": "b", "COLOR": "red"}
    assert found["job"]["secrets"] == ["MY_TOKEN"]


@pytest.mark.fast
def test_with_data_and_a_changed_run_configuration(submit: Submitter, home: Path) -> None:
    store = Workspace.local().get_default_datastore()
    for name in ("mnist", "more"):
        os.makedirs(store.path(name).local_path)
    estimator = submit.estimator(
        SCRIPT,
        script_params={"--data": store.path("mnist", "mnist").as_mount()},
        inputs=[store.path("more", "more")],
        source_directory_data_store=store,
        environment_variables={"COLOR": "red"},
    )
    estimator.run_config.environment_variables["COLOR"] = "blue"
    found = same(estimator)
    assert found["tags"]["COLOR"] == "blue"
    assert {"AZUREML_DATAREFERENCE_mnist", "AZUREML_DATAREFERENCE_more"} < set(
        found["job"]["variables"]
    )
    estimator.run_config.arguments += ["--more", 1]
    assert same(estimator)["metrics"]["arguments"][-2:] == ["--more", "1"]


@pytest.mark.engines
@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Chainer, {"framework_version": "7.0.0", "pip_packages": ["tqdm"]}),
        (Estimator, {"pip_packages": ["tqdm", "azureml-defaults"]}),
        (Estimator, {}),
    ],
    ids=["Chainer", "Estimator", "Estimator of nothing"],
)
def test_with_an_environment_that_is_made(
    submit: Submitter, environments: Path, kind: type, given: dict[str, Any]
) -> None:
    submit.estimator(SCRIPT)
    estimator = kind(
        submit.source, entry_script="train.py", compute_target="local",
        environment_variables={"COLOR": "red"}, **given,
    )  # fmt: skip
    found = same(estimator)
    names = [package["name"] for package in found["lock"]["packages"]]
    assert ("tqdm" in names) == bool(given)
    assert ("chainer" in names) == (kind is Chainer)


@pytest.mark.engines
def test_with_ranks(submit: Submitter) -> None:
    estimator = submit.estimator(
        SCRIPT, distributed_training=Mpi(2), environment_variables={"COLOR": "red"}
    )
    found = same(estimator)
    assert found["job"]["distribution"]["processes_per_node"] == 2
    assert found["job"]["distribution"]["communicator"] == "Mpi"


@pytest.mark.fast
def test_with_an_environment_of_the_users(submit: Submitter) -> None:
    environment = Environment("mine")
    environment.python.user_managed_dependencies = True
    environment.environment_variables = {"COLOR": "red"}
    same(submit.estimator(SCRIPT, user_managed=False, use_docker=True,
                          environment_definition=environment))  # fmt: skip


@pytest.mark.fast
def test_packages_of_conda_are_the_same_in_the_other_form(submit: Submitter) -> None:
    given = {"conda_packages": ["python=3.6", "scipy>=1"], "framework_version": "7.0.0"}
    estimator = submit.estimator(SCRIPT, user_managed=False, **given)
    first, second = (
        compile(config, experiment="e").environment
        for config in (estimator, estimator.to_script_run_config())
    )
    assert first == second
    assert first["kind"] == "conda"
    assert first["conda"]["packages"] == ["python=3.6", "scipy>=1"]
