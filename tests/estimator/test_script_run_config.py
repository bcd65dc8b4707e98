"""`ScriptRunConfig`: what it takes, what it refuses. What it becomes, tests/runconfig compares."""

from __future__ import annotations

import pytest

from rechain.data import DataPath
from rechain.estimator import ScriptRunConfig
from rechain.exceptions import RunConfigurationException, UserErrorException
from rechain.runconfig import Environment, MpiConfiguration, RunConfiguration
from rechain.workspace import Workspace

pytestmark = pytest.mark.fast


def test_it_has_a_run_configuration_of_its_own() -> None:
    config = ScriptRunConfig(".", "a.py", ("x", 1), compute_target="cpu")
    assert (config.script, config.arguments, config.run_config.target) == ("a.py", ["x", 1], "cpu")
    assert config.run_config.max_run_duration_seconds == 30 * 24 * 60 * 60
    assert repr(config) == (
        "ScriptRunConfig('.', script='a.py', arguments=['x', 1], compute_target='cpu')"
    )


def test_mpi_says_how_many_nodes() -> None:
    run = ScriptRunConfig(".", "a.py", distributed_job_config=MpiConfiguration(3, 2)).run_config
    assert (run.communicator, run.node_count, run.mpi.process_count_per_node) == ("IntelMpi", 2, 3)


def test_a_given_run_configuration_is_used_as_it_is(caplog) -> None:
    run = RunConfiguration("b.py", ["z"])
    config = ScriptRunConfig(
        ".", "a.py", run_config=run, compute_target="cpu", environment=Environment("e")
    )
    assert config.run_config is run
    assert (config.script, config.arguments, run.target) == ("a.py", ["z"], "local")
    assert "run_config is given, so compute_target, environment has no effect" in caplog.text
    assert "script is taken as given" in caplog.text


def test_resuming_changes_no_list_of_the_caller(home) -> None:
    given = ["--x"]
    path = DataPath(Workspace.local().get_default_datastore(), "old")
    config = ScriptRunConfig(".", "a.py", given, resume_from=path)
    assert config.arguments == ["--x", "--resume-from", "$AZUREML_DATAREFERENCE_MODEL_LOCATION"]
    assert config.run_config.data_references["MODEL_LOCATION"].path_on_data_store == "old"
    assert given == ["--x"]


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"distributed_job_config": "mpi"}, RunConfigurationException, "MpiConfiguration"),
        ({"docker_runtime_config": True}, RunConfigurationException, "DockerConfiguration"),
        ({"compute_target": 3}, UserErrorException, "compute_target is 3"),
        ({"arguments": "x y"}, UserErrorException, "arguments is 'x y', a str"),
        ({"arguments": {"--x": 1}}, UserErrorException, "must be a list"),
        ({"environment": "e"}, UserErrorException, "must be an Environment"),
        ({"run_config": "x"}, UserErrorException, "must be a RunConfiguration"),
        ({"max_run_duration_seconds": "x"}, UserErrorException, "must be a number"),
        ({"resume_from": 3}, UserErrorException, "must be a DataPath"),
        ({"command": "python a.py"}, UserErrorException, "both say what to run"),
    ],
)
def test_what_is_refused(parameters, error, words) -> None:
    with pytest.raises(error, match=words):
        ScriptRunConfig(".", "a.py", **parameters)
