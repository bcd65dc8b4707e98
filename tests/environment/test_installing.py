"""A script that installs packages while it runs: beside its environment, and for all attempts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rechain import Chainer, Experiment, Workspace
from rechain.environment import store
from rechain.record import jsonl
from rechain.supervisor.variables import PROGRAM
from rechain.testing import wait_for_end
from rechain.testing.runs import payload
from rechain.workspace.submit import prepare
from tests.conftest import interpreter
from tests.environment.conftest import wheel

SCRIPT = """
import os, subprocess, sys

def import_again(name):
    code = "import {0}; print({0}.__file__, {0}.version)".format(name)
    return subprocess.check_output([sys.executable, "-c", code]).decode()

if os.environ["RECHAIN_ATTEMPT"].endswith("/1"):
    subprocess.check_call([sys.executable, "-m", "pip", "install", "one"])
    import one
    assert os.system("pip install --user two") == 0
    import two
    assert os.system("pip3 install --no-build-isolation -e project") == 0
    assert os.system("pip install filelock==99") == 0
    assert os.system("pip freeze > frozen.txt") == 0
    subprocess.check_call([sys.executable, "-m", "venv", "other"])
    subprocess.check_call(["other/bin/pip", "install", "--no-deps", "one"])
for name in ("one", "two", "mine", "filelock"):
    where = import_again(name)
    sys.stdout.write(where)
    assert os.getcwd() in where, where
import numpy, chainer
assert os.getcwd() not in numpy.__file__ + chainer.__file__
"""


@pytest.fixture
def wheels(tmp_path):
    """A folder of wheels; of what the environment has there is another version."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    made = (("one", "1.0", ["two"]), ("two", "2.0", ["numpy", "chainer"]), ("filelock", "99", ()))
    for name, version, requires in made:
        data = wheel(name, version, requires)
        (folder / f"{name}-{version}-py3-none-any.whl").write_bytes(data)
    return folder


def job_of(run):
    return jsonl.read(run._paths.job)


@pytest.mark.parametrize(
    "minor",
    [
        pytest.param("3.6", marks=pytest.mark.engines),
        pytest.param("3.13", marks=pytest.mark.matrix),
    ],
)
def test_what_a_script_installs_is_beside_its_environment(minor, source, environments, wheels):
    (source / "train.py").write_text(SCRIPT)
    (source / "project").mkdir()
    (source / "project" / "mine.py").write_text("version = 3\n")
    setup = "from setuptools import setup\nsetup(name='mine', version='3', py_modules=['mine'])\n"
    (source / "project" / "setup.py").write_text(setup)
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    estimator = Chainer(
        str(source), entry_script="train.py", compute_target="local", use_docker=False,
        framework_version="7.0.0", environment_variables=settings,
    )  # fmt: skip
    experiment = Experiment(Workspace.local(), "x")
    run = prepare(experiment, estimator, python=interpreter(minor)).start()
    run.wait_for_completion(raise_on_error=False)
    said = Path(run._paths.attempt(1).stderr(0)).read_text()
    assert run.get_status() == "Completed", said
    assert f"what is installed now goes to {run._paths.work}/.packages" in said
    details = run.get_details()
    assert {"one 1.0", "two 2.0", "filelock 99"} <= set(details["installedByScript"])
    assert any(text.startswith("mine") for text in details["installedByScript"])
    assert not any(".packages" in name for name in run.get_file_names())
    frozen = Path(run._paths.work, "frozen.txt").read_text().lower()
    assert "one==1.0" in frozen
    assert "chainer==7.0.0" in frozen
    found = store.find(str(environments), job_of(run)["environment"]["digest"])
    assert found is not None, "the environment was changed"

    # The next attempt has it, too.
    given = payload(job_of(run), str(environments))()
    command = [sys.executable, "-I", "-S", PROGRAM, run._paths.root]
    text = json.dumps(given)
    assert subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True).stdout == "ok"
    assert wait_for_end(run._paths).last.end["cause"] == "completed"
    second = Path(run._paths.attempt(2).stdout(0)).read_text()
    assert second.count("/.packages/lib/python") == 3


CONTAINED = """
import os, shutil, subprocess, sys
assert os.environ["PATH"].startswith(os.getcwd() + "/.packages/bin:"), os.environ["PATH"]
assert subprocess.call([sys.executable, "-m", "pip", "install", "one"]) == 0
import one
assert os.system("pip install filelock==99") == 0
for name in ("one", "two", "filelock"):
    code = "import {0}; print({0}.__file__, {0}.version)".format(name)
    where = subprocess.check_output([sys.executable, "-c", code]).decode()
    assert where.startswith(os.getcwd() + "/.packages/"), where
import six
print(sys.prefix, six.__file__)
"""


def in_container(source: Path, script: str, *options: str) -> tuple[dict, str]:
    (source / "train.py").write_text(script)
    command = [sys.executable, "-m", "rechain", "run", "--json", *options, f"{source}/train.py"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    return jsonl.loads(ended.stdout), ended.stderr


@pytest.fixture
def travelling(source, tmp_path):
    """The wheels, within the source folder; the user's own settings name them."""
    made = (("one", "1.0", ["two"]), ("two", "2.0", ["six"]), ("filelock", "99", ()))
    (source / "wheels").mkdir()
    for name, version, requires in made:
        path = source / "wheels" / f"{name}-{version}-py3-none-any.whl"
        path.write_bytes(wheel(name, version, requires))
    settings = tmp_path / "home" / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text("[global]\nfind-links = wheels\n[install]\nno-index = true\n")
    return source


@pytest.mark.parametrize(
    ("engine", "minor"),
    [
        pytest.param("podman", "3.6", marks=pytest.mark.engines),
        pytest.param("podman", "3.13", marks=pytest.mark.matrix),
        pytest.param("docker", "3.6", marks=pytest.mark.matrix),
    ],
    indirect=["engine"],
)
def test_what_a_script_installs_in_a_container_goes_to_its_run(
    engine, minor, travelling, environments
):
    image = engine.base_image()
    options = ("--image", image, "--pip", "six", "--pip", "filelock", "--python", minor)
    interpreter(minor)
    said, errors = in_container(travelling, CONTAINED, *options)
    assert said["status"] == "Completed", errors
    assert f"what is installed now goes to {said['folder']}/work/.packages" in errors
    run = Workspace.local().get_run(said["run_id"])
    shown = set(run.get_details()["installedByScript"])
    assert {"one 1.0", "two 2.0", "filelock 99"} <= shown
    # The image was not changed: the next run has to install it again.
    said, errors = in_container(travelling, "import one", *options)
    assert said["exit_code"] == 1, errors
    assert "No module named 'one'" in errors


@pytest.mark.matrix
def test_what_the_pip_of_an_own_image_installs_ends_with_the_container(
    engine, travelling, environments
):
    image = engine.python_image(sys.executable)
    install = """
import os, subprocess, sys
argv = [sys.executable, "-m", "pip", "install", "two", "--no-deps"]
subprocess.check_call([*argv, "--no-index", "--find-links", "wheels"])
import two
assert os.getcwd() not in two.__file__
"""
    options = ("--image", image, "--user-managed")
    said, errors = in_container(travelling, install, *options)
    assert said["status"] == "Completed", errors
    said, errors = in_container(travelling, "import two", *options)
    assert said["exit_code"] == 1, errors
    assert "No module named 'two'" in errors
