"""`.runconfig` files: written, found, read, kept."""

from __future__ import annotations

import json

import pytest

from rechain.exceptions import UserErrorException
from rechain.runconfig import Environment, MpiConfiguration, RunConfiguration
from rechain.runconfig.environment import EnvironmentReference

pytestmark = pytest.mark.fast

# A file as v1 wrote it in 2019, shortened, and edited by hand.
OLD = """\
# How we train
script: train.py
arguments: []
target: cpu
framework: Python
communicator: None
autoPrepareEnvironment: true
maxRunDurationSeconds:
nodeCount: 1   # for now
environment:
  name: project_environment
  version: Autosave_2019
  python:
    userManagedDependencies: false
    interpreterPath: python
    condaDependenciesFile: .azureml/cd.yml
  docker: {enabled: true, gpuSupport: false, baseImage: b, sharedVolumes: true, arguments: []}
  environmentVariables: {A: b}
dataReferences:
  r1: {dataStoreName: ds, pathOnDataStore: p, mode: download, overwrite: true, pathOnCompute: c}
"""


@pytest.fixture
def project(home):
    (home / ".azureml").mkdir()
    (home / ".azureml" / "old.runconfig").write_text(OLD)
    (home / ".azureml" / "cd.yml").write_text("name: k\ndependencies: [python=3.6]\n")
    return home


def test_what_is_saved_comes_back(home) -> None:
    run = RunConfiguration("train.py", ["--a", 1], communicator="IntelMpi")
    run.mpi = MpiConfiguration(2)
    run.environment.python.conda_dependencies.add_pip_package("chainer==5.1.0")
    run.save(home, "mine")
    assert sorted(path.name for path in (home / ".azureml").iterdir()) == [
        "conda_dependencies.yml",
        "mine",
    ]
    again = RunConfiguration.load(home, "mine")
    assert again.environment.python.conda_dependencies_file == ".azureml/conda_dependencies.yml"
    again.environment.python.__dict__["conda_dependencies_file"] = None
    assert again.to_document() == run.to_document()


def test_two_in_one_folder_keep_apart_what_they_need(home) -> None:
    """In v1 the second one's conda file replaces the first one's; a deliberate difference."""

    def packages(name: str) -> list[str]:
        run = RunConfiguration.load(home, name)
        return list(run.environment.python.conda_dependencies.pip_packages)

    run = RunConfiguration()
    run.save(home, "a")
    run.environment.python.conda_dependencies.add_pip_package("q")
    run.save(home, "b.runconfig")
    assert (packages("a"), packages("b")) == (["azureml-defaults"], ["azureml-defaults", "q"])
    run.environment.python.conda_dependencies.add_pip_package("r")
    run.save(home, "b.runconfig")
    assert (packages("a"), packages("b")[2:]) == (["azureml-defaults"], ["r"])
    assert sorted(path.name for path in (home / ".azureml").iterdir()) == [
        "a", "b.runconfig", "conda_dependencies.yml", "conda_dependencies_b.yml",
    ]  # fmt: skip


def test_the_environment_may_have_a_file_of_its_own(home) -> None:
    run = RunConfiguration()
    run.environment.name = "mine"
    run.save(home, "a", separate_environment_yaml=True)
    assert "environment: .azureml/environment.yml" in (home / ".azureml" / "a").read_text()
    assert RunConfiguration.load(home, "a").environment.name == "mine"


def test_an_old_file_is_read_and_keeps_what_is_written_in_it(project) -> None:
    run = RunConfiguration.load(project, "old")
    environment = run.environment
    assert environment.python.conda_dependencies.as_dict()["name"] == "k"
    assert (environment.docker.enabled, environment.environment_variables) == (True, {"A": "b"})
    assert run.data_references["r1"].to_document() == {
        "dataStoreName": "ds", "pathOnDataStore": "p", "mode": "download", "overwrite": True,
        "pathOnCompute": "c",
    }  # fmt: skip
    run.node_count = 4
    run.save(name="old.runconfig")
    text = (project / ".azureml" / "old.runconfig").read_text()
    assert text.startswith("# How we train\n")
    assert "nodeCount: 4   # for now\n" in text
    assert "autoPrepareEnvironment: true" in text
    assert RunConfiguration.load(project, "old").node_count == 4


