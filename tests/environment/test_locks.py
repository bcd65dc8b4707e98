"""Locks as files, wheels as folders: the same environment again, or a reason why not."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rechain.environment import locks, store, stored, wheelhouse
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.prepare import prepare, resolved
from rechain.environment.resolve import identity
from rechain.environment.spec import venv_spec
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from tests.conftest import missing

pytestmark = pytest.mark.engines


@pytest.fixture
def own(tmp_path):
    """A cache of the test's own."""
    return str(tmp_path / "own")


@pytest.fixture
def lock(index, python, own):
    """The lock of a small environment without a framework."""
    spec = venv_spec("plain", python("3.11").version, ["tiny"])
    return resolved(spec, own)[0]


@pytest.fixture
def file(lock, tmp_path):
    """The lock as a file."""
    path = tmp_path / "my.lock"
    jsonl.write_atomic(path, lock)
    return path


@pytest.fixture
def wheels(lock, own, tmp_path):
    """The lock with its wheels, and no index any more."""
    folder = str(tmp_path / "wheels")
    wheelhouse.export(built(lock, own), folder, own)
    shutil.rmtree(os.environ["UV_CACHE_DIR"])
    return folder


def built(lock, cache):
    return prepare(venv_spec("plain", lock["interpreter"]["version"], ["tiny"]), cache)


def spec_of(path):
    return locks.lock_spec(locks.read(path), os.environ)


def contents(prefix):
    """Return the digest of each file, but for those that say when and where it was made."""
    there = {}
    for path in Path(prefix).rglob("*"):
        if path.name == "seal":  # of modification times
            continue
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc":
            there[str(path.relative_to(prefix))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return there


def test_a_lock_makes_the_environment_that_it_was_taken_from(lock, file, own, tmp_path):
    first = built(lock, own)
    assert prepare(spec_of(file), own)["prefix"] == first["prefix"]
    other = prepare(spec_of(file), str(tmp_path / "other"))
    assert other["lock"]["digest"] == first["lock"]["digest"]
    assert contents(other["prefix"]) == contents(first["prefix"])
    assert json.loads(Path(first["prefix"], "lock.json").read_text())["digest"] == lock["digest"]


def test_from_an_exported_folder_it_is_the_same_to_the_byte(
    wheels, lock, own, tmp_path, monkeypatch
):
    first = built(lock, own)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    second = prepare(spec_of(wheels), str(tmp_path / "other"))
    assert second["lock"] == first["lock"]
    assert contents(second["prefix"]) == contents(first["prefix"])


def test_chainer_is_made_without_any_network(cache, python, tmp_path):
    """In a network namespace of its own, where there is not even a loopback that is up."""
    python("3.6")
    can = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    if can.returncode:
        missing("right to make a network namespace (unshare -n)")
    made = prepare(venv_spec("chainer-7.0.0", "3.6"), cache)
    folder = str(tmp_path / "wheels")
    wheelhouse.export(made, folder, cache)
    code = (
        "import os, sys\n"
        "from rechain.environment import locks\n"
        "from rechain.environment.prepare import prepare\n"
        f"spec = locks.lock_spec(locks.read({folder!r}), os.environ)\n"
        f"print(prepare(spec, {str(tmp_path / 'other')!r})['python'])\n"
    )
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", code],
        capture_output=True, text=True, check=False,
        env={**os.environ, "UV_CACHE_DIR": str(tmp_path / "empty")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    interpreter = done.stdout.strip()
    said = subprocess.run(
        [interpreter, "-c", "import chainer; print(chainer.__version__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == "7.0.0"
    ours, theirs = contents(Path(interpreter).parents[1]), contents(made["prefix"])
    assert {name for name in ours if ours[name] != theirs.get(name)} == set()


def changed(lock, **values):
    return {**lock, **values}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no lock: it is not JSON"),
        ("[]", "is no lock that this Rechain reads: it has no schema"),
        ('{"schema": 1, "kind": "user-managed"}', "of a Python that somebody manages"),
        ('{"schema": 1, "kind": "venv"}', "it has no interpreter"),
    ],
)
def test_what_is_no_lock_is_said(text, why, tmp_path):
    path = tmp_path / "x.lock"
    path.write_text(text)
    with pytest.raises(UserErrorException, match=why) as raised:
        locks.read(path)
    assert str(path) in raised.value.message
    path.unlink()
    with pytest.raises(UserErrorException, match="cannot be read: No such file"):
        locks.read(path)


def test_a_lock_that_was_changed_by_hand_is_refused(lock, file):
    packages = [{**lock["packages"][0], "version": "6.6"}, *lock["packages"][1:]]
    jsonl.write_atomic(file, changed(lock, packages=packages))
    with pytest.raises(UserErrorException, match="was changed after it was written"):
        locks.read(file)


def again(lock, **values):
    made = {**lock, **values}
    return {**made, "digest": identity(made)}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"platform": {"system": "Linux", "machine": "s390x", "libc": "x"}}, "for s390x machines"),
        (
            {"interpreter": {"path": "/gone", "version": "3.11.99", "abi": "cp311", "from": "user",
                             "implementation": "cpython"}},
            "Python 3.11.99 is not on this machine",
        ),
    ],
)  # fmt: skip
def test_a_machine_that_lacks_what_the_lock_is_for_is_said(values, why, lock, file, own):
    jsonl.write_atomic(file, again(lock, **values))
    with pytest.raises(EnvironmentFailure, match=why) as raised:
        prepare(spec_of(file), own)
    assert raised.value.hint


