"""A stored environment stays as it was built, or is built again."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from rechain.environment import seal, store
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.prepare import prepare
from rechain.environment.spec import venv_spec

pytestmark = pytest.mark.engines


@pytest.fixture
def own(tmp_path):
    """A cache of the test's own."""
    return str(tmp_path / "own")


@pytest.fixture
def spec(index, python):
    """A small environment without a framework, from an index and a cache of the test's own."""
    return venv_spec("plain", python("3.11").version, ["tiny"])


def site_of(made):
    (site,) = Path(made["prefix"]).glob("lib/python*/site-packages")
    return site


def text_of(made):
    code = "import tiny, helper; print(tiny.version, helper.version)"
    return subprocess.check_output([made["python"], "-c", code], text=True, env={}).strip()


def test_nobody_may_write_into_it(spec, own):
    made = prepare(spec, own)
    open_ones = {
        path.name
        for path in Path(made["prefix"]).rglob("*")
        if not path.is_symlink() and path.lstat().st_mode & 0o222
    }
    assert open_ones == {"__pycache__"}
    assert stat.S_IMODE((site_of(made) / "tiny.py").stat().st_mode) == 0o444


def test_bytecode_is_kept_and_is_no_change(spec, own):
    made = prepare(spec, own)
    text_of(made)
    assert any(path.name.startswith("tiny.") for path in (site_of(made) / "__pycache__").iterdir())
    assert store.find(own, spec["digest"]) == made


