"""Where a workspace is found, how it comes into being, and its list of runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rechain import Experiment, Workspace
from rechain.exceptions import AzureMLException, UserErrorException
from rechain.record import index
from rechain.record.paths import WorkspacePaths
from rechain.testing import processes_of, wait_for, wait_for_end

pytestmark = pytest.mark.fast

AZURE = {"subscription_id": "s-1", "resource_group": "g-1", "workspace_name": "w-1"}


@pytest.fixture
def read_only(small_disk: Path):
    """A folder that nobody, not even root, can write to."""

    def seal() -> Path:
        command = ["mount", "-o", "remount,ro", str(small_disk)]
        # It is busy while the guard of an ended run is still leaving.
        wait_for(lambda: not subprocess.run(command, check=False).returncode, "it is read-only")
        return small_disk

    seal.folder = small_disk
    return seal


# Where it is.


def test_it_is_made_in_the_current_folder(home) -> None:
    assert Workspace.local().path == str(home / ".rechain")


def test_it_is_found_upward(home) -> None:
    (home / ".rechain").mkdir()
    (home / "a" / "b").mkdir(parents=True)
    os.chdir(home / "a" / "b")
    assert Workspace.local().path == str(home / ".rechain")


def test_it_is_found_from_another_folder(home) -> None:
    (home / "a" / ".rechain").mkdir(parents=True)
    assert Workspace.local(home / "a").path == str(home / "a" / ".rechain")
    with pytest.raises(UserErrorException, match=r"path='nope': there is no such folder"):
        Workspace.local("nope")


def test_rechain_home_overrides(home, tmp_path, monkeypatch) -> None:
    (home / ".rechain").mkdir()
    monkeypatch.setenv("RECHAIN_HOME", str(tmp_path / "elsewhere"))
    assert Workspace.local().path == str(tmp_path / "elsewhere")
    assert Workspace.from_config().path == str(tmp_path / "elsewhere")


def test_a_run_inside_a_run_finds_the_same_workspace(submit) -> None:
    src = str(Path(__file__).parents[2] / "src")
    run = submit.done(
        f"import sys; sys.path.append({src!r})\n"
        "from rechain import Workspace; print(Workspace.local().path)"
    )
    assert submit.output(run) == f"{submit.experiment.workspace.path}\n"


# How it comes into being.


def test_looking_makes_nothing(home) -> None:
    workspace = Workspace.local()
    assert list(workspace.get_runs()) == []
    assert workspace.experiments == {}
    Experiment(workspace, "digits")
    assert os.listdir(home) == []


def test_git_ignores_it(submit) -> None:
    submit.done()
    assert Path(".rechain/.gitignore").read_text() == "*\n"
    subprocess.run(["git", "init", "-q"], check=True)
    status = subprocess.check_output(["git", "status", "--porcelain", "-uall"], text=True)
    assert status == "?? code/train.py\n"


def test_it_has_a_name_and_an_id(submit) -> None:
    submit.done()
    settings = json.loads(Path(".rechain/workspace.json").read_text())
    assert settings["schema"] == 1
    assert settings["name"] == "here"
    assert len(settings["id"]) == 16


def test_two_processes_make_it_at_once(home) -> None:
    """Both go on with one and the same."""
    code = (
        "from rechain import Workspace\n"
        "w = Workspace.local(); input(); w._make(); print(w._settings)"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    for maker in makers:
        maker.stdin.write("\n")
        maker.stdin.flush()
    said = {maker.communicate()[0] for maker in makers}
    assert len(said) == 1
    assert Path(".rechain/.gitignore").read_text() == "*\n"
    assert sorted(os.listdir(".rechain")) == [
        ".gitignore", "experiments", "index", "store", "workspace.json",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_written_to(submit, read_only) -> None:
    read_only()
    experiment = Experiment(Workspace.at(read_only.folder / "new"), "digits")
    with pytest.raises(UserErrorException, match=r"workspace .*/new cannot be made: Read-only"):
        experiment.submit(submit.estimator())


def test_a_workspace_that_became_read_only(submit, read_only) -> None:
    """It refuses new runs, and shows the old ones."""
    experiment = Experiment(Workspace.at(read_only.folder / "ws"), "digits")
    run = experiment.submit(submit.estimator("print('x')"))
    run.wait_for_completion()
    read_only()
    with pytest.raises(AzureMLException, match="Read-only file system"):
        experiment.submit(submit.estimator("print('y')"))
    (listed,) = Workspace.at(read_only.folder / "ws").get_runs()
    assert listed.get_details()["status"] == "Completed"


def test_an_unfinished_run_in_a_read_only_copy(submit, read_only) -> None:
    """Its end cannot be written; it is shown as it stands."""
    run = submit("import time; open('begun', 'w').close(); time.sleep(1000)")
    wait_for(Path(run.folder, "work", "begun").exists, "the script to begin")
    shutil.copytree(".rechain", read_only.folder / "ws", symlinks=True)
    run.cancel()
    run.wait_for_completion()
    read_only()
    (copy,) = Workspace.at(read_only.folder / "ws").get_runs()
    assert copy.get_status() in ("Starting", "Running")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the workspace cannot be read: .*workspace.json: not JSON"),
        ("[]", "workspace.json does not name a workspace"),
        ('{"schema": 1}', "workspace.json does not name a workspace"),
        ('{"schema": 2, "name": "x"}', "was written by a newer Rechain .schema 2; this one reads"),
    ],
)
def test_a_damaged_workspace_says_what_to_do(home, text, says) -> None:
    (home / ".rechain").mkdir()
    (home / ".rechain" / "workspace.json").write_text(text)
    with pytest.raises(UserErrorException, match=says):
        Workspace.local()


# Azure's configuration file.


@pytest.mark.parametrize("folder", [".azureml", "aml_config", "."])
@pytest.mark.parametrize("name", ["config.json", "project.json"])
def test_from_config_reads_azures_file(home, folder, name) -> None:
    (home / folder).mkdir(exist_ok=True)
    (home / folder / name).write_text(json.dumps(AZURE))
    (home / "below").mkdir()
    os.chdir(home / "below")
    workspace = Workspace.from_config()
    assert workspace.path == str(home / ".rechain")
    assert (workspace.name, workspace.subscription_id, workspace.resource_group) == (
        "w-1", "s-1", "g-1",
    )  # fmt: skip


def test_from_config_with_the_old_scope(home) -> None:
    scope = "/subscriptions/s-1/resourceGroups/g-1/providers/Microsoft.X/workspaces/w-1"
    (home / "config.json").write_text(json.dumps({"Scope": scope}))
    workspace = Workspace.from_config()
    assert (workspace.name, workspace.subscription_id, workspace.resource_group) == (
        "w-1", "s-1", "g-1",
    )  # fmt: skip


def test_from_config_with_a_path(home) -> None:
    (home / "mine.json").write_text(json.dumps(AZURE))
    assert Workspace.from_config(path="mine.json").name == "w-1"
    assert Workspace.from_config(_file_name="mine.json").name == "w-1"
    with pytest.raises(UserErrorException, match=r"path='nope.json': there is no such file"):
        Workspace.from_config(path="nope.json")


def test_from_config_without_a_file_is_the_local_workspace(home) -> None:
    workspace = Workspace.from_config()
    assert workspace.path == str(home / ".rechain")
    assert (workspace.name, workspace.subscription_id) == ("here", "local")


@pytest.mark.parametrize("text", ["{}", "[]", '{"workspace_name": 3}', '{"Scope": null}', '"x/"'])
def test_from_config_without_a_name(home, text) -> None:
    (home / "config.json").write_text(text)
    if text == '"x/"':
        assert Workspace.from_config().name == "x"
        return
    with pytest.raises(UserErrorException, match=r"config.json names no workspace: it needs the"):
        Workspace.from_config()


def test_get_is_the_local_workspace_under_that_name(home) -> None:
    workspace = Workspace.get("azureml", subscription_id="9-9", resource_group="lab")
    assert workspace.path == str(home / ".rechain")
    names = (workspace.name, workspace.subscription_id, workspace.resource_group)
    assert names == ("azureml", "9-9", "lab")
    assert Workspace.get("x").subscription_id == "local"
    for name in ("", None, 3):
        with pytest.raises(UserErrorException, match=r"name is .*not empty"):
            Workspace.get(name)


def test_from_config_that_is_no_json(home) -> None:
    (home / "config.json").write_text("{")
    with pytest.raises(UserErrorException, match=r"cannot be read: .*config.json: "):
        Workspace.from_config()


def test_the_configured_name_reaches_the_job(submit, home) -> None:
    (home / "config.json").write_text(json.dumps(AZURE))
    experiment = Experiment(Workspace.from_config(), "digits")
    run = experiment.submit(
        submit.estimator("import os; print(os.environ['AZUREML_ARM_WORKSPACE_NAME'])")
    )
    run.wait_for_completion()
    assert submit.output(run) == "w-1\n"


# Experiments and the list of runs.


def test_experiments_by_name(submit) -> None:
    submit.done()
    Path(".rechain/experiments/.DS_Store").touch()
    assert list(submit.experiment.workspace.experiments) == ["digits"]


@pytest.mark.parametrize(
    "name", ["", " ", "-x", "_x", "a b", "a/b", "..", "a\n", "a.b", "x" * 201, "ü" * 101, None, 3]
)
def test_names_that_no_experiment_can_have(home, name) -> None:
    with pytest.raises(UserErrorException, match="an experiment's name is made of letters"):
        Experiment(Workspace.local(), name)


@pytest.mark.parametrize("name", ["x", "x" * 200, "手書き数字", "A-b_9", "1"])
def test_names_that_an_experiment_can_have(submit, name) -> None:
    run = Experiment(submit.experiment.workspace, name).submit(submit.estimator())
    assert run.wait_for_completion()["status"] == "Completed"
    assert [one.id for one in Workspace.local().get_runs()] == [run.id]
    run.delete()
    assert list(Workspace.local().get_runs()) == []


def test_an_experiment_needs_a_workspace(home) -> None:
    with pytest.raises(UserErrorException, match="workspace='x': an Experiment needs a Workspace"):
        Experiment("x", "y")


def test_a_run_by_the_beginning_of_its_id(submit) -> None:
    first, second = submit.done(), submit.done()
    workspace = submit.experiment.workspace
    assert workspace.get_run(first.id).id == first.id
    assert workspace.get_run(second.id.rpartition("_")[2][:6]).id == second.id
    with pytest.raises(UserErrorException, match=r"'digits' is the beginning of 2 runs: .*, "):
        workspace.get_run("digits")
    for nothing in ("", "nope", "../x"):
        with pytest.raises(UserErrorException, match="there is no run"):
            workspace.get_run(nothing)


def newest(paths: WorkspacePaths) -> list[str]:
    return list(index.newest(paths))


def test_newest_first_over_months(tmp_path) -> None:
    paths = WorkspacePaths(str(tmp_path))
    day = 86400 * 10**9
    moments = [1_700_000_000 * 10**9 + n * 20 * day for n in (3, 0, 2, 4, 1)]
    for moment in moments:
        index.add(paths, f"e_{moment // 10**9}_00000000", moment)
    assert len(os.listdir(paths.index)) == 4
    ids = newest(paths)
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 5


def test_more_runs_in_a_month_than_a_screenful(tmp_path) -> None:
    paths = WorkspacePaths(str(tmp_path))
    for number in range(2000):
        index.add(paths, f"e_{number:010d}_00000000", 1_700_000_000 * 10**9 + number)
    assert newest(paths) == [f"e_{number:010d}_00000000" for number in reversed(range(2000))]


def test_foreign_files_in_the_index_are_passed_over(submit) -> None:
    run = submit.done()
    folder = Path(".rechain/index")
    (month,) = folder.iterdir()
    for name in (".DS_Store", "x_y", "00_not-an-id", "_"):
        (month / name).touch()
    (folder / "README").touch()
    assert [one.id for one in Workspace.local().get_runs()] == [run.id]
    run.delete()
    assert list(Workspace.local().get_runs()) == []


def test_reindex_after_the_index_was_deleted(submit) -> None:
    ids = [submit.done().id for _ in range(3)]
    shutil.rmtree(".rechain/index")
    assert list(Workspace.local().get_runs()) == []
    assert Workspace.local().get_run(ids[0]).id == ids[0]  # a whole id needs no index
    assert index.rebuild(Workspace.local()._paths) == 3
    assert [run.id for run in Workspace.local().get_runs()] == ids[::-1]


def test_reindex_after_a_run_was_copied_in(submit, tmp_path, monkeypatch) -> None:
    run = submit.done("print('x')")
    monkeypatch.setenv("RECHAIN_HOME", str(tmp_path / "other"))
    other = Experiment(Workspace.local(), "digits").submit(submit.estimator())
    other.wait_for_completion()
    shutil.copytree(
        run.folder, tmp_path / "other" / "experiments" / "digits" / run.id, symlinks=True
    )
    assert index.rebuild(Workspace.local()._paths) == 2
    listed = list(Workspace.local().get_runs())
    assert [one.id for one in listed] == [other.id, run.id]
    assert listed[1].get_file_names()[0] == "azureml-logs/70_driver_log.txt"


def test_reindex_after_a_run_was_removed(submit) -> None:
    kept, removed = submit.done(), submit.done()
    shutil.rmtree(removed.folder)
    assert [run.id for run in Workspace.local().get_runs()] == [kept.id]
    assert index.rebuild(Workspace.local()._paths) == 1
    assert len(newest(Workspace.local()._paths)) == 1


def test_reindex_passes_over_what_is_no_run(submit) -> None:
    submit.done()
    folder = Path(".rechain/experiments")
    (folder / "digits" / "notes").mkdir()
    (folder / "digits" / "digits_1700000000_00000000").mkdir()
    (folder / "digits" / "digits_1700000000_00000000" / "job.json").write_text("{}")
    (folder / "digits" / "digits_1700000000_00000001").mkdir()
    (folder / "digits" / "digits_1700000000_00000001" / "job.json").write_text("[")
    (folder / "file").touch()
    assert index.rebuild(Workspace.local()._paths) == 1


def test_two_thousand_runs_are_listed(submit) -> None:
    run = submit.done()
    for number in range(2000):
        run_id = f"digits_{1_600_000_000 + number}_{number:08x}"
        folder = Path(run.folder).parent / run_id
        shutil.copytree(run.folder, folder, symlinks=True, ignore=lambda *_: ["work", "metrics"])
        job = json.loads((folder / "job.json").read_text())
        job["submitted"]["time"] = 1_600_000_000 + number
        (folder / "job.json").write_text(json.dumps(job))
    assert index.rebuild(Workspace.local()._paths) == 2001
    statuses = [one.get_status() for one in Workspace.local().get_runs()]
    assert statuses == ["Completed"] * 2001


@pytest.mark.parametrize("copy", ["-a", "-r"])  # -r loses the times
def test_a_copy_of_the_workspace_is_readable(submit, tmp_path, copy) -> None:
    run = submit.done("open('outputs/made', 'w').write('x'); print('hello')")
    subprocess.run(["cp", copy, ".rechain/", str(tmp_path / "copy")], check=True)
    shutil.rmtree(".rechain")
    (copied,) = Workspace.at(tmp_path / "copy").get_runs()
    assert copied.id == run.id
    assert copied.get_status() == "Completed"
    assert copied.get_file_names() == ["azureml-logs/70_driver_log.txt", "outputs/made"]
    assert copied.folder.startswith(str(tmp_path / "copy"))


def test_a_run_folder_alone_can_be_read_with_cat(submit) -> None:
    """Law 1: plain files."""
    run = submit.done("print('hello')")
    folder = Path(run.folder)
    assert (folder / "attempts/1/0.out").read_text() == "hello\n"
    assert json.loads((folder / "job.json").read_text())["command"] == ["train.py"]
    last = (folder / "attempts/1/journal.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["cause"] == "completed"
    assert os.readlink(folder / "outputs") == "work/outputs"


def test_a_run_whose_submitter_died_before_the_start(submit) -> None:
    """What another process left half-done ends at the next look."""
    run = submit("import time; time.sleep(1000)")
    run.cancel()
    wait_for_end(run._paths)
    wait_for(lambda: not processes_of(run._paths), "nobody writes to it any more")
    folder = Path(run.folder)
    shutil.rmtree(folder / "attempts" / "1")
    (folder / "requests" / "cancel").unlink()
    job = json.loads((folder / "job.json").read_text())
    job["submitted"].update(pid=2**22 - 1, start=1, time=time.time())
    (folder / "job.json").write_text(json.dumps(job))
    (listed,) = Workspace.local().get_runs()
    assert listed.get_status() == "Failed"
    assert listed.cause.startswith("supervisor lost")
