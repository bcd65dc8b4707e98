"""A model: files of a run or of this machine, kept by name and version."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rechain import Model, Run, Workspace
from rechain.exceptions import (
    ModelPathNotFoundException,
    NotBuiltError,
    UserErrorException,
    WebserviceException,
)
from tests.workspace.conftest import Submitter

pytestmark = pytest.mark.fast

SCRIPT = """
import os
os.makedirs("outputs/whole/deep")
for name in ("outputs/model.npz", "outputs/whole/a", "outputs/whole/deep/b"):
    with open(name, "w") as file:
        file.write(name)
"""


@pytest.fixture
def run(submit: Submitter) -> Run:
    return submit.done(SCRIPT)


def test_a_file_of_a_run(run: Run, tmp_path: Path) -> None:
    model = run.register_model(
        "mnist", "outputs/model.npz", tags={"a": 1}, properties={"p": "q"}, description="digits",
        model_framework="Chainer", model_framework_version="7.0.0",
    )  # fmt: skip
    workspace = run.experiment.workspace
    assert (model.name, model.version, model.id) == ("mnist", 1, "mnist:1")
    assert (model.tags, model.properties, model.description) == ({"a": "1"}, {"p": "q"}, "digits")
    assert (model.model_framework, model.model_framework_version) == ("Chainer", "7.0.0")
    assert (model.run_id, model.experiment_name) == (run.id, "digits")
    assert model.run is not None
    assert model.run.id == run.id
    assert workspace.models["mnist"].serialize() == model.serialize()
    path = model.download(tmp_path / "here")
    assert path == str(tmp_path / "here" / "model.npz")
    assert Path(path).read_text() == "outputs/model.npz"
    assert Path(Model.get_model_path("mnist", _workspace=workspace)).read_text()
    with pytest.raises(WebserviceException, match="exist_ok=True"):
        model.download(tmp_path / "here")
    assert model.download(tmp_path / "here", exist_ok=True) == path


def test_a_folder_of_a_run_is_the_next_version(run: Run, tmp_path: Path) -> None:
    run.register_model("mnist", "outputs/model.npz")
    second = run.register_model("mnist", "outputs/whole/")
    assert second.version == 2
    path = Path(second.download(str(tmp_path)))
    assert path.name == "whole"
    assert (path / "deep" / "b").read_text() == "outputs/whole/deep/b"
    workspace = run.experiment.workspace
    assert Model(workspace, "mnist").version == 2
    assert Model(workspace, "mnist", version=1).id == Model(workspace, id="mnist:1").id
    assert [model.id for model in Model.list(workspace)] == ["mnist:2", "mnist:1"]
    assert [model.id for model in Model.list(workspace, latest=True)] == ["mnist:2"]
    assert Model.list(workspace, run_id="other") == []
    second.delete()
    assert Model(workspace, "mnist").version == 1


def test_what_the_run_has_not(run: Run) -> None:
    with pytest.raises(ModelPathNotFoundException, match=r"outputs/model\.npz"):
        run.register_model("mnist", "outputs/gone")
    with pytest.raises(ModelPathNotFoundException, match="'mnist'"):
        run.register_model("mnist")
    for name in ("", "-a", "a b", None, "x" * 300):
        with pytest.raises(WebserviceException, match="model_name is"):
            run.register_model(name, "outputs/model.npz")


def test_files_of_this_machine(home: Path) -> None:
    workspace = Workspace.local()
    (home / "made").mkdir()
    (home / "made" / "a").write_text("a")
    (home / "made" / "b").write_text("b")
    model = Model.register(workspace, "made", "mine", child_paths=["a"])
    assert os.listdir(Model.get_model_path("mine")) == ["a"]
    model.add_tags({"x": 1, "y": "2"})
    model.remove_tags(["x"])
    model.add_properties({"p": "q"})
    model.update(description="words")
    kept = Model(workspace, "mine", tags=[["y", "2"]], properties=["p"])
    assert (kept.tags, kept.properties, kept.description) == ({"y": "2"}, {"p": "q"}, "words")
    with pytest.raises(WebserviceException, match="cannot be changed"):
        model.add_properties({"p": "r"})
    with pytest.raises(WebserviceException, match="ModelNotFound"):
        Model(workspace, "mine", tags={"y": "3"})
    with pytest.raises(WebserviceException, match="there is: mine"):
        Model(workspace, "other")
    with pytest.raises(WebserviceException, match="nothing there"):
        Model.register(workspace, "gone", "mine")
    assert Model.deserialize(workspace, model.serialize()).id == "mine:1"


def test_several_at_once_get_a_version_each(home: Path) -> None:
    workspace = Workspace.local()
    (home / "a").write_text("a")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Model.register(workspace, "a", "m").version, range(24)))
    assert sorted(made) == list(range(1, 25))
    assert len(Model.list(workspace, "m")) == 24


def test_a_script_gets_the_path_of_a_model_and_registers_the_next(submit) -> None:
    Path("weights").write_text("old")
    Model.register(Workspace.local(), "weights", "mnist")
    Model.register(Workspace.local(), "weights", "mnist").add_tags({"a": "b"})
    run = submit.done(
        """
        from azureml.core import Model, Run
        from azureml.core.model import Model as Same
        assert Model is Same
        path = Model.get_model_path("mnist", version=1)
        with open("outputs/weights", "w") as file:
            file.write(open(path).read() + " and new")
        Run.get_context().register_model("mnist", "outputs/weights")
        print(open(Model.get_model_path("mnist")).read())
        try:
            Model.get_model_path("mnist", version=7)
        except Exception as error:
            print(error)
        """
    )
    out = Path(run.folder, "attempts/1/0.out").read_text().splitlines()
    assert out[0] == "old and new", Path(run.folder, "attempts/1/0.err").read_text()
    assert "of version 7" in out[1]
    assert "1, 2, 3" in out[1]
    newest = Model(Workspace.local(), "mnist")
    assert (newest.version, newest.run_id) == (3, run.id)


def test_the_number_of_a_deleted_version_is_not_given_away(home: Path) -> None:
    workspace = Workspace.local()
    (home / "a").write_text("a")
    Model.register(workspace, "a", "m")
    second = Model.register(workspace, "a", "m")
    second.delete()
    with pytest.raises(WebserviceException, match="not there any more"):
        second.delete()
    assert Model.register(workspace, "a", "m").version == 3
    assert [model.id for model in Model.list(workspace)] == ["m:3", "m:1"]
    assert Model.get_model_path("m:1").endswith("m/1/files/a")
    with pytest.raises(WebserviceException, match="ModelNotFound"):
        Model.get_model_path("m", version=2)


def test_what_makes_no_model_is_refused_and_leaves_nothing(home: Path) -> None:
    workspace = Workspace.local()
    (home / "empty").mkdir()
    (home / "one").mkdir()
    (home / "one" / "a").write_text("a")
    os.mkfifo(home / "one" / "pipe")
    bad = [
        ({"model_path": "empty"}, "would have no files"),
        ({"model_path": "one", "child_paths": ["b"]}, "child_paths has 'b'"),
        ({"model_path": "one", "child_paths": ["../one/a"]}, "child_paths has"),
        ({"model_path": "one/a", "tags": ["x"]}, "tags is"),
        ({"model_path": "one/a", "properties": "x"}, "properties is"),
        ({"model_path": "one"}, "cannot be kept"),
    ]
    for given, words in bad:
        with pytest.raises(WebserviceException, match=words):
            Model.register(workspace, model_name="m", **given)
    assert Model.list(workspace) == []
    folder = Path(workspace.path, "models", "m")
    assert not folder.exists() or os.listdir(folder) == []


def test_services_are_not_built_yet(home: Path) -> None:
    with pytest.raises(NotBuiltError, match=r"Model\.deploy is planned"):
        Model.deploy(Workspace.local(), "service", [])
    with pytest.raises(UserErrorException, match=r"Model\.get_sas_urls needs Azure"):
        Model.get_sas_urls()
