"""Runs that this process leads, and children of runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rechain import Experiment, Run, ScriptRunConfig, Workspace
from rechain.exceptions import AzureMLException, SnapshotException, UserErrorException
from rechain.record import index
from rechain.runconfig import RunConfiguration
from rechain.testing import wait_for

pytestmark = pytest.mark.fast


@pytest.fixture
def experiment(home: Path) -> Experiment:
    return Experiment(Workspace.local(), "notebook")


def test_a_run_from_beginning_to_end(experiment, home) -> None:
    (home / "model.py").write_text("x = 1\n")
    (home / "outputs" / "plots").mkdir(parents=True)
    run = experiment.start_logging(display_name="first try")
    assert isinstance(run, Run)
    assert (run.get_status(), run.display_name, run.type) == (
        "Running",
        "first try",
        "azureml.run",
    )
    for step in range(3):
        run.log("loss", 3 - step)
    run.log_list("many", [1, 2])
    run.log_row("row", a=1, b=2)
    run.tag("kind", "trial")
    run.upload_file("kept.txt", str(home / "model.py"))
    (home / "outputs" / "plots" / "a.txt").write_text("plot")
    run.complete()
    assert run.get_status() == "Completed"
    assert run.get_metrics() == {"loss": [3, 2, 1], "many": [1, 2], "row": {"a": 1, "b": 2}}
    assert run.get_tags() == {"kind": "trial"}
    assert run.get_file_names() == ["kept.txt", "outputs/plots/a.txt"]
    (found,) = experiment.get_runs()
    assert found.id == run.id
    details = found.get_details()
    assert (details["status"], details["target"]) == ("Completed", "local")
    source = found._job["source"]
    store = experiment.workspace._paths.store
    assert source["directory"] == str(home)
    assert "model.py" in Path(store, "snapshots", f"{source['snapshot']}.json").read_text()


def test_logging_is_what_it_is_inside(experiment, tmp_path) -> None:
    run = experiment.start_logging(snapshot_directory=None, outputs=False)
    assert run._job["source"]["snapshot"] is None
    with pytest.raises(UserErrorException, match="log_list"):
        run.log("x", [1])
    (tmp_path / "a").touch()
    run.upload_file("a", str(tmp_path / "a"))
    with pytest.raises(AzureMLException, match="Resource Conflict"):
        run.upload_file("a", str(tmp_path / "a"))
    assert "log_table" in dir(run)
    with pytest.raises(AttributeError, match="'Run' object has no attribute 'lgo'"):
        run.lgo("x", 1)
    run.display_name = "renamed"
    assert Run(experiment, run.id).display_name == "renamed"
    run.cancel()
    assert run.get_status() == "Canceled"


def test_a_block_is_a_run(experiment, capsys) -> None:
    with experiment.start_logging(snapshot_directory=None) as run:
        print("inside")
        print("a warning", file=sys.stderr)
    print("outside")
    assert run.get_status() == "Completed"
    assert capsys.readouterr() == ("inside\noutside\n", "a warning\n")
    (log,) = run.get_all_logs("logs")[:1]
    assert Path(log).read_text() == "inside\na warning\n"


def test_a_block_that_fails(experiment) -> None:
    with (
        pytest.raises(KeyError),
        experiment.start_logging(snapshot_directory=None) as run,
    ):
        raise KeyError("labels")
    assert run.get_status() == "Failed"
    assert run.cause == "user error (KeyError: 'labels')"
    assert Path(run.folder, "attempts/1/0.err").read_text().endswith("KeyError: 'labels'\n")


def test_fail(experiment) -> None:
    run = experiment.start_logging(snapshot_directory=None)
    run.fail("no data")
    assert run.cause == "user error (no data)"
    with pytest.raises(TypeError):
        experiment.start_logging(snapshot_directory=None).fail(3)


LEFT_OPEN = """
import os, sys
from rechain import Experiment, Workspace
run = Experiment(Workspace.local(), "notebook").start_logging(snapshot_directory=None)
print(run.id, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("more", "status"), [("", "Completed"), ("raise ValueError('x')", "Failed")]
)
def test_what_is_left_open_ends_with_the_process(experiment, more, status) -> None:
    said = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN + more],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert Run(experiment, said.stdout.strip()).get_status() == status


