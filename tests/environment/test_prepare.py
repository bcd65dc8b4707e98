import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rechain.environment import store
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.prepare import build, prepare, resolved
from rechain.environment.spec import venv_spec
from rechain.record import jsonl

pytestmark = pytest.mark.engines

# A process that prepares; what it is to do at which moment is in `HOOK`.
DRIVER = """
import json, os, signal, sys
from rechain.environment import prepare as module
from rechain.environment.spec import venv_spec

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def say(line):
    print(line, flush=True)
    if {prefix!r} and line.startswith({prefix!r}):
        die()

{hook}
found = module.prepare(json.loads({spec!r}), {cache!r}, say)
print("inode", os.stat(found["prefix"]).st_ino)
"""


def start(spec, cache, prefix="", hook=""):
    code = DRIVER.format(spec=json.dumps(spec), cache=cache, prefix=prefix, hook=hook)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(cache):
    return [name for name in os.listdir(store.environments(cache)) if not name.startswith(".")]


def leavings(cache):
    return [name for name in os.listdir(store.environments(cache)) if name.startswith(".")]


@pytest.fixture
def own(tmp_path):
    """A cache of the test's own."""
    return str(tmp_path / "cache")


@pytest.fixture
def spec(python):
    python("3.6")
    return venv_spec("chainer-7.0.0", "3.6")


def test_a_built_environment_is_found_and_not_built_again(spec, own):
    said = []
    made = prepare(spec, own, said.append)
    assert said[0].startswith("resolving chainer 7.0.0 for Python 3.6")
    assert "installing 7 packages" in said
    assert said[-1].startswith("ready in ")
    assert store.find(own, spec["digest"]) == made
    assert prepare(spec, own, pytest.fail) == made
    assert jsonl.read(f"{made['prefix']}/lock.json") == made["lock"]
    assert made["lock"]["recipe"] == "chainer-7.0.0"
    assert leavings(own) == []