def test_ranks_need_a_lock_with_mpi(file):
    with pytest.raises(UserErrorException, match="has no MPI, which several ranks need"):
        locks.lock_spec(locks.read(file), os.environ, ranks=True)


def test_a_wheel_that_is_missing_or_another_is_said(wheels, tmp_path):
    own = str(tmp_path / "other")
    wheel = next(Path(wheels).glob("tiny-*.whl"))
    data = wheel.read_bytes()
    wheel.write_bytes(data + b" ")
    with pytest.raises(EnvironmentFailure, match="its hash differs") as raised:
        prepare(spec_of(wheels), own)
    assert wheel.name in raised.value.message
    wheel.unlink()
    with pytest.raises(EnvironmentFailure, match="has no wheel of tiny 1"):
        prepare(spec_of(wheels), own)
    Path(wheels, "wheels.json").write_text("{")
    with pytest.raises(EnvironmentFailure, match="is no folder of wheels"):
        prepare(spec_of(wheels), own)
    assert os.listdir(store.environments(own)) == []


def test_a_folder_that_is_not_empty_is_not_exported_to(wheels, lock, own):
    with pytest.raises(EnvironmentFailure, match="is not empty"):
        wheelhouse.export(built(lock, own), wheels, own)


def test_an_index_that_serves_another_file_by_now_is_noticed(index, lock, own, tmp_path):
    made = built(lock, own)
    index.add("helper", "2.0", "2020-01-01T00:00:00Z", ["tiny"])
    shutil.rmtree(os.environ["UV_CACHE_DIR"])
    with pytest.raises(EnvironmentFailure, match=r"hash|no file of helper"):
        wheelhouse.export(made, str(tmp_path / "wheels"), own)


def test_a_poisoned_entry_of_the_cache_is_resolved_again(lock, own, python):
    spec = venv_spec("plain", lock["interpreter"]["version"], ["tiny"])
    made = prepare(spec, own)
    path = store.resolved(own, spec["digest"])
    document = jsonl.read(path)
    document["lock"]["packages"][0]["hash"] = ["sha256:" + "0" * 64]
    jsonl.write_atomic(path, document)
    shutil.rmtree(made["prefix"])
    said = []
    assert prepare(spec, own, said.append)["lock"] == made["lock"]
    assert any("was changed: it is resolved again" in line for line in said)


def test_a_changed_file_a_missing_one_and_one_more_are_found(lock, file, own):
    made = prepare(spec_of(file), own)
    (one,) = stored.all_stored(own)
    assert stored.verify(one) == []
    (site,) = Path(made["prefix"]).glob("lib/python*/site-packages")
    assert (site / "tiny.py").exists()
    for name, text in (("helper.py", "version = 'bad'"), ("more.py", "")):
        (site / name).unlink(missing_ok=True)  # it may be shared with uv's own cache
        (site / name).write_text(text)
    shutil.rmtree(next(site.glob("tiny-*.dist-info")))
    wrong = {line.rpartition("/")[2] for line in stored.verify(one)}
    assert {"more.py: was added", "tiny 1.0: is missing"} <= wrong


