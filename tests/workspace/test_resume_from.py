"""Runs that go on from what another run left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rechain import DataPath, Environment, Run, ScriptRunConfig, Workspace
from rechain.data import Datastore
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.paths import RunPaths
from rechain.supervisor.resume import plan
from rechain.testing.web import WebServer
from tests.supervisor.test_resume import RESUME, save, truncate

pytestmark = pytest.mark.fast

TELL = "import sys; print(*sys.argv[1:])\n"
AUTOLOAD = TELL + "if 0: extensions.snapshot(autoload=True)\n"
WEIGHTS = b"\x89HDF\r\n\x1a\n and weights"
V1 = RESUME.replace("--resume'", "--resume-from'") + TELL


def said(run: Run) -> str:
    assert run.get_status() == "Completed", Path(run.folder, "attempts/1/0.err").read_text()
    return Path(run.folder, "attempts/1/0.out").read_text().strip()


def facts(run: Run) -> dict[str, object]:
    found: dict[str, object] = jsonl.read(RunPaths(run.folder).job)["resumed"]
    return found


@pytest.fixture
def old(submit) -> Run:
    """A run that left two snapshots, the newer one torn."""
    run: Run = submit.done("")
    save(Path(run.folder, "work/result/snapshot_iter_200"), 200)
    truncate(save(Path(run.folder, "work/result/snapshot_iter_300"), 300))
    return run


@pytest.mark.parametrize("named", ["run", "id", "folder", "file", "work"])
def test_a_script_with_chainers_option_gets_the_newest_whole_snapshot(submit, old, named) -> None:
    place = f"{old.folder}/work/result"
    given = {
        "run": old, "id": old.id, "folder": place, "file": Path(place, "snapshot_iter_200"),
        "work": f"{old.folder}/outputs/..",
    }[named]  # fmt: skip
    run = submit.done(RESUME + TELL, resume_from=given, script_params={"-e": 3})
    assert said(run) == "-e 3 --resume result/snapshot_iter_200"
    assert facts(run)["run"] == old.id
    assert facts(run)["iteration"] == 200
    expected = Path(place, "snapshot_iter_200").read_bytes()
    assert Path(run.folder, "work/result/snapshot_iter_200").read_bytes() == expected
    # In the run that it comes from nothing was renamed, and what came along is no output.
    assert sorted(os.listdir(place)) == ["snapshot_iter_200", "snapshot_iter_300"]
    assert run.get_file_names() == ["azureml-logs/70_driver_log.txt"]
    notes = [row["message"] for row in run.get_details()["warnings"]]
    assert any("goes on from" in note and old.id in note for note in notes)
    if named != "file":
        assert any("broken: " in note and "snapshot_iter_300" in note for note in notes)


def test_a_script_that_looks_itself_finds_the_snapshots_of_all_ranks(submit, old) -> None:
    save(Path(old.folder, "work/result/rank1_snapshot_iter_200"), 200)
    run = submit.done(AUTOLOAD, resume_from=old)
    assert said(run) == ""
    assert facts(run)["how"] == "itself"
    assert sorted(os.listdir(f"{run.folder}/work/result")) == [
        "rank1_snapshot_iter_200", "snapshot_iter_200",
    ]  # fmt: skip


def test_without_any_known_means_it_is_v1s_option(submit, old) -> None:
    run = submit.done(TELL, resume_from=old)
    assert said(run) == "--resume-from result/snapshot_iter_200"


def test_a_snapshot_of_the_source_folder_gives_way_to_that_of_the_run(submit, old) -> None:
    save(submit.source / "result/snapshot_iter_200", 100)
    run = submit.done(RESUME + TELL, resume_from=old)
    expected = Path(old.folder, "work/result/snapshot_iter_200").read_bytes()
    assert Path(run.folder, "work/result/snapshot_iter_200").read_bytes() == expected


def test_what_is_not_chainers_is_taken_if_it_is_named(submit, tmp_path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/weights.h5").write_bytes(WEIGHTS)
    run = submit.done(RESUME + TELL, resume_from=tmp_path / "kept/weights.h5")
    assert said(run) == "--resume kept/weights.h5"
    assert Path(run.folder, "work/kept/weights.h5").read_bytes() == WEIGHTS
    assert (facts(run)["run"], facts(run)["iteration"]) == (None, None)


def test_a_later_attempt_goes_on_from_there_too(submit, old) -> None:
    run = submit.done(RESUME + TELL, resume_from=old)
    work = f"{run.folder}/work"
    again = plan(work, jsonl.read(RunPaths(run.folder).job)["command"], begun=True)
    assert again["snapshot"] == "result/snapshot_iter_200"
    assert again["arguments"] == ["--resume", "result/snapshot_iter_200"] * 2
    Path(work, "result/snapshot_iter_200").unlink()
    again = plan(work, jsonl.read(RunPaths(run.folder).job)["command"], begun=True)
    assert "starts as the run did" in again["text"]


def test_a_data_path_is_v1s_contract_where_the_script_takes_it(submit) -> None:
    store = Workspace.local().get_default_datastore()
    save(Path(store.folder, "old/result/snapshot_iter_200"), 200)
    path = DataPath(store, "old")
    for script in (V1, TELL):
        run = submit.done(script, resume_from=path)
        assert said(run) == f"--resume-from {store.folder}/old"
        assert facts(run)["path"] == "workspaceblobstore/old"
        assert jsonl.read(RunPaths(run.folder).job)["variables"] == {
            "AZUREML_DATAREFERENCE_MODEL_LOCATION": f"{store.folder}/old"
        }
    # A script as Chainer's examples are: v1's option would end it.
    run = submit.done(RESUME + TELL, resume_from=path)
    assert said(run) == "--resume old/result/snapshot_iter_200"
    assert facts(run)["iteration"] == 200


def nothing(old: Run) -> str:
    for name in os.listdir(f"{old.folder}/work/result"):
        os.unlink(f"{old.folder}/work/result/{name}")
    return old.id


BAD = [
    (lambda old: "nope_1_00000000", "nope_1_00000000.*nor is there a file or folder"),
    (lambda old: "./nope", "nope is not there"),
    (nothing, "has no snapshot of a trainer that can be read; name the file"),
    (lambda old: f"{old.folder}/work/result/snapshot_iter_300", "cannot be read to its end"),
    (lambda old: f"{old.folder}/metrics", "has no snapshot of a trainer"),
    (lambda old: f"{old.folder}/job.json", "job.json is no snapshot: neither an npz file"),
]


@pytest.mark.parametrize(("given", "words"), BAD)
def test_what_cannot_be_resumed_from_is_refused_before_there_is_a_run(
    submit, old, given, words
) -> None:
    with pytest.raises(UserErrorException, match=words):
        submit(RESUME, resume_from=given(old))
    assert [run.id for run in Workspace.local().get_runs()] == [old.id]


def test_if_the_latest_run_has_none_the_newest_that_has_one_is_named(submit, old) -> None:
    submit.done("")
    with pytest.raises(UserErrorException, match=f"the newest run that has one is {old.id}$"):
        submit(RESUME, resume_from="latest")


def test_the_newer_form_says_it_too(submit, old, home) -> None:
    """Made from an estimator, or written as it is: by the run, its id, a folder, a file."""
    one = submit.estimator(RESUME + TELL, resume_from=old).to_script_run_config()
    environment = Environment("own")
    environment.python.user_managed_dependencies = True
    folder = f"{old.folder}/work/result"
    several = [
        ScriptRunConfig(str(submit.source), "train.py", environment=environment, resume_from=given)
        for given in (old, old.id, folder, f"{folder}/snapshot_iter_200")
    ]
    for config in [one, *several]:
        run = submit.experiment.submit(config)
        run.wait_for_completion()
        assert said(run) == "--resume result/snapshot_iter_200"
        assert facts(run)["iteration"] == 200


def test_a_data_path_elsewhere_is_looked_into_for_scripts_of_chainers(submit, tmp_path) -> None:
    save(tmp_path / "served" / "old/result/snapshot_iter_200", 200)
    with WebServer(tmp_path / "served") as web:
        store = Datastore.register(Workspace.local(), "web", web.url)
        run = submit.done(RESUME + TELL, resume_from=DataPath(store, "old"))
        assert said(run) == "--resume old/result/snapshot_iter_200", run.cause
        run = submit.done(V1, resume_from=DataPath(store, "old"))
        assert said(run).startswith("--resume-from /"), run.cause


def test_a_run_with_broken_snapshots_only_names_them(submit, old) -> None:
    os.unlink(f"{old.folder}/work/result/snapshot_iter_200")
    with pytest.raises(UserErrorException, match="broken: result/snapshot_iter_300"):
        submit(RESUME, resume_from=old)
