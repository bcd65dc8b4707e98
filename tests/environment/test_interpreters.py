"""The search runs for real; where a test needs a machine that lacks things, it says so by name."""

import os
import sys

import pytest

from rechain import recipes
from rechain.environment import interpreters, store
from rechain.environment.errors import EnvironmentFailure
from rechain.record import jsonl

pytestmark = pytest.mark.fast
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_what_is_found_can_be_run_and_is_no_shim(cache):
    for one in interpreters.found(cache):
        assert os.path.realpath(one.path) == one.path
        assert "shims" not in one.path
        assert one.abi.startswith("cp3")
        assert one.release > (3,)


def test_a_shim_is_passed_over_even_where_it_works(bare):
    shims = bare / "shims"
    script(shims / "python3", f'exec {sys.executable} "$@"')
    os.environ["PATH"] = str(shims)
    assert interpreters.found(str(bare / "cache")) == []


def test_a_script_that_fails_is_passed_over_and_one_that_forwards_is_seen_through(bare):
    script(bare / "bin" / "python3.8", "echo no such version >&2; exit 127")
    script(bare / "bin" / "python3", f'exec {sys.executable} "$@"')
    found = interpreters.found(str(bare / "cache"))
    assert [one.path for one in found] == [os.path.realpath(sys.executable)]


def test_an_interpreter_is_asked_once_and_again_when_it_changes(bare):
    asked = bare / "asked"
    wrapper = script(bare / "bin" / "python3", f'echo . >> {asked}; exec {sys.executable} "$@"')
    cache = str(bare / "cache")
    for _ in range(3):
        assert interpreters.found(cache)
    assert asked.read_text().count(".") == 1
    with wrapper.open("a") as file:
        file.write("# changed\n")
    assert interpreters.found(cache)
    assert asked.read_text().count(".") == 2


def test_a_conda_environment_is_found_by_condas_own_list(bare):
    prefix = bare / "conda" / "py"
    (prefix / "bin").mkdir(parents=True)
    script(prefix / "bin" / "python", f'exec {sys.executable} "$@"')
    listed = bare / "home" / ".conda" / "environments.txt"
    listed.parent.mkdir()
    listed.write_text(f"{bare}/gone\n{prefix}\n")
    assert [one.found_by for one in interpreters.found(str(bare / "cache"))] == ["conda"]


def test_the_first_of_the_recipes_pythons_is_chosen(cache, python):
    python("3.6")
    recipe = recipes.load("chainer-7.0.0")
    chosen, notes = interpreters.choose(None, recipe, cache, False, print)
    assert chosen.version.startswith("3.6.")
    assert notes == []


def test_another_patch_level_is_said_and_refused_when_strict(cache, python):
    here = python("3.8").version
    recipe = recipes.load("chainer-7.0.0")
    assert interpreters.choose(here, recipe, cache, True, print)[1] == []
    chosen, notes = interpreters.choose("3.8.0", recipe, cache, False, print)
    assert chosen.version == here
    assert notes == [f"Python {here} is used: 3.8.0 is not on this machine"]
    with pytest.raises(EnvironmentFailure, match=r"3\.8\.0 is not on this machine"):
        interpreters.choose("3.8.0", recipe, cache, True, print)


def test_a_named_interpreter_is_taken_if_there_is_a_cell_for_it(cache, python):
    recipe = recipes.load("chainer-7.0.0")
    path = python("3.9").path
    assert interpreters.choose(path, recipe, cache, False, print)[0].path == path
    with pytest.raises(EnvironmentFailure, match="is not a 64-bit CPython that can be run"):
        interpreters.choose("/no/such/python", recipe, cache, False, print)
    newer = python("3.13").path
    assert interpreters.choose(newer, recipe, cache, False, print)[0].path == newer
    old = recipe._replace(cells=recipe.cells[:6])
    with pytest.raises(EnvironmentFailure, match=r"is Python 3\.13\.\d+; chainer 7\.0\.0 has"):
        interpreters.choose(newer, old, cache, False, print)


WAYS = (
    "`pyenv install 3.6`", "`conda create -n py python=3.6`", "`uv python install 3.8`",
    "(python3.6; for Ubuntu, deadsnakes has it)", "--python PATH",
)  # fmt: skip