def test_a_process_that_is_killed_is_noticed(experiment) -> None:
    leader = subprocess.Popen(
        [sys.executable, "-c", LEFT_OPEN], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    run = Run(experiment, leader.stdout.readline().strip())
    assert run.get_status() == "Running"
    os.kill(leader.pid, signal.SIGKILL)
    leader.communicate()
    wait_for(lambda: run.get_status() == "Failed", "its end is written")
    assert run._state().end["cause"] == "supervisor_lost"


def test_children_of_a_led_run(experiment) -> None:
    run = experiment.start_logging(snapshot_directory=None)
    with run.child_run("fold 0") as child:
        child.log("accuracy", 0.5)
    others = run.create_children(tag_key="fold", tag_values=["1", "2"])
    for other in others:
        other.complete()
    run.complete()
    assert {c.id for c in run.get_children()} == {child.id, *(o.id for o in others)}
    assert child.parent.id == run.id
    assert child.display_name == "fold 0"
    assert [c.id for c in run.get_children(tags={"fold": "2"})] == [others[1].id]
    assert [one.id for one in experiment.get_runs()] == [run.id]


def test_submitted_children(submit) -> None:
    parent = submit.experiment.start_logging(snapshot_directory=None)
    estimator = submit.estimator("import sys; print(sys.argv[1:])", script_params={"--a": 1})
    configuration = RunConfiguration()
    configuration.environment.python.user_managed_dependencies = True
    config = ScriptRunConfig(
        str(submit.source), script="train.py", arguments=["--b", 2], run_config=configuration
    )
    first = parent.submit_child(estimator, tags={"n": "1"}, script_params={"--a": 3})
    second = first.submit_child(config)
    for child in (first, second):
        child.wait_for_completion()
    parent.complete()
    assert submit.output(first) == "['--a', '3']\n"
    assert submit.output(second) == "['--b', '2']\n"
    assert (first.parent.id, second.parent.id) == (parent.id, first.id)
    assert [c.id for c in parent.get_children()] == [first.id]
    assert {c.id for c in parent.get_children(recursive=True)} == {first.id, second.id}
    assert first.type == "azureml.scriptrun"
    workspace = submit.experiment.workspace
    assert [run.id for run in workspace.get_runs()] == [parent.id]
    assert index.rebuild(workspace._paths) == 1
    assert [run.id for run in workspace.get_runs()] == [parent.id]


def test_a_run_with_a_child_under_way_is_not_deleted(submit) -> None:
    parent = submit.experiment.start_logging(snapshot_directory=None)
    child = parent.submit_child(submit.estimator("import time; time.sleep(1000)"))
    parent.complete()
    with pytest.raises(UserErrorException, match=f"the run {child.id} has not ended"):
        parent.delete()
    child.cancel()
    child.wait_for_completion()
    parent.delete()
    assert not os.path.exists(child.folder)


def test_the_run_of_a_script_ends_with_it(submit) -> None:
    run = submit.done("print(1)")
    for end in (run.complete, run.fail, run.__enter__):
        with pytest.raises(UserErrorException, match="is that of a script and ends with it"):
            end()
    run.log("afterwards", 1)
    assert run.get_metrics() == {"afterwards": 1}


def test_what_cannot_be_is_said(experiment, home) -> None:
    with pytest.raises(UserErrorException, match="snapshot_directory='nowhere' is no folder"):
        experiment.start_logging(snapshot_directory="nowhere")
    with pytest.raises(UserErrorException, match=r"outputs=3: it is a folder"):
        experiment.start_logging(outputs=3)
    with pytest.raises(UserErrorException, match="'x' is not a run id of this experiment"):
        experiment.start_logging(run_id="x", snapshot_directory=None)
    os.symlink("/", home / "all")
    with pytest.raises(SnapshotException, match="snapshot_directory=None"):
        experiment.start_logging()
    assert list(experiment.get_runs()) == []
