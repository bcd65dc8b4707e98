"""Data among an estimator's parameters: as v1 writes it down, and as the script gets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rechain.data import (
    DataPath,
    Dataset,
    DatasetConsumptionConfig,
    Datastore,
    OutputFileDatasetConfig,
)
from rechain.estimator import Chainer, compile
from rechain.exceptions import UserErrorException
from rechain.job.job import Job
from rechain.workspace import Experiment, Workspace

pytestmark = pytest.mark.fast


@pytest.fixture
def store(home) -> Datastore:
    store = Workspace.local().get_default_datastore()
    (home / "mnist").mkdir()
    (home / "mnist" / "a.txt").write_text("digits")
    store.upload(home / "mnist", "mnist", show_progress=False)
    return store


@pytest.fixture
def code(source: Path) -> str:
    (source / "train.py").write_text(
        "import os, sys\n"
        "print(sys.argv[1:])\n"
        "print(open(os.path.join(sys.argv[2], 'a.txt')).read())\n"
        "print({n for n in os.environ if n.startswith('AZUREML_DATAREFERENCE') or n == 'pics'})\n"
    )
    return str(source)


def chainer(code: str, **parameters) -> Chainer:
    return Chainer(
        code,
        **{
            "entry_script": "train.py",
            "compute_target": "local",
            "user_managed": True,
            "use_docker": False,
            **parameters,
        },
    )


def compiled(estimator: Chainer) -> Job:
    return compile(estimator, experiment="x", environ={})


def test_the_public_notebooks_way_to_give_data(code, store) -> None:
    """`script_params={'-d': ds.path('mnist').as_mount()}`, in a run that is started."""
    estimator = chainer(code, script_params={"-d": store.path("mnist").as_mount()})
    run = Experiment(Workspace.local(), "x").submit(estimator)
    run.wait_for_completion()
    said = Path(run.folder, "attempts/1/0.out").read_text().splitlines()
    place = os.path.join(store.folder, "mnist")
    assert said[:2] == [f"['-d', '{place}']", "digits"]
    assert said[2].startswith("{'AZUREML_DATAREFERENCE_")


def test_data_is_written_down_as_v1_does(code, store) -> None:
    pictures = Dataset.File.from_files((store, "mnist"))
    estimator = chainer(
        code,
        script_params={
            "--all": store,
            "--part": [store.path("mnist", "part"), 3],
            "--pics": pictures.as_named_input("pics").as_mount(),
            "--out": OutputFileDatasetConfig("out", (store, "out")),
        },
        inputs=[store.path("more", "more").as_download("here")],
        resume_from=DataPath(store, "old"),
    )
    run = estimator.run_config
    assert run.arguments == [
        "--all", "$AZUREML_DATAREFERENCE_workspaceblobstore",
        "--part", "$AZUREML_DATAREFERENCE_part", 3,
        "--pics", "DatasetConsumptionConfig:pics",
        "--out", "DatasetOutputConfig:out",
        "--resume-from", "$AZUREML_DATAREFERENCE_MODEL_LOCATION",
    ]  # fmt: skip
    assert list(run.data_references) == [
        "workspaceblobstore", "part", "MODEL_LOCATION", "more",
    ]  # fmt: skip
    assert run.data_references["more"].to_document() == {
        "dataStoreName": "workspaceblobstore", "pathOnDataStore": "more", "mode": "download",
        "overwrite": False, "pathOnCompute": "here",
    }  # fmt: skip
    assert run.data["pics"].environment_variable_name == "pics"
    assert run.output_data["out"].output_location.data_path.relative_path == "out"


def test_places_are_arguments_and_variables(code, store) -> None:
    pictures = Dataset.File.from_files((store, "mnist")).as_named_input("pics").as_mount()
    job = compiled(
        chainer(
            code,
            script_params={"--a": [store.path("mnist", "part"), 3], "--pics": pictures},
            inputs=[store],
            resume_from=DataPath(store, "old"),
        )
    )
    mnist, old = (os.path.join(store.folder, name) for name in ("mnist", "old"))
    assert job.command == ["train.py", "--a", mnist, "3", "--pics", mnist, "--resume-from", old]
    assert job.variables == {
        "AZUREML_DATAREFERENCE_part": mnist,
        "pics": mnist,
        "AZUREML_DATAREFERENCE_MODEL_LOCATION": old,
        "AZUREML_DATAREFERENCE_workspaceblobstore": store.folder,
    }


def test_resuming_takes_the_place_of_the_callers_own(code, store) -> None:
    given = {"--resume-from": "x", "--b": 1}
    job = compiled(chainer(code, script_params=given, resume_from=DataPath(store, "old")))
    assert job.command[1:] == ["--resume-from", os.path.join(store.folder, "old"), "--b", "1"]
    assert given == {"--resume-from": "x", "--b": 1}


def test_arguments_changed_in_the_run_configuration_still_find_their_data(code, store) -> None:
    estimator = chainer(code, script_params={"--a": store.path("mnist", "part")})
    estimator.run_config.arguments.append("--more")
    assert compiled(estimator).command[1:] == [
        "--a",
        os.path.join(store.folder, "mnist"),
        "--more",
    ]


def test_what_is_no_argument_is_refused(code, store) -> None:
    several = Dataset.File.from_files([(store, "mnist/a.txt"), (store, "mnist")])
    for data, words in (
        (several, "say how the run gets at it"),
        (OutputFileDatasetConfig("o"), "give a datastore"),
        (DatasetConsumptionConfig("pics", 3, "mount"), "must be a dataset of files"),
    ):
        with pytest.raises(UserErrorException, match=words):
            compiled(chainer(code, script_params={"--a": data}))
    with pytest.raises(UserErrorException, match="the dataset's name is 'a/b'"):
        OutputFileDatasetConfig("o", (store, "o")).register_on_complete("a/b")


SCRIPT = """
import json, os, sys
from azureml.core import Run
run = Run.get_context()
said = {"argv": sys.argv[1:], "env": {n: os.environ[n] for n in os.environ if "DATA" in n or n in
    ("pics", "out", "few", "id")}, "inputs": {k: str(v) for k, v in run.input_datasets.items()}}
