"""Against an index of our own, so that dates, passwords and failures are what the test says."""

import json
import os
import shutil
import socket
import subprocess

import pytest

from rechain.environment import build, store
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.resolve import identity, resolve

pytestmark = pytest.mark.engines


@pytest.fixture
def lock_of(tiny_recipe, python, tmp_path):
    """A function: the lock of some requirements for the tiny recipe."""
    interpreter = python("3.11")

    def make(*pip, strict=False, said=None):
        folder = tmp_path / f"work{len(list(tmp_path.glob('work*')))}"
        folder.mkdir()
        spec = {"recipe": tiny_recipe.name, "pip": list(pip), "strict": strict}
        cell = tiny_recipe.cell(interpreter.version)
        say = (lambda line: None) if said is None else said.append
        return resolve(tiny_recipe, cell, interpreter, spec, folder=str(folder), say=say)

    return make


def versions(lock):
    return {package["name"]: package["version"] for package in lock["packages"]}


def test_unpinned_packages_are_those_of_the_recipes_date(index, lock_of):
    lock = lock_of()
    assert versions(lock) == {"tiny": "1.0", "helper": "1.0"}
    assert lock["as_of"] == "2020-06-01T00:00:00Z"
    assert lock["notes"] == []
    assert all(one["hash"][0].startswith("sha256:") for one in lock["packages"])


def test_an_exact_newer_version_passes_and_is_said(index, lock_of):
    lock = lock_of("helper==2.0")
    assert versions(lock)["helper"] == "2.0"
    assert lock["notes"] == ["helper 2.0 is newer than the recipe's date, 2020-06-01"]


def test_an_index_without_dates_resolves_to_the_newest_and_is_said(index, lock_of):
    index.dated = False
    lock = lock_of()
    assert versions(lock)["helper"] == "2.0"
    assert lock["as_of"] is None
    assert lock["notes"] == [
        "the package index gives no upload dates: not resolved as of 2020-06-01T00:00:00Z"
    ]
    with pytest.raises(EnvironmentFailure, match="no upload dates"):
        lock_of(strict=True)


def test_files_that_the_index_gives_no_hash_for_are_locked_with_theirs(index, lock_of):
    known = lock_of()["packages"]
    shutil.rmtree(os.environ["UV_CACHE_DIR"])
    index.hashed = False
    assert lock_of()["packages"] == known


def test_a_folder_of_wheels_named_for_uv_is_an_index(index, lock_of, monkeypatch, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    index.add("private", "1.0", "2020-01-01T00:00:00Z")
    name = "private-1.0-py3-none-any.whl"
    (links / name).write_bytes(index.files.pop(name)[1])
    monkeypatch.setenv("UV_FIND_LINKS", str(links))
    lock = lock_of("private")
    assert versions(lock)["private"] == "1.0"
    assert str(links) not in json.dumps(lock)
    built = build.build(lock, str(tmp_path / "cache"))
    subprocess.run([f"{built}/bin/python", "-c", "import private"], check=True)


def test_a_package_named_by_its_address_is_locked_with_its_hash(index, lock_of, tmp_path):
    index.add("private", "1.0", "2020-01-01T00:00:00Z")
    url = index.url().replace("simple", "files/private-1.0-py3-none-any.whl")
    lock = lock_of(f"private @ {url}")
    (package,) = [one for one in lock["packages"] if one["name"] == "private"]
    assert package["url"] == url
    assert len(package["hash"]) == 1
    build.build(lock, str(tmp_path / "cache"))


def test_the_recipes_limit_holds_for_what_others_require(index, lock_of):
    index.add("greedy", "1.0", "2020-01-01T00:00:00Z", ["helper>=3"])
    index.add("helper", "3.0", "2020-01-01T00:00:00Z")
    with pytest.raises(EnvironmentFailure, match="greedy") as raised:
        lock_of("greedy")
    assert "helper<3" in raised.value.message + raised.value.detail


def test_what_does_not_exist_is_named(index, lock_of):
    with pytest.raises(EnvironmentFailure, match="nothing-like-it was not found") as raised:
        lock_of("nothing-like-it")
    assert raised.value.hint.startswith("Check the name")


def test_an_index_that_nobody_answers_for_is_said(index, lock_of, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = closed.getsockname()[1]
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{port}/simple")
        with pytest.raises(EnvironmentFailure, match="the package index could not be reached"):
            lock_of()


def test_a_password_reaches_the_index_and_nothing_else(
    index, lock_of, monkeypatch, tmp_path, cache
):
    index.password = "s3cr3t-w0rd"
    with pytest.raises(EnvironmentFailure, match="HTTP 401"):
        lock_of()
    shutil.rmtree(os.environ["UV_CACHE_DIR"])
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url(f"user:{index.password}@"))
    said = []
    lock = lock_of(said=said)
    built = build.build(lock, str(tmp_path / "cache"), said.append)
    assert index.seen_in_argv == []
    assert index.password not in json.dumps([lock, said])
    assert "127.0.0.1" not in json.dumps(lock)
    for folder, _, names in os.walk(built):
        for name in names:
            with open(f"{folder}/{name}", "rb") as file:
                assert index.password.encode() not in file.read(), name
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url("user:wr0ng-w0rd@"))
    with pytest.raises(EnvironmentFailure) as raised:
        lock_of("helper==2.0")
    assert "wr0ng" not in raised.value.message + raised.value.detail


