"""Environments as they would have been made on a day of the past, built for real."""

import datetime
import json
import subprocess
from pathlib import Path

import pytest

from rechain.environment import locks, uv
from rechain.environment.prepare import prepare
from rechain.environment.spec import venv_spec

pytestmark = pytest.mark.matrix

TRAIN = str(Path(__file__).with_name("train_tiny.py"))
FRAMEWORKS = ("chainer-5.1.0", "plain")


def made_and_versions(recipe, pip, as_of, cache):
    made = prepare(venv_spec(recipe, None, pip, as_of=as_of), cache)
    return made, {one["name"]: one["version"] for one in made["lock"]["packages"]}


def assert_all_is_of_that_day(made, day, but, tmp_path):
    """Ask the index once more: of what is locked, only `but` is refused as too new."""
    names = [p for p in made["lock"]["packages"] if p["name"] not in but]
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("".join(f"{one['name']}=={one['version']}\n" for one in names))
    end = f"{datetime.date.fromisoformat(day)}T23:59:59Z"
    python = made["lock"]["interpreter"]["path"]
    asked = ["pip", "compile", "--no-deps", "--exclude-newer", end, "--python", python]
    done = uv.run([*asked, "--only-binary", ":none:", str(wanted)])
    assert done.code == 0, done.errors


def train(made, tmp_path):
    said = subprocess.run(
        [made["python"], TRAIN, str(tmp_path)],
        capture_output=True, text=True, check=False, env={"MPLBACKEND": "Agg", "PATH": "/bin"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout.splitlines()[-1])


def test_chainer_5_1_0_as_of_the_end_of_2018_trains(cache, python, tmp_path):
    python("3.6")
    made, versions = made_and_versions("chainer-5.1.0", ["matplotlib"], "2018-12-31", cache)
    assert made["lock"]["interpreter"]["version"].startswith("3.6.")
    assert made["lock"]["as_of"] == "2018-12-31T23:59:59Z"
    assert (versions["chainer"], versions["numpy"]) == ("5.1.0", "1.15.4")
    assert versions["matplotlib"] == "3.0.2"
    assert_all_is_of_that_day(made, "2018-12-31", {"chainer", "setuptools"}, tmp_path)
    said = train(made, tmp_path)
    assert said["losses"][-1] < said["losses"][0]


@pytest.mark.parametrize("recipe", FRAMEWORKS)
def test_chainer_4_4_0_which_has_no_recipe_as_of_september_2018_trains(
    recipe, cache, python, tmp_path
):
    python("3.6")
    wanted = ["chainer==4.4.0", "matplotlib"]
    made, versions = made_and_versions(recipe, wanted, "2018-09-07", cache)
    assert (versions["chainer"], versions["numpy"]) == ("4.4.0", "1.15.1")
    assert locks.title(made["lock"]) == ("plain" if recipe == "plain" else "chainer 4.4.0")
    assert_all_is_of_that_day(made, "2018-09-07", {"chainer", "setuptools"}, tmp_path)
    said = train(made, tmp_path)
    assert said["chainer"] == "4.4.0"
    assert said["losses"][-1] < said["losses"][0]


@pytest.mark.parametrize("recipe", FRAMEWORKS)
def test_chainercv_as_of_june_2019_is_built_from_its_sdist(recipe, cache, python, tmp_path):
    python("3.6")
    made, versions = made_and_versions(
        recipe, ["chainer==5.1.0", "chainercv"], "2019-06-01", cache
    )
    assert versions["chainercv"] == "0.12.0"
    assert_all_is_of_that_day(made, "2019-06-01", {"chainer", "chainercv", "setuptools"}, tmp_path)
    code = "import chainercv; from chainercv.utils.bbox._nms_gpu_post import *"
    subprocess.run([made["python"], "-c", code], check=True)


def test_an_exact_version_that_is_newer_passes_with_a_note(cache, python):
    python("3.6")
    made, versions = made_and_versions("chainer-5.1.0", ["tqdm==4.60.0"], "2018-12-31", cache)
    assert versions["tqdm"] == "4.60.0"
    assert "tqdm 4.60.0 is newer than 2018-12-31" in made["lock"]["notes"]