print(json.dumps(said))
for name, value in said["env"].items():
    if os.path.isdir(value):
        print(name, sorted(os.path.relpath(os.path.join(d, f), value)
            for d, _, fs in os.walk(value) for f in fs))
for place in sys.argv[1:]:
    if os.path.isdir(place) and ("write" in place or "sent" in place or "made" in place):
        open(os.path.join(place, "model.npz"), "w").write("weights")
"""


def ran(code: str, **parameters):
    run = Experiment(Workspace.local(), "x").submit(chainer(code, **parameters))
    run.wait_for_completion(raise_on_error=False)
    return run


def test_all_that_data_can_be_reaches_the_script(code, source, store, home) -> None:
    (source / "train.py").write_text(SCRIPT)
    (home / "mnist" / "sub").mkdir()
    (home / "mnist" / "sub" / "b.txt").write_text("more")
    store.upload(home / "mnist", "mnist", show_progress=False)
    whole = Dataset.File.from_files((store, "mnist"))
    few = Dataset.File.from_files([(store, "mnist/*.txt"), (store, "mnist/sub")])
    one = Dataset.File.from_files((store, "mnist/a.txt"))
    run = ran(
        code,
        script_params={
            "--a": store.path("mnist", "part").as_download("got/mnist"),
            "--b": whole.as_named_input("pics").as_mount("shown"),
            "--c": few.as_named_input("few").as_mount(),
            "--d": one.as_named_input("one").as_download(),
            "--e": whole.as_named_input("id"),
            "--f": store.path("left", "left").as_upload("write"),
            "--g": OutputFileDatasetConfig("out", (store, "made/{run-id}")),
            "--h": OutputFileDatasetConfig("sent", (store, "sent/{output-name}")).as_upload(),
        },
    )
    assert run.status == "Completed", run.cause
    lines = Path(run.folder, "attempts/1/0.out").read_text().splitlines()
    said = json.loads(lines[0])
    argv = dict(zip(said["argv"][::2], said["argv"][1::2], strict=True))
    work = run.folder + "/work"
    assert argv["--a"] == said["env"]["AZUREML_DATAREFERENCE_part"] == work + "/got/mnist"
    assert argv["--b"] == said["env"]["pics"] == work + "/shown"
    assert os.readlink(argv["--b"]) == os.path.join(store.folder, "mnist")
    assert argv["--c"] == said["env"]["few"]
    assert f"few {['a.txt', 'sub/b.txt']}" in lines
    assert f"AZUREML_DATAREFERENCE_part {['a.txt', 'sub/b.txt']}" in lines
    assert Path(argv["--d"]).read_text() == "digits"
    assert not os.path.islink(argv["--d"])
    assert len(argv["--e"]) == 36
    assert said["inputs"]["pics"] == argv["--b"]
    assert said["env"]["AZUREML_DATASET_ENVIRONMENT_VARS"].startswith("pics:mount,few:mount")
    made = Path(store.folder)
    for path in ("left/model.npz", f"made/{run.id}/model.npz", "sent/sent/model.npz"):
        assert (made / path).read_text() == "weights"
    record = json.loads(Path(run.folder, "inputs.json").read_text())
    kept = {entry["name"]: entry for entry in record["inputs"]}
    assert (kept["part"]["count"], kept["part"]["bytes"]) == (2, 10)
    # A copy or not, the contents are the same, and the record says so.
    assert kept["part"]["digest"] == kept["pics"]["digest"] != kept["one"]["digest"]


def test_a_missing_input_ends_the_run_with_one_line(code, store) -> None:
    run = ran(code, script_params={"-d": store.path("nope").as_download()})
    assert run._state().end["cause"] == "input"
    assert run._state().end["message"].startswith("the datastore workspaceblobstore has no 'nope'")
    assert not Path(run.folder, "attempts/1/0.out").exists()


def test_a_mounted_path_that_is_not_there_is_made_for_the_script_to_write_to(code, store) -> None:
    code_of = Path(code) / "train.py"
    code_of.write_text("import sys; open(sys.argv[2] + '/model.npz', 'w').write('weights')")
    run = ran(code, script_params={"-d": store.path("made/new").as_mount()})
    assert run.status == "Completed", run.cause
    assert (Path(store.folder) / "made/new/model.npz").read_text() == "weights"
    (log,) = Path(run.folder, "attempts/1").glob("*prepare*")
    assert "was not there: an empty folder is mounted" in log.read_text()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "./../.."])
def test_a_place_out_of_the_run_is_refused(code, store, path) -> None:
    run = ran(code, script_params={"-d": store.path("mnist").as_download(path)})
    assert run._state().end["cause"] == "input"
    assert "below the run's folder" in run._state().end["message"]


def test_a_link_that_leads_out_of_a_datastore_is_refused(code, store, home) -> None:
    (home / "secret").mkdir()
    os.symlink(home / "secret", os.path.join(store.folder, "mnist", "link"))
    with pytest.raises(UserErrorException, match="leads out of the datastore"):
        compiled(chainer(code, script_params={"-d": store.path("mnist/link").as_mount()}))


def test_an_output_that_cannot_be_sent_is_a_cause(code, source, store, home) -> None:
    (source / "train.py").write_text(
        "import sys\nopen(sys.argv[2] + '/x', 'w')\n"
        "import shutil\nshutil.rmtree(sys.argv[3])\nopen(sys.argv[3], 'w')\n"
    )
    place = os.path.join(store.folder, "sent")
    sent = OutputFileDatasetConfig("o", (store, "sent/o")).as_upload()
    os.makedirs(place)
    run = ran(code, script_params={"-d": [sent, place]})
    assert run._state().end["cause"] == "output"
    assert "cannot be copied" in run._state().end["message"]


def test_a_replay_tells_that_an_input_changed(code, source, store, home) -> None:
    (source / "train.py").write_text("print(open(__import__('sys').argv[1] + '/a.txt').read())")
    first = ran(code, script_params={"": store.path("mnist", "pics").as_mount()})
    (home / "mnist" / "a.txt").write_text("others")
    store.upload(home / "mnist", "mnist", overwrite=True, show_progress=False)
    done = subprocess.run(
        [Path(sys.executable).with_name("rechain"), "replay", first.id, "--verify"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "the input pics changed" in done.stdout + done.stderr
