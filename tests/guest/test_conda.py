"""`conda` inside of a job, answered from the environment's own records on each Python."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.guest.conftest import GUEST

COMMAND = GUEST / "commands" / "conda"
pytestmark = pytest.mark.fast


@pytest.fixture
def prefix(tmp_path):
    """An environment with a package of conda and one of pip, as far as records go."""
    meta = tmp_path / "conda-meta"
    meta.mkdir()
    (meta / "history").touch()
    site = tmp_path / "lib" / "python3.6" / "site-packages"
    for name in ("numpy-1.14.6.dist-info", "six-1.17.0.dist-info"):
        (site / name).mkdir(parents=True)
    (tmp_path / "lib" / "python3").symlink_to("python3.6")
    record = {
        "name": "numpy", "version": "1.14.6", "build": "py36_0", "build_number": 0,
        "subdir": "linux-64", "channel": "https://example.org/mine",
        "url": "https://example.org/mine/linux-64/numpy-1.14.6-py36_0.tar.bz2",
        "files": ["lib/python3.6/site-packages/numpy-1.14.6.dist-info/METADATA"],
    }  # fmt: skip
    (meta / "numpy-1.14.6-py36_0.json").write_text(json.dumps(record))
    lock = {"conda": {"requested": ["numpy=1.14"]}}
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    return tmp_path


@pytest.fixture
def conda(prefix, python, tmp_path):
    """A function: what conda says to a job on a Python, and how it ends."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").symlink_to(python)

    def ask(*arguments, **variables):
        path = f"{folder}:/usr/bin:/bin"
        done = subprocess.run(
            [str(COMMAND), *arguments], capture_output=True, text=True, check=False,
            env={"PATH": path, "CONDA_PREFIX": str(prefix), **variables}, cwd=str(tmp_path),
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return ask


def test_what_is_installed(conda, prefix):
    assert os.access(COMMAND, os.X_OK)
    assert conda("--version")[:2] == (0, "conda 4.5.11\n")
    code, said, _ = conda("list", "--json")
    assert code == 0
    found = {one["name"]: (one["version"], one["channel"]) for one in json.loads(said)}
    assert found == {"numpy": ("1.14.6", "mine"), "six": ("1.17.0", "pypi")}
    assert [
        one["name"] for one in json.loads(conda("list", "-n", "base", "num", "--json")[1])
    ] == ["numpy"]
    rows = [line.split() for line in conda("list")[1].splitlines() if line[:1] != "#"]
    assert rows == [["numpy", "1.14.6", "py36_0", "mine"], ["six", "1.17.0", "pypi_0", "pypi"]]
    assert conda("list", "--explicit")[1].splitlines()[1:] == [
        "https://example.org/mine/linux-64/numpy-1.14.6-py36_0.tar.bz2"
    ]


def test_an_export_can_be_imported(conda, prefix):
    from rechain.runconfig import CondaDependencies

    code, _, _ = conda("env", "export", "--no-builds", "--file", "out.yml")
    assert code == 0
    found = CondaDependencies(str(prefix / "out.yml"))
    assert list(found.conda_channels) == ["https://example.org/mine"]
    assert list(found.conda_packages) == ["numpy=1.14.6"]
    assert list(found.pip_packages) == ["six==1.17.0"]
    document = json.loads(conda("env", "export", "--json")[1])
    assert document["dependencies"] == ["numpy=1.14.6=py36_0", {"pip": ["six==1.17.0"]}]
    said = conda("env", "export", "--from-history")[1]
    assert "- numpy=1.14\n" in said


def test_where_it_is(conda, prefix):
    facts = json.loads(conda("info", "--json")[1])
    assert facts["active_prefix"] == facts["conda_prefix"] == str(prefix)
    assert json.loads(conda("env", "list", "--json")[1]) == {"envs": [str(prefix)]}
    assert str(prefix) in conda("info", "--envs")[1]
    assert str(prefix) in conda("info")[1]


@pytest.mark.parametrize(
    "arguments",
    [("install", "scipy"), ("create", "-n", "x"), ("update", "--all"), ("env", "update"), ()],
    ids=" ".join,
)
def test_what_would_change_it_is_refused_in_one_line(conda, arguments):
    code, said, errors = conda(*arguments)
    assert (code, said) == (1, "")
    assert errors.startswith("conda (of Rechain): ")
    assert errors.count("\n") == 1


def test_without_an_environment_of_conda(conda, tmp_path):
    code, _, errors = conda("list", CONDA_PREFIX=str(Path(tmp_path, "none")))
    assert code == 1
    assert "CONDA_PREFIX names no environment" in errors