def test_a_file_that_is_saved_again_has_its_conda_packages_in_one_place(project) -> None:
    (project / ".azureml" / "inline.runconfig").write_text(
        "environment:\n  python:\n    condaDependencies: {dependencies: [python=3.6]}\n"
    )
    for name in ("old", "inline"):
        for separate in (False, True):
            run = RunConfiguration.load(project, name)
            run.environment.python.conda_dependencies.set_python_version("3.7")
            run.save(name=f"{name}.runconfig", separate_environment_yaml=separate)
            for saved in (f"{name}.runconfig", "environment.yml")[: 1 + separate]:
                assert "condaDependencies:" not in (project / ".azureml" / saved).read_text()
            again = RunConfiguration.load(project, name).environment.python.conda_dependencies
            assert again.get_python_version() == "3.7"


def test_json_is_read_too(project) -> None:
    run = RunConfiguration("a.py")
    run.environment.name = "j"
    (project / "j.json").write_text(json.dumps(run.to_document()))
    for given in ((project / "j.json",), (project, "j.json")):
        assert RunConfiguration.load(*given).to_document() == run.to_document()


def test_a_file_is_found_in_every_place(home) -> None:
    for folder in (".azureml", "aml_config", "."):
        (home / folder).mkdir(exist_ok=True)
        (home / folder / "x.runconfig").write_text(f"script: {folder}/x.py\n")
    assert RunConfiguration.load(home, "x").script == "aml_config/x.py"
    RunConfiguration.delete(home, "x")
    assert RunConfiguration.load(home, "x.runconfig").script == ".azureml/x.py"
    RunConfiguration.delete(home, "x")
    assert RunConfiguration.load(str(home), "x").script == "./x.py"
    assert RunConfiguration.load(home / "x.runconfig").script == "./x.py"


def test_a_path_may_be_the_file(home) -> None:
    RunConfiguration("a.py").save(home / "here.runconfig")
    assert RunConfiguration.load(home / "here.runconfig").script == "a.py"
    assert (home / "conda_dependencies.yml").is_file()
    RunConfiguration("b.py").save(home, "inside.runconfig")
    inside = RunConfiguration.load(home / ".azureml" / "inside.runconfig")
    assert inside.script == "b.py"


def test_a_reference_is_kept_as_one(home) -> None:
    run = RunConfiguration()
    run.environment = EnvironmentReference("e", "2")
    run.save(home, "r")
    again = RunConfiguration.load(home, "r").environment
    assert (type(again), again.name, again.version) == (EnvironmentReference, "e", "2")


def test_no_environment_is_saved_as_none(home) -> None:
    run = RunConfiguration()
    run.environment = None
    assert '"environment": null' in repr(run)
    run.save(home, "r")
    assert RunConfiguration.load(home, "r").environment is None


def test_names_of_the_users_stay_as_they_are(home) -> None:
    from rechain.runconfig.data import Data

    run = RunConfiguration()
    run.environment_variables = {"My_Var": "1"}
    run.data = {"my_input": Data(options={"a_b": 1})}
    run.save(home, "n")
    again = RunConfiguration.load(home, "n")
    assert again.environment_variables == {"My_Var": "1"}
    assert again.data["my_input"].options == {"a_b": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1]", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: [", "line 1: this is not YAML"),
        ("nodeCount: many", "bad.nodeCount is 'many', a str; it must be an int"),
        ("environment: no.yml", "refers to no.yml, which is not in"),
        ("environment: {python: {condaDependenciesFile: no.yml}}", "refers to no.yml"),
    ],
)
def test_a_bad_file_is_refused_by_name(home, text, words) -> None:
    (home / "bad").write_text(text)
    with pytest.raises(UserErrorException) as caught:
        RunConfiguration.load(home, "bad")
    assert words in caught.value.message
    assert str(home / "bad") in caught.value.message


def test_what_is_not_there(home) -> None:
    with pytest.raises(UserErrorException, match=r"no run configuration nope or nope.runconfig"):
        RunConfiguration.load(home, "nope")
    with pytest.raises(UserErrorException, match="name says which one"):
        RunConfiguration.load(home)
    with pytest.raises(UserErrorException, match="no run configuration nope"):
        RunConfiguration.delete(home, "nope")
    with pytest.raises(UserErrorException, match="name is missing"):
        RunConfiguration().save(home)
    with pytest.raises(UserErrorException, match="nowhere is not there"):
        RunConfiguration().save("nowhere/x.runconfig")


def test_the_constructor_is_v1s() -> None:
    conda = Environment("e").python.conda_dependencies
    run = RunConfiguration("a.py", ["x", 1], "PySpark", "IntelMpi", conda, None, "y", "x", "c")
    assert run.environment.python.conda_dependencies is conda
    assert (run.script, run.arguments, run.framework, run.communicator, run.command) == (
        "a.py", ["x", 1], "PySpark", "IntelMpi", "c",
    )  # fmt: skip
    assert (run._name, run._path) == ("x", "y")
    assert json.loads(str(run)) == run.to_document()