def test_without_any_python_and_without_downloads_it_says_which_would_do(bare):
    said = []
    recipe = recipes.load("chainer-7.0.0")
    with pytest.raises(EnvironmentFailure) as raised:
        interpreters.choose(None, recipe, str(bare / "cache"), False, said.append)
    assert "no Python for chainer 7.0.0 was found" in raised.value.message
    assert "3.6, 3.7, 3.8, 3.9, 3.10 or 3.11 will do" in raised.value.message
    for way in WAYS:
        assert way in raised.value.hint
    assert "is here" not in raised.value.hint
    assert "Downloading Python 3.8 failed" in raised.value.detail
    assert said[0].startswith("downloading Python 3.8")


# Where each puts its Pythons, below HOME or on PATH.
LAYOUTS = {
    "a system's": "bin/python3.8",
    "deadsnakes'": "bin/python3.8",
    "uv's": "home/.local/share/uv/python/cpython-3.8.18-linux-x86_64-gnu/bin/python3",
    "pyenv's": "home/.pyenv/versions/3.8.18/bin/python3.8",
    "asdf's": "home/.asdf/installs/python/3.8.18/bin/python3.8",
    "mise's": "home/.local/share/mise/installs/python/3.8.18/bin/python3",
    "conda's": "home/miniconda3/envs/old/bin/python",
}


@pytest.fixture
def eight(python):
    return python("3.8").path


@pytest.fixture
def eleven(python):
    return python("3.11").path


@pytest.mark.parametrize("whose", LAYOUTS)
def test_a_python_is_found_where_its_manager_puts_it(whose, eight, eleven, bare):
    """A real one, by a link: a Python finds its library by where it really is."""
    path = bare / LAYOUTS[whose]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(eight)
    if whose == "deadsnakes'":  # beside the system's own, which is another
        (bare / "bin" / "python3").symlink_to(eleven)
    if whose == "conda's":
        (bare / "home" / ".conda").mkdir()
        (bare / "home" / ".conda" / "environments.txt").write_text(f"{path.parents[1]}\n")
    recipe = recipes.load("chainer-7.0.0")
    chosen, notes = interpreters.choose(None, recipe, str(bare / "cache"), False, pytest.fail)
    assert (chosen.path, notes) == (eight, [])


def test_a_python_that_is_here_is_named_where_another_was_asked_for(eleven, bare):
    (bare / "bin" / "python3").symlink_to(eleven)
    with pytest.raises(EnvironmentFailure, match="none can be downloaded") as raised:
        recipe = recipes.load("chainer-7.0.0")
        interpreters.choose("3.6", recipe, str(bare / "cache"), False, pytest.fail)
    assert "Python 3.11 is here and would do: --python 3.11." in raised.value.hint
    assert "uv python install" not in raised.value.hint  # it has none so old


@pytest.fixture
def newest(python):
    return python("3.13").path


def test_patches_are_the_last_resort_and_strict_takes_none(newest, bare):
    (bare / "bin" / "python3").symlink_to(newest)
    said = []
    recipe = recipes.load("chainer-7.0.0")
    cache = str(bare / "cache")
    chosen, _ = interpreters.choose(None, recipe, cache, False, said.append)
    assert chosen.version.startswith("3.13.")
    assert said[0].startswith("downloading Python 3.8: none of 3.6, 3.7, 3.8, 3.9, 3.10, 3.11 is")
    with pytest.raises(EnvironmentFailure, match=r"no Python for chainer 7\.0\.0 was found"):
        interpreters.choose(None, recipe, cache, True, said.append)
    # Where every cell needs patches, as with some GPUs, nothing is downloaded first.
    patched = recipe._replace(cells=tuple(cell for cell in recipe.cells if cell.patched))
    chosen, _ = interpreters.choose(None, patched, cache, False, pytest.fail)
    assert chosen.version.startswith("3.13.")


def test_facts_of_a_searched_interpreter_need_no_run(bare):
    cache = str(bare / "cache")
    (bare / "bin" / "python3").symlink_to(sys.executable)
    (one,) = interpreters.found(cache)
    assert store.interpreter_facts(cache, one.path)["version"] == one.version


def test_a_damaged_cache_of_answers_is_made_again(bare):
    cache = bare / "cache"
    (bare / "bin" / "python3").symlink_to(sys.executable)
    cache.mkdir()
    (cache / "interpreters.json").write_text("{")
    assert len(interpreters.found(str(cache))) == 1
    assert jsonl.read(cache / "interpreters.json")["schema"] == 1