# What a job may do, in the words of a shell, as the user whose environment it is.
CHANGES = {
    "a file is written to": "chmod u+w tiny.py; echo 'version = 6.6' >> tiny.py",
    "a file is replaced": "chmod u+w .; cp tiny.py x; echo 'version = 6.6' >> x; mv x tiny.py",
    "a file of the same size": "chmod u+w tiny.py; sed 's/1.0/6.6/' tiny.py > /dev/shm/$$; "
    "cat /dev/shm/$$ > tiny.py; rm /dev/shm/$$",
    "a file is removed": "chmod u+w .; rm -f helper.py",
    "a file is added": "chmod u+w .; echo 'raise SystemExit' > os_hook.pth",
    "all is removed": "chmod -R u+w .; rm -rf ./*",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_a_job_has_changed_it_the_next_one_gets_a_good_one(change, spec, own):
    made = prepare(spec, own)
    good = text_of(made)
    subprocess.run(["sh", "-c", change], cwd=site_of(made), check=True)
    assert store.find(own, spec["digest"]) is None
    said = []
    again = prepare(spec, own, said.append)
    assert "the environment was changed since it was built: it is built again" in said
    assert text_of(again) == good
    assert store.holds(again["prefix"])
    assert prepare(spec, own, pytest.fail) == again
    assert os.listdir(store.environments(own)) == [os.path.basename(again["prefix"])]


def test_an_ordinary_user_whom_modes_hold_back_can_remove_one():
    """As user 12345, in a child, if this is root."""
    folder = tempfile.mkdtemp(prefix="rechain-test-")  # where others may pass
    made = Path(folder, "made")
    (made / "lib").mkdir(parents=True)
    (made / "lib" / "one.py").touch()
    seal.put(str(made))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                for path in (folder, *map(str, Path(folder).rglob("*"))):
                    os.chown(path, 12345, 12345)
                os.setuid(12345)
            with pytest.raises(PermissionError):
                (made / "lib" / "two.py").touch()
            seal.discard(str(made))
            code = int(made.exists())
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    shutil.rmtree(folder)


def test_a_damaged_file_in_uvs_cache_is_noticed_and_fetched_again(spec, own, tmp_path):
    made = prepare(spec, own)
    good = text_of(made)
    poison(made)
    said = []
    other = prepare(spec, str(tmp_path / "other"), said.append)
    assert "uv's cache has damaged files of helper: fetched again" in said
    assert text_of(other) == good
    third = prepare(spec, str(tmp_path / "third"), said.append)
    assert text_of(third) == good
    assert sum("damaged" in line for line in said) == 1


def test_a_damaged_file_that_cannot_be_fetched_again_is_said(spec, own, index, tmp_path):
    poison(prepare(spec, own))
    index.files = {name: at for name, at in index.files.items() if not name.startswith("helper")}
    spec_path = store.resolved(own, spec["digest"])
    with pytest.raises(EnvironmentFailure, match="fetching helper again failed") as raised:
        shutil.rmtree(store.environments(own))
        prepare(spec, own)
    assert raised.value.hint
    assert os.path.exists(spec_path)
    assert os.listdir(store.environments(own)) == []


def poison(made):
    """Write into a file that uv's cache has a link to."""
    path = site_of(made) / "helper.py"
    assert path.stat().st_nlink > 1
    path.chmod(0o644)
    with path.open("a") as file:
        file.write("version = 'poison'\n")


def test_with_a_recorded_hash_that_is_wrong_in_the_package_itself_it_is_built(index, python, own):
    """Its own hash is right, which is what counts."""
    index.add("odd", "1.0", "2020-01-01T00:00:00Z", record="odd.py,sha256=AAAA,3\n")
    made = prepare(venv_spec("plain", python("3.11").version, ["odd"]), own)
    assert (site_of(made) / "odd.py").exists()
    said = []
    shutil.rmtree(store.environments(own))
    prepare(venv_spec("plain", python("3.11").version, ["odd"]), own, said.append)
    assert not any("damaged" in line for line in said)


def test_fifty_first_builds_at_once_are_one(spec, own):
    code = (
        "import json, sys\nfrom rechain.environment.prepare import prepare\n"
        f"made = prepare(json.loads(sys.argv[1]), {own!r}, print)\n"
        "import os; print(os.stat(made['prefix']).st_ino)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(spec)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(50)
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 50
    assert "".join(said).count("installing") == 1
    assert len({text.splitlines()[-1] for text in said}) == 1


def cut(path, size=10):
    rewrite(path, path.read_bytes()[:size].decode("latin-1"))


def rewrite(path, text):
    path.chmod(0o644)
    path.write_text(text, encoding="latin-1")


# Ways in which a part of uv's cache can be damaged.
DAMAGE = {
    "what it knows of a wheel is cut off": (
        "wheels-*/**/helper/*.msgpack",
        cut,
    ),
    "what it knows of the index is cut off": ("simple-*/**/helper.rkyv", cut),
    "an unpacked file is empty": ("archive-*/*/helper.py", lambda path: cut(path, 0)),
    "an unpacked file is gone": ("archive-*/*/helper.py", lambda path: path.unlink()),
    "a list of files is garbled": (
        "archive-*/*/helper-*.dist-info/RECORD",
        lambda path: rewrite(path, "what\n"),
    ),
    "a list of files is gone": (
        "archive-*/*/helper-*.dist-info/RECORD",
        lambda path: path.unlink(),
    ),
    "an unpacked wheel is gone": (
        "archive-*/*/helper.py",
        lambda path: shutil.rmtree(path.parent),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_with_a_damaged_cache_of_uv_the_next_environment_is_good(damage, spec, own, tmp_path):
    pattern, do = damage
    good = text_of(prepare(spec, own))
    paths = list(Path(os.environ["UV_CACHE_DIR"]).glob(pattern))
    assert paths
    for path in paths:
        do(path)
    made = prepare(spec, str(tmp_path / "other"))
    assert text_of(made) == good
    assert store.holds(made["prefix"])


KILLED = {
    "before it is sealed": "seal.put = die",
    "while it is sealed": "seal._close = die",
    "while files are compared": "seal.differs = die",
    "while the changed one makes room": "rename = os.rename\n"
    "def once(a, b):\n    rename(a, b)\n    b.endswith('/changed') and die()\n"
    "os.rename = once",
}


@pytest.mark.parametrize("hook", KILLED.values(), ids=KILLED)
def test_a_build_that_is_killed_leaves_nothing_that_looks_finished(hook, spec, own):
    """The environment was changed before, and is about to be built again."""
    made = prepare(spec, own)
    good = text_of(made)
    poison(made)
    code = (
        "import json, os, signal, sys\n"
        "from rechain.environment import prepare as module, seal\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{hook}\nmodule.prepare(json.loads(sys.argv[1]), {own!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(spec)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert store.find(own, spec["digest"]) is None
    again = prepare(spec, own)
    assert text_of(again) == good
    assert os.listdir(store.environments(own)) == [os.path.basename(again["prefix"])]