def test_a_file_that_is_not_what_was_recorded_is_refused(index, lock_of, tmp_path):
    lock = lock_of()
    index.add("helper", "1.0", "2020-01-01T00:00:00Z", ["tiny"])
    with pytest.raises(EnvironmentFailure, match="hash"):
        build.build(lock, str(tmp_path / "cache"))
    assert os.listdir(store.environments(str(tmp_path / "cache"))) == []


def test_the_identity_is_of_what_is_made_not_of_where(index, lock_of):
    lock = lock_of()
    moved = {**lock, "interpreter": {**lock["interpreter"], "path": "/x", "from": "user"}}
    assert identity(moved) == identity(lock) == lock["digest"]
    assert build.folder_of(moved) != build.folder_of(lock)
    other = {**lock, "interpreter": {**lock["interpreter"], "version": "3.11.0"}}
    assert identity(other) != lock["digest"]


def test_it_is_built_from_its_lock_without_the_index(index, lock_of, tmp_path):
    lock = lock_of()
    first = build.build(lock, str(tmp_path / "one"))
    index.server.shutdown()
    index.server.server_close()
    second = build.build(lock, str(tmp_path / "two"))
    said = subprocess.run(
        [f"{second}/bin/python", "-c", "import tiny, helper; print(tiny.version, helper.version)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "1.0 1.0\n"
    assert os.path.basename(first) == os.path.basename(second)


def test_a_date_of_the_users_own_counts_in_place_of_the_recipes(index, python, tmp_path):
    from rechain.environment.prepare import prepare
    from rechain.environment.spec import venv_spec

    minor = python("3.11").version.rpartition(".")[0]

    def made(*pip, as_of):
        return prepare(venv_spec("plain", minor, pip, as_of=as_of), str(tmp_path / "cache"))[
            "lock"
        ]

    index.add("setuptools", "59.0", "2022-01-01T00:00:00Z")
    old = made("helper", as_of="2020-12-31")
    assert versions(old) == {"helper": "1.0", "setuptools": "59.0"}
    assert old["as_of"] == "2020-12-31T23:59:59Z"
    assert versions(made("helper", as_of="2021-01-01"))["helper"] == "2.0"
    exact = made("helper==2.0", as_of="2020-12-31")
    assert versions(exact)["helper"] == "2.0"
    assert "helper 2.0 is newer than 2020-12-31" in exact["notes"]
    with pytest.raises(EnvironmentFailure) as raised:
        made("helper>1", as_of="2020-12-31")
    assert raised.value.hint.startswith("Nothing newer than 2020-12-31T23:59:59Z counts")
    index.dated = False
    undated = made("tiny", "helper", as_of="2020-12-30")
    assert versions(undated)["helper"] == "2.0"
    assert undated["as_of"] is None
    assert any(
        note.startswith("the package index gives no upload dates") for note in undated["notes"]
    )
