import os
import subprocess
import sys
from pathlib import Path

import pytest

from rechain.environment import store, stored
from rechain.record import jsonl

pytestmark = pytest.mark.fast
SOURCE = Path(store.__file__).parents[2]


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECHAIN_CACHE", "mine")
    assert store.cache_root() == f"{tmp_path}/mine"
    monkeypatch.delenv("RECHAIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert store.cache_root() == "/xdg/rechain"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somebody")
    assert store.cache_root() == "/somebody/.cache/rechain"


def test_looking_imports_next_to_nothing():
    code = (
        f"import sys; before = set(sys.modules); sys.path.insert(0, {str(SOURCE)!r})\n"
        "import rechain.environment.store as s; s.find('/nowhere', 'x')\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    ours = {m for m in said.stdout.split() if m.startswith("rechain")}
    assert ours == {
        "rechain", "rechain.environment", "rechain.environment.store", "rechain.record",
        "rechain.record.jsonl",
    }  # fmt: skip
    parts_of_os = {"os", "os.path", "posixpath", "genericpath", "stat", "_stat", "abc", "_abc"}
    few = parts_of_os | {"_collections_abc", "__future__", "_json"}
    assert set(said.stdout.split()) - ours <= few


def known(cache, base):
    """A built environment as `prepare` leaves it, on a base interpreter of our own."""
    made = cache / "envs" / "e" / "bin"
    made.mkdir(parents=True)
    (made / "python").symlink_to(base)
    (cache / "envs" / "e" / "seal").write_text(store.contents(str(cache / "envs" / "e")))
    (cache / "resolved").mkdir()
    status = os.stat(base)
    document = {
        "schema": 1,
        "environment": "e",
        "base": [status.st_mtime_ns, status.st_size],
        "lock": {"schema": 1, "interpreter": {"path": str(base)}},
    }
    jsonl.write_atomic(store.resolved(str(cache), "d"), document)


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "python3"
    path.write_text("not really")
    return path


def test_a_built_environment_is_found(tmp_path, base):
    known(tmp_path, base)
    found = store.find(str(tmp_path), "d")
    assert found == {
        "python": f"{tmp_path}/envs/e/bin/python",
        "bin": f"{tmp_path}/envs/e/bin",
        "prefix": f"{tmp_path}/envs/e",
        "lock": {"schema": 1, "interpreter": {"path": str(base)}},
        "mpi": None,
        "activation": {},
    }
    assert store.find(str(tmp_path), "another") is None


def test_it_is_not_found_when_its_base_is_gone_or_another(tmp_path, base):
    known(tmp_path, base)
    base.write_text("a newer one")
    assert store.find(str(tmp_path), "d") is None
    base.unlink()
    assert store.find(str(tmp_path), "d") is None


def test_it_is_not_found_when_one_of_its_files_is_another_gone_or_new(tmp_path, base):
    known(tmp_path, base)
    more = tmp_path / "envs" / "e" / "more.py"
    more.touch()
    assert store.find(str(tmp_path), "d") is None
    more.unlink()
    assert store.find(str(tmp_path), "d") is not None
    (tmp_path / "envs" / "e" / "__pycache__").mkdir()
    (tmp_path / "envs" / "e" / "__pycache__" / "more.pyc").touch()
    assert store.find(str(tmp_path), "d") is not None
    (tmp_path / "envs" / "e" / "bin" / "python").unlink()
    assert store.find(str(tmp_path), "d") is None


def test_an_environment_without_a_seal_is_none(tmp_path, base):
    known(tmp_path, base)
    (tmp_path / "envs" / "e" / "seal").unlink()
    assert store.find(str(tmp_path), "d") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', "\0\0\0\0"])
def test_a_damaged_pointer_is_no_environment(tmp_path, base, text):
    known(tmp_path, base)
    Path(store.resolved(str(tmp_path), "d")).write_text(text)
    assert store.find(str(tmp_path), "d") is None


def test_facts_of_a_virtual_environment_come_from_its_own_file(tmp_path):
    env = tmp_path / "env"
    (env / "bin").mkdir(parents=True)
    (env / "bin" / "python").symlink_to(sys.executable)
    (env / "pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.8.18.final.0\n")
    facts = store.interpreter_facts(str(tmp_path), str(env / "bin" / "python"))
    assert facts == {
        "path": str(env / "bin" / "python"),
        "realpath": os.path.realpath(sys.executable),
        "version": "3.8.18",
        "from": "pyvenv.cfg",
    }


def test_facts_of_a_searched_interpreter_hold_until_it_changes(tmp_path, base):
    status = os.stat(base)
    probe = {"stat": [status.st_mtime_ns, status.st_size], "facts": {"version": "3.9.1"}}
    jsonl.write_atomic(
        store.interpreters(str(tmp_path)), {"schema": 1, "probes": {str(base): probe}}
    )
    assert store.interpreter_facts(str(tmp_path), str(base))["version"] == "3.9.1"
    base.write_text("a newer one")
    assert store.interpreter_facts(str(tmp_path), str(base))["version"] is None


def test_facts_of_nothing_are_nothing(tmp_path):
    assert store.interpreter_facts(str(tmp_path), "/no/python")["version"] is None


def test_archives_of_images_stay_as_long_as_a_run_that_was_submitted(tmp_path):
    cache, run = str(tmp_path / "cache"), tmp_path / "run_1"
    run.mkdir()
    image = {"image": {"digest": "c" * 64}}
    built = {"kind": "venv", "digest": "a" * 64, "gpu": {"digest": "b" * 64}, **image}
    with_gpu = {**built, "digest": "b" * 64}
    taken = {"kind": "user-managed", "image": {"digest": "d" * 64}}
    other = {**built, "digest": "e" * 64}
    paths = []
    for spec in (built, with_gpu, taken, other):
        paths.append(Path(f"{store.image(cache, spec, 'podman')[:-5]}.tar"))
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_bytes(b"x" * 8192)
        Path(f"{paths[-1]}.json").write_text("{}")
    store.want(cache, built, str(run))
    store.want(cache, taken, str(run))
    assert stored.collect_carried(cache, 86400) == 0
    freed = paths[-1].stat().st_blocks * 512
    assert stored.collect_carried(cache, 0, dry=True) == freed
    assert all(path.exists() for path in paths)
    assert stored.collect_carried(cache, 0) == freed
    assert [path.exists() for path in paths] == [True, True, True, False]
    run.rmdir()
    assert stored.collect_carried(cache, 0) == 3 * freed
    assert os.listdir(paths[0].parent) == []
    left = Path(f"{paths[0]}.123.part")
    left.write_bytes(b"x" * 8192)
    assert stored.collect_carried(cache, 0) == 0  # it may be at work
    os.utime(left, (0, 0))
    assert stored.collect_carried(cache, 0) == freed
    assert not left.exists()
