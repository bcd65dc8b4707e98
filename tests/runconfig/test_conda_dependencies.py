"""Conda specifications: what the methods do, and what comes out of a file and goes into one."""

from __future__ import annotations

import pytest

from rechain.exceptions import UserErrorException
from rechain.runconfig import CondaDependencies

pytestmark = pytest.mark.fast

FILE = """\
name: mine
channels: [a]
dependencies:
- python=3.6.2
- numpy=1.15   # what Chainer 5 was made with
- pip:
  - Foo==1
  - -i https://example.invalid/simple
  - -r more.txt
variables: {A: b}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "conda.yml"
    path.write_text(FILE)
    return path


def pip(conda: CondaDependencies) -> list[str]:
    return list(conda.pip_packages)


def test_the_default_is_v1s() -> None:
    assert CondaDependencies().as_dict() == {
        "name": "project_environment",
        "dependencies": ["python=3.8.13", {"pip": ["azureml-defaults"]}],
        "channels": ["anaconda", "conda-forge"],
    }


def test_a_file_is_read_whole(file) -> None:
    conda = CondaDependencies(file)
    assert list(conda.conda_packages) == ["python=3.6.2", "numpy=1.15"]
    assert pip(conda) == ["Foo==1"]
    assert list(conda.pip_options) == ["-i https://example.invalid/simple", "-r more.txt"]
    assert list(conda.conda_channels) == ["a"]
    assert conda.get_python_version() == "3.6.2"
    assert conda.as_dict()["variables"] == {"A": "b"}


def test_saving_keeps_comments_and_order(file, tmp_path) -> None:
    conda = CondaDependencies(file)
    assert conda.serialize_to_string() == FILE
    conda.add_pip_package("bar")
    conda.save(tmp_path / "again.yml")
    text = (tmp_path / "again.yml").read_text()
    assert "# what Chainer 5 was made with" in text
    assert CondaDependencies(tmp_path / "again.yml").as_dict() == conda.as_dict()


def test_lists_make_a_specification() -> None:
    conda = CondaDependencies.create(["a"][:0], ["numpy"], ["scipy=1.1", "python=3.7"], "3.6.15")
    assert conda.as_dict() == {
        "name": "project_environment",
        "dependencies": ["python=3.7", {"pip": ["numpy"]}, "scipy=1.1"],
        "channels": ["anaconda", "conda-forge"],
    }
    assert pip(CondaDependencies.create()) == ["azureml-defaults"]
    assert list(CondaDependencies.create("https://example.invalid").pip_options) == [
        "--find-links https://example.invalid"
    ]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("foo==1", "foo>=2", ["foo>=2"]),
        ("Foo==1", "foo", ["foo"]),
        ("foo_bar", "Foo.Bar~=2", ["Foo.Bar~=2"]),
        ("foo[x]==1", "foo", ["foo"]),
        ("foo==1", "foo @ https://example.invalid/foo.whl", None),
        ("foo==1", "foobar", ["foo==1", "foobar"]),
        ("a;python_version<'3'", "a", ["a;python_version<'3'", "a"]),
        ("git+file:///a", "git+file:///b", ["git+file:///a", "git+file:///b"]),
        ("./a.whl", "./a.whl", ["./a.whl"]),
    ],
)
def test_a_package_is_required_once(first, second, kept) -> None:
    conda = CondaDependencies.create(pip_packages=[first, second])
    assert pip(conda) == (kept or [second])


def test_packages_are_removed() -> None:
    conda = CondaDependencies.create(pip_packages=["Foo==1", "bar"], conda_packages=["b=1"])
    conda.remove_pip_package("foo")
    conda.remove_pip_package("nope")
    conda.remove_conda_package("b")  # as in v1: only what is written exactly so
    assert (pip(conda), list(conda.conda_packages)) == (["bar"], ["python=3.10.18", "b=1"])
    conda.remove_conda_package("b=1")
    assert list(conda.conda_packages) == ["python=3.10.18"]


def test_options_are_no_packages() -> None:
    conda = CondaDependencies()
    with pytest.raises(UserErrorException, match="set_pip_option"):
        conda.add_pip_package("--pre")
    with pytest.raises(UserErrorException, match="starts with a dash"):
        conda.set_pip_option("pre")
    conda.set_pip_option("-i https://example.invalid/1")
    conda.set_pip_option("-i https://example.invalid/2")
    conda.set_pip_option("--pre")
    assert list(conda.pip_options) == ["-i https://example.invalid/2", "--pre"]
    conda.remove_pip_option("-i")
    assert list(conda.pip_options) == ["--pre"]
    assert pip(conda) == ["azureml-defaults"]


def test_python_has_one_version() -> None:
    conda = CondaDependencies()
    conda.add_conda_package("python>=3.6")
    conda.add_conda_package("pythonnet=2")
    assert list(conda.conda_packages) == ["python=3.6", "pythonnet=2"]
    with pytest.raises(UserErrorException, match="no version"):
        conda.add_conda_package("python")


def test_channels(file) -> None:
    conda = CondaDependencies(file)
    conda.add_channel("b")
    conda.add_channel("b")
    conda.remove_channel("nope")
    assert list(conda.conda_channels) == ["a", "b"]
    conda.remove_channel("a")
    assert list(conda.conda_channels) == ["b"]


def test_requirement_lines_replace_all(file) -> None:
    conda = CondaDependencies(file)
    conda.set_pip_requirements(["-i x", "q"])
    assert (pip(conda), list(conda.pip_options)) == (["q"], ["-i x"])


def test_requirements_merge_to_valid_ones() -> None:
    """v1 pastes them together as text, comments too; these are a deliberate difference."""
    merge = CondaDependencies.merge_requirements
    assert merge(["a", "a==1", "b>1", "b<2"]) == ["a==1", "b>1,<2"]  # as v1
    assert merge(["Foo>=1 # why", "foo<2", "", "# note", "foo>=1"]) == ["Foo>=1,<2"]
    assert merge(["-i x", "./a.whl", "x[y]>1", "x<3"]) == ["-i x", "./a.whl", "x[y]>1,<3"]
    assert merge(["a>1; python_version<'3'", "a>2"]) == ["a>1; python_version<'3'", "a>2"]


def test_what_v1_offers_by_name() -> None:
    conda = CondaDependencies.create(pip_packages=[])
    conda.add_tensorflow_pip_package("gpu", "1.4")
    conda.add_tensorflow_conda_package()
    conda.add_cntk_package()
    assert pip(conda) == ["tensorflow-gpu==1.4", "cntk==2.7"]
    assert list(conda.conda_packages) == ["python=3.10.18", "tensorflow=2.2.0"]
    with pytest.raises(UserErrorException, match="'cpu' or 'gpu'"):
        conda.add_cntk_package("tpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("foo: 1", "has the key 'foo'"),
        ("[1, 2]", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: [:", "line 1: this is not YAML"),
        ("dependencies: x", "dependencies is 'x'; it must be a list"),
        ("dependencies: [1]", "dependencies has the element 1"),
        ("dependencies: [{pip: x}]", "dependencies has the element {'pip': 'x'}"),
    ],
)
def test_a_file_that_is_no_specification_is_refused(tmp_path, text, words) -> None:
    (tmp_path / "bad.yml").write_text(text)
    with pytest.raises(UserErrorException) as caught:
        CondaDependencies(tmp_path / "bad.yml")
    assert words in caught.value.message
    assert "bad.yml" in caught.value.message


def test_parts_that_are_missing_are_empty_and_made_when_needed(tmp_path) -> None:
    (tmp_path / "a.yml").write_text("name: x\n")
    conda = CondaDependencies(tmp_path / "a.yml")
    assert not [*conda.pip_packages, *conda.conda_packages, *conda.conda_channels]
    conda.add_pip_package("a")
    conda.add_channel("c")
    assert conda.as_dict() == {
        "name": "x", "dependencies": [{"pip": ["a"]}], "channels": ["c"],
    }  # fmt: skip
    (tmp_path / "b.yml").write_text("dependencies:\n- pip:\n")
    assert pip(CondaDependencies(tmp_path / "b.yml")) == []


def test_a_string_where_a_list_belongs_is_refused() -> None:
    with pytest.raises(UserErrorException, match=r"pip_packages=\['numpy'\]"):
        CondaDependencies.create(pip_packages="numpy")
    with pytest.raises(UserErrorException, match="must be a str"):
        CondaDependencies().add_pip_package(3)


def test_saving_where_v1_saves(home) -> None:
    conda = CondaDependencies()
    assert conda.save_to_file(home, "myenv.yml") == "myenv.yml"
    assert conda.save_to_file(home) == ".azureml/auto_conda_dependencies.yml"
    assert conda.save() == ".azureml/auto_conda_dependencies.yml"
    assert CondaDependencies(".azureml/auto_conda_dependencies.yml").as_dict() == conda.as_dict()
    with pytest.raises(UserErrorException, match="folder is not there"):
        conda.save("nowhere/x.yml")
    with pytest.raises(FileNotFoundError, match=r"nope\.yml: there is no such file"):
        CondaDependencies("nope.yml")


def test_what_is_not_there_is_not_made_by_removing_it(tmp_path) -> None:
    (tmp_path / "e.yml").write_text("dependencies:\n- numpy=1.15\n")
    made = CondaDependencies(tmp_path / "e.yml")
    made.remove_pip_package("six")
    made.remove_pip_option("--pre")
    made.remove_channel("pytorch")
    made.remove_conda_package("scipy")
    assert made.as_dict() == {"dependencies": ["numpy=1.15"]}


def test_an_option_keeps_its_place() -> None:
    made = CondaDependencies.create(pip_packages=["six"])
    made.set_pip_option("--find-links a")
    made.add_pip_package("tqdm")
    made.set_pip_option("--find-links b")
    assert made._pip() == ["six", "--find-links b", "tqdm"]


def test_one_tensorflow_replaces_the_other() -> None:
    made = CondaDependencies()
    for core in ("cpu", "gpu"):
        made.add_tensorflow_pip_package(core)
        made.add_tensorflow_conda_package(core, "1.13")
        made.add_cntk_package(core)
    assert list(made.pip_packages)[1:] == ["tensorflow-gpu==2.2.0", "cntk-gpu==2.7"]
    assert list(made.conda_packages)[1:] == ["tensorflow-gpu=1.13"]