def test_twenty_at_once_build_one(spec, own):
    processes = [start(spec, own) for _ in range(20)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 20
    assert "".join(said).count("installing") == 1
    assert len({text.splitlines()[-1] for text in said}) == 1
    assert len(finished(own)) == 1
    assert leavings(own) == []


def test_with_flock_faked_as_missing_several_at_once_still_leave_one(spec, own):
    """As on a file system that has no flock: each builds, the first to rename wins."""
    first = prepare(spec, own)  # so that all find their wheels in uv's cache
    shutil.rmtree(own)
    hook = "import fcntl\ndef refuse(*_): raise OSError(37, 'ENOLCK')\nfcntl.flock = refuse"
    processes = [start(spec, own, hook=hook) for _ in range(5)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 5
    assert len({text.splitlines()[-1] for text in said}) == 1
    assert finished(own) == [os.path.basename(first["prefix"])]
    assert leavings(own) == []


BEFORE = "os.rename = lambda *a: die()"
AFTER = "rename = os.rename\ndef both(*a): rename(*a); die()\nos.rename = both"


@pytest.mark.parametrize(
    ("prefix", "hook"),
    [
        pytest.param("resolving", "", id="before resolving"),
        pytest.param("installing", "", id="before installing"),
        pytest.param("building", "", id="while uv builds and installs"),
        pytest.param("", BEFORE, id="before the rename"),
        pytest.param("", AFTER, id="between the rename and the pointer"),
    ],
)
def test_a_killed_build_leaves_nothing_that_looks_finished(
    prefix, hook, spec, own, monkeypatch, tmp_path
):
    if prefix == "building":  # only with an empty cache there is something to build
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    process = start(spec, own, prefix, hook)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    try:
        os.killpg(process.pid, signal.SIGKILL)  # uv, as the supervisor would
    except ProcessLookupError:
        pass
    assert store.find(own, spec["digest"]) is None
    if hook != AFTER:
        assert not os.path.isdir(store.environments(own)) or finished(own) == []
    made = prepare(spec, own)
    assert store.find(own, spec["digest"]) == made
    assert finished(own) == [os.path.basename(made["prefix"])]
    assert leavings(own) == []


def test_a_kill_while_the_index_is_asked(spec, own, index, monkeypatch):
    """The index takes the question and never answers: resolving is under way for certain."""
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        with monkeypatch.context() as patched:
            patched.setenv("UV_DEFAULT_INDEX", url)
            process = start(spec, own)
            silent.accept()
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert store.find(own, spec["digest"]) is None
    assert len(leavings(own)) == 1
    for name in ("UV_DEFAULT_INDEX", "UV_CACHE_DIR"):
        monkeypatch.delenv(name)
    prepare(spec, own)
    assert leavings(own) == []


def test_what_a_living_process_builds_is_left_alone(spec, own):
    from rechain.environment.build import clear_leavings, workbench

    with workbench(own) as folder:
        clear_leavings(own)
        assert os.path.isdir(folder)
        elsewhere = Path(folder).with_name(".building.0123abcd.another-boot.1.1.1.x")
        elsewhere.mkdir()
        clear_leavings(own)
        assert elsewhere.is_dir()
        elsewhere.rmdir()
    assert leavings(own) == []


def test_it_does_not_depend_on_the_callers_python(spec, own, tmp_path, monkeypatch):
    plain = prepare(spec, own)
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    (bad / "sitecustomize.py").write_text("raise SystemExit('the wrong site')")
    (bad / "limits.txt").write_text("numpy<1.0\n")
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONUSERBASE"):
        monkeypatch.setenv(name, str(bad))
    for name in ("UV_CONSTRAINT", "UV_OVERRIDE"):
        monkeypatch.setenv(name, str(bad / "limits.txt"))
    monkeypatch.setenv("UV_PYTHON", "3.13")
    monkeypatch.setenv("UV_RESOLUTION", "lowest")
    monkeypatch.setenv("UV_SYSTEM_PYTHON", "1")
    other = prepare(spec, str(tmp_path / "other"))
    assert other["lock"] == plain["lock"]
    assert files(other) == files(plain)


def files(made):
    root = Path(made["prefix"])
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_an_environment_that_was_thrown_away_comes_back_as_it_was(spec, own):
    made = prepare(spec, own)
    shutil.rmtree(made["prefix"])
    assert store.find(own, spec["digest"]) is None
    said = []
    assert prepare(spec, own, said.append) == made
    assert not any(line.startswith("resolving") for line in said)


def test_a_lock_whose_interpreter_is_gone_says_so(spec, own):
    lock = prepare(spec, own)["lock"]
    moved = {**lock, "interpreter": {**lock["interpreter"], "path": "/gone/python3"}}
    with pytest.raises(EnvironmentFailure, match="is not at /gone/python3 any more"):
        build(moved, own)


def test_a_recipe_that_changed_since_the_job_was_described_is_refused(spec, own):
    with pytest.raises(EnvironmentFailure, match="another version of the recipe"):
        prepare({**spec, "digest": "0" * 64}, own)


def test_a_full_disk_is_said_and_leaves_nothing_finished(spec, small_disk):
    cache = str(small_disk / "cache")
    with pytest.raises(EnvironmentFailure, match="the disk") as raised:
        prepare(spec, cache)
    assert "full" in raised.value.message
    assert "RECHAIN_CACHE" in raised.value.hint
    assert store.find(cache, spec["digest"]) is None
    assert finished(cache) == leavings(cache) == []


def test_a_cache_that_cannot_be_written_is_said(spec, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(EnvironmentFailure, match="cannot be used") as raised:
        prepare(spec, f"{blocked}/cache")
    assert os.strerror(errno.ENOTDIR) in raised.value.message


def child(tmp_path, environment, cache):
    job = tmp_path / "job.json"
    result = tmp_path / "result.json"
    jsonl.write_atomic(job, {"schema": 1, "environment": environment})
    done = subprocess.run(
        [sys.executable, "-m", "rechain.environment", job, result],
        capture_output=True, text=True, check=False, env={**os.environ, "RECHAIN_CACHE": cache},
    )  # fmt: skip
    return done, jsonl.read(result)


def test_the_child_process_prepares_and_reports(spec, own, tmp_path):
    done, result = child(tmp_path, spec, own)
    assert done.returncode == 0, done.stderr
    assert result == {"schema": 1, "ok": True, "container": None, "notes": []}
    assert done.stdout.startswith("resolving chainer")
    assert store.find(own, spec["digest"]) is not None


def test_the_child_process_reports_why_not(own, tmp_path, python):
    python("3.6")
    wanted = venv_spec("chainer-7.0.0", "3.6", ["six==1.0"])
    done, result = child(tmp_path, wanted, own)
    assert done.returncode == 1
    assert result["ok"] is False
    assert result["cause"] == "environment"
    assert "chainer==7.0.0 depends on six>=1.9.0" in result["message"]
    assert "\n" not in result["message"] + result["hint"]
    assert result["message"] in done.stdout
    assert done.stderr == ""


def test_the_child_process_has_nothing_to_do_for_the_users_own_python(own, tmp_path):
    done, result = child(tmp_path, {"kind": "user-managed", "python": "python"}, own)
    assert (done.returncode, result["ok"], done.stdout) == (0, True, "")


def test_even_an_unforeseen_error_is_reported(own, tmp_path):
    done, result = child(tmp_path, {"kind": "venv"}, own)
    assert done.returncode == 1
    assert "KeyError: 'digest'" in result["message"]
    assert "Traceback" in result["detail"]


def test_the_python_fits_an_exact_numpy_where_the_user_names_none(own, index, python):
    python("3.7")
    index.add("numpy", "1.15.4", "2018-11-04T00:00:00Z")

    def chosen(version, **more):
        lock, _ = resolved(venv_spec("plain", version, ["numpy==1.15.4"], **more), own)
        return lock["interpreter"]["version"].rpartition(".")[0], lock["notes"]

    assert chosen(None) == ("3.7", [])
    # As v1's SDK names one by itself: said once, in the lock.
    for default in ("3.10.18", "3.8.13"):
        minor, notes = chosen(default)
        assert minor == "3.7"
        assert notes == [
            f"Python {default}, which v1 takes where none is named, has no such NumPy: one up to "
            "3.7 is taken"
        ]
    # What the user names stays; what fits stays, too.
    assert chosen("3.8") == ("3.8", [])
    assert chosen("3.6")[0] == "3.6"
    index.add("numpy", "1.23.5", "2022-11-20T00:00:00Z")
    newer = venv_spec("plain", "3.8.13", ["numpy==1.23.5"])
    assert resolved(newer, own)[0]["interpreter"]["version"].startswith("3.8.")
    with pytest.raises(EnvironmentFailure, match=r"Python 3\.8\.13 is not on this machine"):
        chosen("3.8.13", strict=True)
