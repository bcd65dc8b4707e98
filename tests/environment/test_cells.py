"""Every cell of every recipe is built for real and trains."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from rechain import recipes
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.prepare import prepare
from rechain.environment.resolve import resolve
from rechain.environment.spec import venv_spec

GUEST = Path(__file__).parents[2] / "src" / "rechain" / "guest"
TRAIN = str(Path(__file__).with_name("train_tiny.py"))
ALSO_ENGINES = {
    (name, minor) for name in ("chainer-5.1.0", "chainer-7.0.0") for minor in ("3.6", "3.11")
} | {("chainer-5.1.0", "3.13")}

# Where a recipe says otherwise than the metadata, with the reason there.
RELAXED = {"chainer-6.7.0": {"typing<=3.6.6", "typing-extensions<=3.6.6", "typing-extensions"}}


def cells():
    for name in recipes.names():
        for cell in recipes.load(name).cells:
            marks = [pytest.mark.matrix]
            if (name, cell.python) in ALSO_ENGINES:
                marks.append(pytest.mark.engines)
            yield pytest.param(name, cell.python, marks=marks)


def run(activation, *arguments):
    environment = {"MPLBACKEND": "Agg", "PATH": "/bin"}
    if compat := activation["lock"].get("compat"):
        environment["PYTHONPATH"] = f"{GUEST}/hooks:{GUEST}"
        environment["RECHAIN_COMPAT"] = " ".join(compat)
    said = subprocess.run(
        [activation["python"], *arguments],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said.stdout


@pytest.mark.parametrize(("name", "minor"), list(cells()))
def test_a_cell_trains(name, minor, cache, python, tmp_path):
    python(minor)
    made = prepare(venv_spec(name, minor, ["matplotlib"]), cache)
    said = json.loads(run(made, TRAIN, str(tmp_path)).splitlines()[-1])
    assert said["chainer"] == name.partition("-")[2]
    assert said["prefix"] == made["prefix"]
    assert len(said["losses"]) == 8
    assert said["losses"][-1] < said["losses"][0]
    assert "loss.png" in said["files"]
    cell = recipes.load(name).cell(minor)
    installed = {f"{p['name']}=={p['version']}" for p in made["lock"]["packages"]}
    assert {f"numpy=={said['numpy']}", *cell.pins} <= installed
    assert said["padded"] == [[1, 255], [1, 1]]
    assert set(said["types"]) == {"float32"}
    assert_the_recipe_knows_the_metadata(name, made)


def assert_the_recipe_knows_the_metadata(name, made):
    (info,) = Path(made["prefix"]).glob("lib/python*/site-packages/chainer-*.dist-info/METADATA")
    lines = info.read_text(encoding="utf-8").splitlines()
    required = {
        str(Requirement(line.partition(":")[2])).replace("_", "-")
        for line in lines
        if line.startswith("Requires-Dist:") and "extra ==" not in line
    }
    assert required == set(recipes.load(name).requires) ^ RELAXED.get(name, set())


def table():
    """Return the cells for people."""
    found = {name.partition("-")[2]: recipes.load(name) for name in recipes.names()}
    lines = ["| Python | " + " | ".join(f"Chainer {version}" for version in found) + " |"]
    lines.append("| --- |" + " --- |" * len(found))
    for minor in map(str, range(6, 14)):
        row = [recipe.cell(f"3.{minor}") for recipe in found.values()]
        lines.append(f"| 3.{minor} | " + " | ".join(map(words, row)) + " |")
    return "\n".join(lines)


def words(cell):
    numpy = next(pin for pin in cell.pins if pin.startswith("numpy=="))
    return numpy.partition("==")[2] + ", patched" * cell.patched


@pytest.mark.fast
def test_the_documentation_has_the_cells_that_are_tested():
    docs = Path(__file__).parents[2] / "docs" / "environments.md"
    assert table() in docs.read_text(encoding="utf-8")


@pytest.mark.matrix
@pytest.mark.parametrize(("name", "minor"), [tuple(case.values) for case in cells()])
def test_every_cupy_of_a_cell_goes_with_it(name, minor, cache, python, tmp_path):
    """Resolved, not installed: there is no GPU here to run it on."""
    recipe = recipes.load(name)
    cell = recipe.cell(minor)
    spec = venv_spec(name, minor)
    for number, text in enumerate(cell.cupy):
        folder = tmp_path / str(number)
        folder.mkdir()
        lock = resolve(
            recipe,
            cell._replace(pins=(*cell.pins, text)),
            python(minor),
            spec,
            folder=str(folder),
            say=lambda line: None,
        )
        locked = {f"{p['name']}=={p['version']}" for p in lock["packages"]}
        assert {text, *cell.pins} <= locked
        packages = recipes.read_toml(f"{folder}/pylock.toml")["packages"]
        assert {p["name"] for p in packages if not p.get("wheels")} == {"chainer"}


@pytest.mark.fast
def test_strict_takes_no_patches(cache, python):
    python("3.13")
    with pytest.raises(
        EnvironmentFailure, match=r"chainer 5\.4\.0 runs on Python 3\.13 only with"
    ):
        prepare(venv_spec("chainer-5.4.0", "3.13", strict=True), cache)


@pytest.mark.engines
@pytest.mark.parametrize("minor", ["3.6", "3.11"])
def test_other_packages_do_not_lift_numpy(minor, cache, python):
    python(minor)
    made = prepare(venv_spec("chainer-7.0.0", minor, ["scikit-learn", "scipy"]), cache)
    code = "import chainer, numpy, scipy, sklearn; print(numpy.__version__)"
    assert Version(run(made, "-c", code)) < Version("1.24")


@pytest.mark.engines
def test_an_sdist_whose_setup_imports_numpy_is_built(cache, python):
    python("3.6")
    made = prepare(venv_spec("chainer-7.0.0", "3.6", ["chainercv==0.13.1"]), cache)
    run(made, "-c", "import chainercv; from chainercv.utils.bbox._nms_gpu_post import *")


@pytest.mark.engines
def test_a_console_script_runs_with_the_environments_python(cache, python, tmp_path):
    python("3.11")
    made = prepare(venv_spec("chainer-7.0.0", "3.11", ["scikit-learn", "scipy"]), cache)
    script = Path(made["bin"]) / "f2py"
    said = subprocess.run([script, "-v"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "1.23.5"
    assert os.path.dirname(made["python"]) == made["bin"]
