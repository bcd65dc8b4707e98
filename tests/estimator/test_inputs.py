"""Data among an estimator's parameters: as v1 writes it down, and as the script gets it."""

from __future__ import annotations

import os
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
from rechain.exceptions import NotBuiltError, UserErrorException
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


def test_what_would_have_to_be_copied_is_not_built_yet(code, store) -> None:
    part = store.path("mnist", "part")
    several = Dataset.File.from_files([(store, "mnist/a.txt"), (store, "mnist")])
    for data in (
        part.as_download(),
        part.as_upload("out"),
        OutputFileDatasetConfig("o"),
        DatasetConsumptionConfig("pics", several, "mount"),
        DatasetConsumptionConfig("pics", several),
    ):
        estimator = chainer(code, script_params={"--a": data})
        with pytest.raises(NotBuiltError, match=r"is not built yet: .* as_mount"):
            compiled(estimator)
    with pytest.raises(UserErrorException, match="say how the run gets at it"):
        compiled(chainer(code, script_params={"--a": several}))
