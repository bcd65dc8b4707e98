"""Use every member of a run. Started by tests, in a run folder and outside, on old Pythons."""

# ruff: noqa: PT017, PT018, UP

import collections
import enum
import io
import math
import os
import sys
import warnings

import azureml.core
from azureml.core import Experiment, Workspace
from azureml.core import Run as CoreRun
from azureml.core.run import Run, _OfflineRun, get_run
from azureml.exceptions import AzureMLException, RunEnvironmentException, UserErrorException

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


def refuses(error, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except error as raised:
        assert not isinstance(raised, AzureMLException) or raised.message, raised
        return
    raise AssertionError(f"{error} was not raised")


class Level(enum.IntEnum):
    high = 3


class Figure:
    def savefig(self, target, format=None):
        assert format == "png"
        target.write(PNG)


assert azureml.core.VERSION and CoreRun is Run and get_run and Workspace and Experiment
offline = "RECHAIN_RUN_DIR" not in os.environ
run = Run.get_context()
assert run is Run.get_context()
assert isinstance(run, Run) and isinstance(run, _OfflineRun) == offline
if offline:
    assert run.id.startswith("OfflineRun_")
    refuses(RunEnvironmentException, Run.get_context, allow_offline=False)
    refuses(RunEnvironmentException, Run.get_submitted_run)
else:
    assert run.id == os.environ["RECHAIN_RUN_ID"]
    assert (
        Run.get_submitted_run() is run and Run.get(run.experiment.workspace, run.id).id == run.id
    )
    assert get_run(run.experiment, run.id).id == run.id
    refuses(UserErrorException, get_run, run.experiment, "exp_1_00000000")
    assert run.experiment.name == "exp" and run.experiment.workspace.name == "ws"

for value in (1, 2.5, True, None, "text"):
    run.log(type(value).__name__, value)
run.log("nan", float("nan"))
run.log("inf", -math.inf)
run.log("enum", Level.high)
for value in (1, 2, 3):
    run.log("several", value, "description")
run.log("stepped", 0.5, step=2)
run.log("stepped", 0.1, step=1)
run.log("stepped", 0.7, step=2)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    run.log("object", {"a": 1})
assert len(caught) == 1
for value in ([1], range(3), (n for n in (1, 2))):
    refuses(UserErrorException, run.log, "bad", value)
refuses(UserErrorException, run.log, "bad", 1, step="one")
run.log_list("list", (n for n in (1, 2.5)))
run.log_list("list", [3])
run.log_list("one", [7])
run.log_list("none", [])
refuses(AzureMLException, run.log_list, "bad", [[1]])
refuses(UserErrorException, run.log_list, "bad", 3)
run.log_row("row", x=1, y="a")
for index in range(3):
    run.log_row("rows", "description", x=index, y=index * 2)
refuses(AzureMLException, run.log_row, "bad", b=[1])
run.log_table("table", collections.OrderedDict([("x", [1, 2]), ("y", [3, 4])]))
run.log_table("scalars", {"x": 1, "y": 2})
run.log_table("nothing", {})
refuses(AzureMLException, run.log_table, "bad", {"x": [1], "y": [1, 2]})
refuses(AttributeError, run.log_table, "bad", [1])
with open("image.png", "wb") as file:
    file.write(PNG)
with open("text.txt", "w") as file:
    file.write("text")
run.log_image("image", path="image.png")
run.log_image("plot", plot=Figure())
refuses(AzureMLException, run.log_image, "bad")
refuses(AzureMLException, run.log_image, "bad", "image.png", Figure())
refuses(AzureMLException, run.log_image, "bad", "text.txt")
refuses(AzureMLException, run.log_image, "bad", plot=3)
matrix = {"schema_type": "confusion_matrix", "schema_version": "v1", "data": {"matrix": [[1]]}}
run.log_confusion_matrix("matrix", matrix)
run.log_accuracy_table("accuracy", '{"data": {}}')
run.log_residuals("residuals", {"data": {}})
run.log_predictions("predictions", {"data": {}})
refuses(UserErrorException, run.log_residuals, "bad", "{")
refuses(UserErrorException, run.log_residuals, "bad", "[]")
run.flush()

metrics = run.get_metrics()
assert math.isnan(metrics.pop("nan"))
assert metrics.pop("plot").startswith("plot_") and metrics.pop("image") == "image.png"
assert metrics == {
    "int": 1, "float": 2.5, "bool": True, "NoneType": None, "str": "text", "inf": -math.inf,
    "enum": 3, "several": [1, 2, 3], "stepped": [0.1, 0.7], "object": "{'a': 1}",
    "list": [1, 2.5, 3], "one": [7], "row": {"x": 1, "y": "a"},
    "rows": {"x": [0, 1, 2], "y": [0, 2, 4]}, "table": {"x": [1, 2], "y": [3, 4]},
    "scalars": {"x": 1, "y": 2}, "matrix": matrix,
    "accuracy": {"schema_type": "accuracy_table", "data": {}},
    "residuals": {"schema_type": "residuals", "data": {}},
    "predictions": {"schema_type": "predictions", "data": {}},
}, metrics  # fmt: skip
assert run.get_metrics("int") == {"int": 1} and run.get_metrics("missing") == {}

run.tag("a", 1)
run.tag("bare")
run.set_tags({"b": "two", "c": "three"})
assert run.remove_tags(["c"]) == run.get_tags() == run.tags == {"a": "1", "bare": None, "b": "two"}
run.add_properties({"p": 1})
run.add_properties({"p": 1, "q": "x"})
refuses(UserErrorException, run.add_properties, {"p": 2})
assert run.get_properties() == run.properties == {"p": "1", "q": "x"}

os.makedirs("folder/deep")
with open("folder/deep/file.txt", "w") as file:
    file.write("deep")
run.upload_file("outputs/text.txt", "text.txt")
run.upload_file("stream.bin", io.BytesIO(b"stream"))
run.upload_file(name="words.txt", path_or_stream=io.StringIO("words"))
run.upload_files(["one.txt", "two.txt"], ["text.txt", "text.txt"])
run.upload_folder("below", "folder")
refuses(AzureMLException, run.upload_file, "stream.bin", "text.txt")
refuses(TypeError, run.upload_files, ["a"], [])
refuses(UserErrorException, run.upload_file, "../escape", "text.txt")
if not offline:
    refuses(UserErrorException, run.upload_file, "missing", "no such file")
refuses(UserErrorException, run.upload_folder, "a", "no such folder")
names = run.get_file_names()
expected = "below/deep/file.txt image.png one.txt outputs/text.txt stream.bin two.txt words.txt"
assert set(expected.split()) <= set(names), names
run.download_file("stream.bin", "copies/stream")
run.download_file("outputs/text.txt", "copies")
run.download_file("words.txt")
run.download_files("below", "copies", append_prefix=False)
for path, text in (
    ("copies/stream", "stream"), ("copies/text.txt", "text"), ("words.txt", "words"),
    ("copies/deep/file.txt", "deep"),
):  # fmt: skip
    with open(path) as file:
        assert file.read() == text
refuses(UserErrorException, run.download_file, "nothing")

with run.child_run("first") as child:
    child.log("loss", 1)
    assert child.parent.id == run.id and child.name == child.display_name == "first"
    grandchild = child.child_run()
    grandchild.log("loss", 2)
    grandchild.cancel()
assert child.get_status() == child.status == "Completed" and grandchild.status == "Canceled"
try:
    with run.child_run("second") as failing:
        raise ValueError("no")
except ValueError:
    assert failing.get_status() == "Failed"
tagged = run.create_children(tag_key="k", tag_values=[1, 2])
counted = run.create_children(3)
refuses(UserErrorException, run.create_children)
refuses(UserErrorException, run.create_children, count=101)
refuses(UserErrorException, run.create_children, tag_key="k")
assert len(list(run.get_children())) == 7 and len(list(run.get_children(recursive=True))) == 8
assert [c.id for c in run.get_children(tags={"k": "2"})] == [tagged[1].id]
assert [c.id for c in run.get_children(status="Failed")] == [failing.id]
tagged[0].fail("text", error_code="Code")
refuses(TypeError, tagged[1].fail, 3)
tagged[1].display_name = "renamed"
assert tagged[1].name == "renamed" and tagged[0].wait_for_completion()["status"] == "Failed"
recursive = run.get_metrics(recursive=True)
assert recursive[child.id] == {"loss": 1} and recursive[grandchild.id] == {"loss": 2}

assert run.status == run.get_status() == "Running" and run.parent is None and run.number == 1
assert run.name == run.display_name == run.id and run.type
assert run.get_details()["runId"] == run.id and run.get_details()["status"] == "Running"
assert run.input_datasets == run.output_datasets == {} and run.description is None
assert run.id in repr(run) and run.get_portal_url() is not None and run.get_secret("NO") is None
with Run.get_context(allow_offline=True, used_for_context_manager=True):
    pass
if not offline:
    assert run.status == "Running"
run.description = "what for"
assert run.description == "what for"
model = run.register_model("kept", "outputs/text.txt", tags={"a": 1}) if not offline else None
if not offline:
    assert (model.id, model.tags, model.run_id) == ("kept:1", {"a": "1"}, run.id)
    assert run.register_model(model_name="kept", model_path="outputs/text.txt").version == 2
    refuses(AzureMLException, run.register_model, "kept", "gone")
    refuses(AzureMLException, run.register_model, "a b", "outputs/text.txt")
else:
    run.register_model("kept", "outputs/text.txt")
assert run.get_detailed_status() == {"status": run.get_status(), "details": None}
assert run.portal_url == run.get_portal_url() and run.identity == run.id
assert run.clean() == [] and run.start() is None and run.get_docs_url() is None
run.get_snapshot_id()
for asked in (run.get_all_logs, run.get_environment, run.submit_child):
    refuses(UserErrorException, asked)
run.complete()
run.fail(ValueError("noted"))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    run.cancel()
for forbidden in ("numpy", "matplotlib", "logging", "subprocess", "inspect"):
    assert forbidden not in sys.modules or forbidden in os.environ.get("ALREADY", ""), forbidden
print("all of it worked")
