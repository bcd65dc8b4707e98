"""What v1's `Run`, `Experiment` and `Workspace` have beyond submitting and waiting."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from rechain import Environment, Estimator, Experiment, Run, Workspace
from rechain.exceptions import (
    RunEnvironmentException,
    SnapshotException,
    UserErrorException,
    WorkspaceException,
)
from rechain.workspace import AmlCompute, ComputeTarget
from tests.workspace.conftest import Submitter

pytestmark = pytest.mark.fast


def test_what_a_run_tells(submit: Submitter) -> None:
    run = submit.done("import sys; print('out'); print('err', file=sys.stderr)")
    assert run.get_detailed_status() == {"status": "Completed", "details": "completed"}
    told = run.get_details_with_logs()
    assert told["logFiles"]["azureml-logs/70_driver_log.txt"] == "out\nerr\n"
    assert run.get_details()["logFiles"] != told["logFiles"]
    assert run.get_portal_url() == run.portal_url == f"file://{run.folder}"
    assert (run.number, run.name, run.description) == (1, run.id, None)
    run.description = "what for"
    run.display_name = "the first"
    again = Run(run.experiment, run.id)
    assert (again.description, again.name) == ("what for", "the first")
    assert (run.identity, run.clean(), run.start(), Run.get_docs_url()) == (run.id, [], None, None)
    failed = submit.done("raise SystemExit(3)")
    assert failed.get_detailed_status()["details"] == "user error (exit 3)"


def test_runs_of_an_experiment_and_of_a_target(submit: Submitter, home: Path) -> None:
    run = submit.done("")
    other = submit.done("raise SystemExit(1)", tags={"a": "b"})
    experiment = submit.experiment
    assert [one.id for one in Run.list(experiment)] == [other.id, run.id]
    assert [one.id for one in Run.list(experiment, status="Failed")] == [other.id]
    assert [one.id for one in Run.list(experiment, tags={"a": "b"})] == [other.id]
    workspace = experiment.workspace
    config = AmlCompute.provisioning_configuration(max_nodes=1)
    pool = ComputeTarget.create(workspace, "pool", config)
    there = submit.done("", compute_target=pool)
    assert [one.id for one in Run.list_by_compute(pool)] == [there.id]
    assert ComputeTarget.deserialize(workspace, pool.serialize()).name == "pool"
    with pytest.raises(UserErrorException, match=r"AmlCompute\.list_quotas needs Azure"):
        AmlCompute.list_quotas(workspace)


def test_outside_of_a_run_there_is_none() -> None:
    with pytest.raises(RunEnvironmentException):
        Run.get_submitted_run()


def test_the_environment_of_a_run(submit: Submitter) -> None:
    own = submit.done("").get_environment()
    assert own.python.user_managed_dependencies
    assert own.python.interpreter_path == "python"
    asked = submit.experiment.submit(
        Estimator(submit.source, entry_script="train.py", compute_target="local",
                  pip_packages=["tqdm"])
    )  # fmt: skip
    asked.cancel()
    asked.wait_for_completion()
    dependencies = asked.get_environment().python.conda_dependencies
    assert [item.partition("==")[0] for item in dependencies.pip_packages] == ["tqdm"]
    assert isinstance(own, Environment)


def test_the_snapshot_of_a_run(submit: Submitter, home: Path) -> None:
    run = submit.done("print(1)")
    with pytest.raises(SnapshotException, match="has a snapshot"):
        run.take_snapshot(".")
    path = run.restore_snapshot(path=str(home / "back"))
    with zipfile.ZipFile(path) as archive:
        assert archive.read("train.py") == b"print(1)"
    interactive = submit.experiment.start_logging(snapshot_directory=None)
    assert interactive.get_snapshot_id() is None
    with pytest.raises(SnapshotException, match="has no snapshot"):
        interactive.restore_snapshot()
    digest = interactive.take_snapshot(str(submit.source / "train.py"))
    assert digest == run.get_snapshot_id() == interactive.get_snapshot_id()
    with pytest.raises(SnapshotException):
        interactive.take_snapshot("gone")
    with pytest.raises(SnapshotException):
        run.restore_snapshot("0" * 64)
    interactive.complete()


def test_secrets_are_variables(submit: Submitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "hunter2")
    run = submit.experiment.start_logging(snapshot_directory=None)
    assert run.get_secret("MINE") == "hunter2"
    assert run.get_secrets(["MINE", "NOT"]) == {"MINE": "hunter2", "NOT": None}
    run.complete()
    vault = Workspace.local().get_default_keyvault()
    assert (vault.get_secret("MINE"), vault.list_secrets()) == ("hunter2", [])
    with pytest.raises(UserErrorException, match="environment_variables"):
        vault.set_secret("A", "b")


def test_labels_of_an_experiment(submit: Submitter) -> None:
    run = submit.done("")
    workspace = Workspace.local()
    experiment = Experiment(workspace, "digits")
    experiment.set_tags({"a": 1, "b": "2"})
    experiment.tag("c")
    experiment.remove_tags(["a"])
    assert Experiment(workspace, "digits").tags == {"b": "2", "c": ""}
    assert [one.name for one in Experiment.list(workspace, tags="b")] == ["digits"]
    assert Experiment.list(workspace, tags={"b": "3"}) == []
    experiment.archive()
    assert experiment.archived_time is not None
    assert Experiment.list(workspace) == []
    assert [one.name for one in Experiment.list(workspace, view_type="All")] == ["digits"]
    assert [one.name for one in Experiment.list(workspace, "digits", "ArchivedOnly")] == ["digits"]
    experiment.reactivate()
    assert [one.name for one in Experiment.list(workspace)] == ["digits"]
    with pytest.raises(UserErrorException, match="view_type is 'Some'"):
        Experiment.list(workspace, view_type="Some")
    with pytest.raises(UserErrorException, match="new_name='x'"):
        experiment.reactivate("x")
    with pytest.raises(UserErrorException, match="has runs"):
        Experiment.delete(workspace, "digits")
    run.delete()
    Experiment.delete(workspace, "digits")
    assert workspace.experiments == {}
    with pytest.raises(UserErrorException, match="no such experiment"):
        Experiment.delete(workspace, "digits")


def test_a_workspace_is_made_and_found_as_in_v1(home: Path, capsys) -> None:
    made = Workspace.create("mine", subscription_id="s", resource_group="r", tags={"a": "b"})
    assert capsys.readouterr().out == f"the workspace mine is {home}/.rechain\n"
    with pytest.raises(WorkspaceException, match="is there already"):
        Workspace.create("mine")
    assert Workspace.create("mine", exist_ok=True, show_output=False).path == made.path
    for found in (
        Workspace.get("mine", subscription_id="s", resource_group="r"),
        Workspace("s", "r", "mine"),
        Workspace.list("s")["mine"][0],
    ):
        assert (found.path, found.name, found.tags) == (made.path, "mine", {"a": "b"})
    assert (made.subscription_id, made.resource_group, made.location) == ("s", "r", "local")
    made.write_config(path=str(home / "elsewhere"), file_name="c.json")
    config = home / "elsewhere" / ".azureml" / "c.json"
    assert json.loads(config.read_text()) == {
        "subscription_id": "s", "resource_group": "r", "workspace_name": "mine",
    }  # fmt: skip
    assert Workspace.from_config(str(config)).name == "mine"
    made.update(description="words", tags={"c": "d"})
    assert (Workspace.local().tags, made.get_details()["description"]) == ({"c": "d"}, "words")
    for name in ("ab", "-abc", "a b c", "", None, "x" * 34):
        with pytest.raises(UserErrorException, match="name is"):
            Workspace.create(name)
    for name in ("", None):
        with pytest.raises(UserErrorException, match="name is"):
            Workspace.get(name)
    with pytest.raises(UserErrorException, match=r"Workspace\.list_keys needs Azure"):
        made.list_keys()
    with pytest.raises(UserErrorException, match="yourself"):
        made.delete()


def test_another_default_datastore(home: Path) -> None:
    workspace = Workspace.local()
    with pytest.raises(UserErrorException, match="no datastore 'other'"):
        workspace.set_default_datastore("other")
    Path(workspace.path, "datastores", "other").mkdir(parents=True)
    workspace.set_default_datastore("other")
    assert Workspace.local().get_default_datastore().name == "other"
    workspace.datastores["workspaceblobstore"].set_as_default()
    assert Workspace.local().get_default_datastore().name == "workspaceblobstore"