def test_what_no_run_refers_to_is_collected(lock, file, own, tmp_path):
    made = prepare(spec_of(file), own)
    run = tmp_path / "run_1"
    run.mkdir()
    store.use(own, made["prefix"], str(run))
    store.use(own, made["prefix"], str(run))  # once more: another attempt
    assert stored.find(own, lock["digest"][:8]).runs == [str(run)]
    assert stored.collect(own, 0) == []
    run.rmdir()
    assert stored.collect(own, 86400) == []  # it is new: somebody may be about to use it
    assert stored.collect(own, 0, [lock]) == []  # another run's lock.json names it
    assert len(stored.collect(own, 0, dry=True)) == 1
    assert os.path.exists(made["prefix"])
    assert len(stored.collect(own, 0)) == 1
    assert os.listdir(store.environments(own)) == []
    with pytest.raises(UserErrorException, match="there is no environment"):
        stored.find(own, lock["digest"][:8])
    assert prepare(spec_of(file), own)["lock"] == made["lock"]


def test_what_a_submitted_run_will_use_is_not_collected(lock, own, tmp_path):
    """A run that waits has no lock yet: only what it asks for is known."""
    spec = venv_spec("plain", lock["interpreter"]["version"], ["tiny"])
    run = tmp_path / "run_1"
    run.mkdir()
    store.want(own, spec, str(run))
    made = prepare(spec, own)
    assert stored.collect(own, 0) == []
    assert stored.find(own, lock["digest"][:8]).runs == [str(run)]
    run.rmdir()
    assert [one.prefix for one in stored.collect(own, 0)] == [made["prefix"]]


def test_what_is_being_built_is_not_collected(lock, own, tmp_path):
    """Between its last two steps a build is in its place, and nothing points to it."""
    code = (
        "import json, sys, time\n"
        "from rechain.environment import prepare as module\n"
        "from rechain.record import jsonl\n"
        "write = jsonl.write_atomic\n"
        "def wait(path, document):\n"
        "    if '/resolved/' in path: print('there', flush=True); sys.stdin.read()\n"
        "    write(path, document)\n"
        "jsonl.write_atomic = wait\n"
        f"module.prepare(json.loads(sys.argv[1]), {own!r})\n"
    )
    spec = venv_spec("plain", lock["interpreter"]["version"], ["tiny"])
    with subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(spec)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"there\n"
        assert os.listdir(store.environments(own)) != []
        assert stored.collect(own, 0) == []
        process.stdin.close()
        assert process.wait(60) == 0
    assert store.find(own, spec["digest"]) is not None
    assert len(stored.collect(own, 0)) == 1


def test_on_top_of_the_recipes_environment_it_is_the_same_to_the_byte(cache, python, tmp_path):
    """v1's optimized mode. One package is another than the recipe's, one is more."""
    python("3.6")
    spec = venv_spec("chainer-7.0.0", "3.6", ["six==1.15.0", "cupy-nothing; python_version<'3'"])
    whole = prepare(spec, cache)
    own = str(tmp_path / "own")
    alone = prepare(venv_spec("chainer-7.0.0", "3.6"), own)
    before = contents(alone["prefix"])
    said = []
    made = prepare({**spec, "layered": True}, own, said.append)
    assert any("on top of the 6 of the recipe" in line for line in said), said
    assert made["lock"] == whole["lock"]
    assert os.path.basename(made["prefix"]) == os.path.basename(whole["prefix"])
    assert contents(made["prefix"]) == contents(whole["prefix"])
    assert contents(alone["prefix"]) == before
    assert store.find(own, spec["digest"]) == made


def test_without_the_recipes_environment_it_is_built_as_a_whole(lock, own):
    spec = venv_spec("plain", lock["interpreter"]["version"], ["tiny"])
    said = []
    assert prepare({**spec, "layered": True}, own, said.append)["lock"]["digest"] == lock["digest"]
    assert "installing 2 packages" in said
