"""What a Run tells: status, details, metrics, files, logs, tags, children; and its deletion."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from rechain import Run
from rechain.exceptions import UserErrorException
from rechain.record.journal import fold
from rechain.record.paths import RunPaths

pytestmark = pytest.mark.fast

LOGS = """
from azureml.core.run import Run
run = Run.get_context()
for step in range(3):
    run.log("loss", 1 / (step + 1))
run.log("accuracy", 0.5)
run.log_list("sizes", [1, 2])
run.tag("from", "script")
run.add_properties({"kind": "test"})
"""

MAKES = """
import os
print("log")
os.makedirs("result", exist_ok=True)
open("result/model.npz", "wb").write(b"PK")
open("outputs/out.txt", "w").write("made")
open("train.py", "a").write("# changed")
"""

CHILDREN = """
from azureml.core.run import Run
run = Run.get_context()
for number in range(2):
    child = run.child_run(name=f"child {number}")
    child.log("number", number)
    child.tag("number", number)
    child.complete()
"""


def test_details_have_v1s_keys(submit) -> None:
    run = submit.done("", script_params={"--a": 1}, environment_variables={"B": "c"})
    told = run.get_details()
    assert told["runId"] == run.id
    assert told["target"] == "local"
    assert told["status"] == "Completed"
    assert told["runDefinition"]["script"] == "train.py"
    assert told["runDefinition"]["arguments"] == ["--a", "1"]
    assert told["runDefinition"]["environmentVariables"] == {"B": "c"}
    assert list(told["logFiles"]) == [
        "azureml-logs/70_driver_log.txt",
        "user_logs/std_log.txt",
    ]
    for moment in (told["startTimeUtc"], told["endTimeUtc"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", moment)
    assert told["startTimeUtc"] <= told["endTimeUtc"]
    assert {"properties", "tags", "inputDatasets", "outputDatasets", "submittedBy"} <= set(told)
    assert "error" not in told


def test_a_handle_says_what_it_is(submit) -> None:
    run = submit.done()
    assert repr(run) == (
        f"Run(Experiment: digits, Id: {run.id}, Type: azureml.scriptrun, Status: Completed)"
    )
    assert re.fullmatch(r"digits_\d{10}_[0-9a-f]{8}", run.id)
    assert (run.type, run.status, run.parent) == ("azureml.scriptrun", "Completed", None)
    assert run.display_name == run.id


def test_a_run_that_is_not_there(submit) -> None:
    for run_id in ("digits_1700000000_00000000", "nonsense", "../../etc/passwd", ""):
        with pytest.raises(UserErrorException, match="there is no such run in"):
            Run(submit.experiment, run_id)


def test_metrics_logged_inside(submit) -> None:
    run = submit.done(LOGS)
    assert run.get_metrics() == {"loss": [1.0, 0.5, 1 / 3], "accuracy": 0.5, "sizes": [1, 2]}
    assert run.get_metrics("accuracy") == {"accuracy": 0.5}
    assert run.get_metrics("nothing") == {}
    assert run.tags == {"from": "script"}
    assert run.properties["kind"] == "test"


def test_files_are_what_the_script_made_or_changed(submit) -> None:
    estimator = submit.estimator(MAKES)
    (submit.source / "data.txt").write_text("as it was")
    run = submit.experiment.submit(estimator)
    run.wait_for_completion()
    assert run.get_file_names() == [
        "azureml-logs/70_driver_log.txt",
        "outputs/out.txt",
        "result/model.npz",
        "train.py",
    ]


def test_odd_files_are_not_read(submit) -> None:
    """A pipe that nobody writes to, a link to nothing, a device: none of them blocks or breaks."""
    run = submit.done(
        "import os\nos.mkfifo('pipe')\nos.mkfifo('log')\nos.symlink('nothing', 'dangling')\n"
        "os.symlink('/dev/zero', 'zero')\nos.symlink('pipe', 'outputs/pipe.txt')"
    )
    assert run.get_file_names() == ["azureml-logs/70_driver_log.txt"]
    assert run.get_metrics() == {}


def test_download_a_file(submit, tmp_path) -> None:
    run = submit.done(MAKES)
    run.download_file("outputs/out.txt")
    assert Path("out.txt").read_text() == "made"
    run.download_file("outputs/out.txt", str(tmp_path / "new" / "name"))
    assert (tmp_path / "new" / "name").read_text() == "made"
    run.download_file("outputs/out.txt", f"{tmp_path}/")
    assert (tmp_path / "out.txt").read_text() == "made"


@pytest.mark.parametrize(
    "name", ["nope", "../job.json", "/etc/passwd", "outputs", "", ".", "a/.."]
)
def test_a_file_that_is_not_the_runs(submit, name) -> None:
    run = submit.done(MAKES)
    with pytest.raises(UserErrorException, match=re.escape(f"name={name!r}: the run {run.id}")):
        run.download_file(name, "copy")
    assert not os.path.exists("copy")


def test_download_files(submit, tmp_path) -> None:
    run = submit.done(MAKES)
    run.download_files(prefix="outputs", output_directory=str(tmp_path / "a"))
    assert os.listdir(tmp_path / "a") == ["outputs"]
    run.download_files("outputs", str(tmp_path / "b"), append_prefix=False)
    assert os.listdir(tmp_path / "b") == ["out.txt"]
    run.download_files(output_directory=str(tmp_path / "c"))
    assert sorted(os.listdir(tmp_path / "c")) == ["azureml-logs", "outputs", "result", "train.py"]


@pytest.mark.parametrize("paths", [[], ["a", "b"]])
def test_output_paths_that_do_not_fit_give_way_to_the_files_own(submit, tmp_path, paths) -> None:
    run = submit.done(MAKES)
    with pytest.warns(UserWarning, match="output_paths has"):
        run.download_files("outputs", str(tmp_path / "a"), output_paths=paths)
    assert os.listdir(tmp_path / "a") == ["outputs"]
    run.download_files("outputs", str(tmp_path / "b"), output_paths=["other"])
    assert (tmp_path / "b" / "other").read_text() == "made"
    run.download_files("outputs", append_prefix=False)  # nothing without a folder, as in v1
    assert Path("outputs/out.txt").read_text() == "made"


def test_all_logs(submit, tmp_path) -> None:
    run = submit.done(MAKES)
    copies = run.get_all_logs(destination=str(tmp_path / "logs"))
    assert copies == [
        str(tmp_path / "logs/azureml-logs/70_driver_log.txt"),
        str(tmp_path / "logs/user_logs/std_log.txt"),
    ]
    assert [Path(copy).read_text() for copy in copies] == ["log\n", "log\n"]


def test_tags(submit) -> None:
    run = submit.done("", tags={"a": "1", "b": None})
    run.tag("b", "2")
    run.tag("alone")
    run.set_tags({"c": 3})
    run.remove_tags(["a"])
    assert run.get_tags() == {"b": "2", "alone": "", "c": "3"}


def test_properties_are_set_once(submit) -> None:
    run = submit.done()
    run.add_properties({"one": "1"})
    with pytest.raises(UserErrorException, match="'one' is set and cannot be changed"):
        run.add_properties({"one": "2"})
    assert run.get_properties()["one"] == "1"


def test_children(submit) -> None:
    run = submit.done(CHILDREN)
    children = list(run.get_children())
    assert [child.get_metrics()["number"] for child in children] in ([1, 0], [0, 1])
    assert {child.display_name for child in children} == {"child 0", "child 1"}
    assert [child.parent.id for child in children] == [run.id] * 2
    assert [child.get_status() for child in children] == ["Completed"] * 2
    (one,) = run.get_children(tags={"number": "1"})
    assert one.get_metrics() == {"number": 1}
    assert set(run.get_metrics(recursive=True)) == {run.id, *(child.id for child in children)}


def test_a_child_is_a_run_like_any_other(submit) -> None:
    run = submit.done(CHILDREN)
    child = next(run.get_children())
    assert submit.experiment.workspace.get_run(child.id).parent.id == run.id
    assert child.get_details()["status"] == "Completed"
    assert child.get_file_names() == []
    assert child.wait_for_completion(show_output=True)["runId"] == child.id
    child.tag("seen", "yes")
    assert child.tags["seen"] == "yes"


def test_children_are_listed_when_asked_for(submit) -> None:
    run = submit.done(CHILDREN)
    assert [one.id for one in submit.experiment.get_runs()] == [run.id]
    everything = list(submit.experiment.get_runs(include_children=True))
    assert len(everything) == 3
    assert everything[0].id == run.id


def test_get_runs_newest_first_with_filters(submit) -> None:
    runs = [
        submit.done("", tags={"n": str(n), "even": ""} if n % 2 == 0 else {}) for n in range(4)
    ]
    listed = [run.id for run in submit.experiment.get_runs()]
    assert listed == [run.id for run in reversed(runs)]
    assert [r.id for r in submit.experiment.get_runs(tags="even")] == [runs[2].id, runs[0].id]
    assert [r.id for r in submit.experiment.get_runs(tags={"n": "2"})] == [runs[2].id]
    runs[1].add_properties({"kept": "yes"})
    assert [r.id for r in submit.experiment.get_runs(properties="kept")] == [runs[1].id]
    assert len(list(submit.experiment.get_runs(type="azureml.scriptrun"))) == 4
    assert list(submit.experiment.get_runs(type="azureml.other")) == []


def test_delete(submit) -> None:
    run, other = submit.done(CHILDREN), submit.done()
    run.delete()
    assert [one.id for one in submit.experiment.get_runs(include_children=True)] == [other.id]
    assert os.listdir(".rechain/experiments/digits") == [other.id]
    with pytest.raises(UserErrorException, match="no run"):
        submit.experiment.workspace.get_run(run.id)
    with pytest.raises(UserErrorException, match=f"the run {run.id} is not there any more"):
        run.get_status()


def test_delete_after_a_child_was_removed_by_hand(submit) -> None:
    import shutil

    run = submit.done(CHILDREN)
    shutil.rmtree(next(run.get_children()).folder)
    run.delete()
    assert list(submit.experiment.get_runs()) == []


def test_a_running_run_is_not_deleted(submit) -> None:
    run = submit("import time; time.sleep(1000)")
    with pytest.raises(UserErrorException, match=f"{run.id} has not ended: cancel it first"):
        run.delete()
    run.cancel()
    run.wait_for_completion()
    run.delete()
    assert not os.path.exists(run.folder)


def test_a_run_of_a_place_only_others_know_is_listed(submit) -> None:
    """One run from a newer Rechain must not hide the others."""
    run = submit.done()
    job = Path(run.folder, "job.json")
    text = job.read_text()
    job.unlink()
    job.write_text(text.replace('"target": "local"', '"target": "moon"'))
    Path(run.folder, "attempts/1/journal.jsonl").unlink()
    (listed,) = submit.experiment.get_runs()
    assert listed.get_status() == "Starting"


@pytest.mark.parametrize(
    ("module", "function", "name"),
    [
        ("mnist", "get_mnist", "mnist"),
        ("fashion_mnist", "get_fashion_mnist", "fashion-mnist"),
        ("cifar", "get_cifar10", "cifar10"),
        ("cifar", "get_cifar100", "cifar100"),
    ],
)
def test_a_fake_chainer_whose_download_fails_gets_the_way_out(
    submit, source, module, function, name
) -> None:
    """The traceback is Chainer's; what fails is a real connection to a port without a server."""
    for package in ("chainer", "chainer/dataset", "chainer/datasets"):
        (source / package).mkdir()
        (source / package / "__init__.py").touch()
    (source / "chainer/dataset/download.py").write_text(
        "import urllib.request\ndef cached_download(url):\n    urllib.request.urlretrieve(url)\n"
    )
    (source / f"chainer/datasets/{module}.py").write_text(
        "from chainer.dataset.download import cached_download\n"
        f"def {function}():\n    cached_download('http://127.0.0.1:1/x')\n"
    )
    run = submit.done(f"from chainer.datasets.{module} import {function}\n{function}()")
    end = fold(RunPaths(run.folder)).end
    assert end["detail"].startswith("urllib.error.URLError")
    assert f"rechain data chainer {name} --from" in end["hint"]
    other = submit.done("import urllib.request as r; r.urlopen('http://127.0.0.1:1/x')")
    assert not fold(RunPaths(other.folder)).end["hint"]
