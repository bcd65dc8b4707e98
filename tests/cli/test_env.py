"""`rechain env`: from what is asked for to a lock, an environment, and its end."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.conftest import interpreter, uv_cache

pytestmark = pytest.mark.engines


@pytest.fixture
def own(home, tmp_path, monkeypatch) -> Path:
    """A cache of environments of the test's own."""
    interpreter("3.6")
    monkeypatch.setenv("UV_CACHE_DIR", uv_cache())
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def good(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_lock_to_run_to_removal(own, rechain, train, latest) -> None:
    train("import chainer; print(chainer.__version__)")
    wish = ["--framework-version", "7.0.0", "--python", "3.6"]
    lock = json.loads(good(rechain("env", "lock", *wish)))
    good(rechain("env", "lock", *wish, "-o", "my.lock"))
    assert json.loads(Path("my.lock").read_text()) == lock
    assert not (own / "envs").exists() or not os.listdir(own / "envs")
    done = rechain("env", "verify", "my.lock")
    assert done.returncode == 1
    assert "Error: my.lock is not built; to build it: rechain env build my.lock\n" in done.stderr

    assert good(rechain("run", "-q", "--lock", "my.lock", "code/train.py")) == "7.0.0\n"
    run = latest()
    assert json.loads(Path(run.folder, "lock.json").read_text())["digest"] == lock["digest"]
    prefix = good(rechain("env", "build", "my.lock")).strip()
    digest = lock["digest"][:12]
    assert os.path.basename(prefix).startswith(digest)

    (row,) = json.loads(good(rechain("env", "list", "--json")))
    assert (row["digest"], row["runs"]) == (lock["digest"], [run.folder])
    shown = good(rechain("env", "list"))
    assert shown.startswith(digest)
    assert "1 run  chainer 7.0.0, Python 3.6." in shown

    for name in (digest, "latest", "my.lock", run.id):
        assert "packages are as installed" in good(rechain("env", "verify", name))
        assert json.loads(good(rechain("env", "export", name)))["digest"] == lock["digest"]
    shown = {row["name"]: row for row in json.loads(good(rechain("env", "show", "--json")))}
    assert (shown["chainer"]["here"], shown["chainer"]["state"]) == ("7.0.0", "same")
    assert shown["Python"]["state"] == "newer"
    table = good(rechain("env", "show", "5.1.0"))
    assert table.splitlines()[0].split() == ["v1", "documents", "here"]
    assert "absent" in table
    good(rechain("env", "export", "--wheelhouse", "wheels", "latest"))
    assert good(rechain("env", "build", "wheels")).strip() == prefix

    assert "nothing to remove" in rechain("env", "gc", "--older-than", "0").stderr
    (six,) = Path(prefix).glob("lib/python*/site-packages/six.py")
    six.unlink()
    done = rechain("env", "verify", digest)
    assert done.returncode == 1
    assert "site-packages/six.py: is missing" in done.stdout
    good(rechain("env", "rm", "-y", digest))
    assert good(rechain("run", "-q", "--lock", "wheels", "code/train.py")) == "7.0.0\n"
    good(rechain("rm", "-y", run.id, latest().id))
    assert good(rechain("env", "gc", "--older-than", "0")).startswith(f"removed {digest}")
    assert rechain("env", "list").stderr == "no environments\n"


def test_an_environment_that_a_run_is_using_stays(own, rechain, start, train, latest) -> None:
    train("import time; print('there', flush=True); time.sleep(1000)")
    good(rechain("env", "lock", "--python", "3.6", "-o", "my.lock"))
    started = start("run", "--lock", "my.lock", "code/train.py")
    assert started.stdout is not None
    assert started.stdout.readline() == "there\n"
    done = rechain("env", "rm", "-y", "my.lock")
    assert done.returncode == 1
    assert "is used by a run that has not ended" in done.stderr
    good(rechain("cancel", latest().id))
    started.communicate()
    good(rechain("env", "rm", "-y", "my.lock"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["env", "build", "nothing"],
            1,
            "is no lock file, no environment that `rechain env list`",
        ),
        (["env", "verify", "0123456789ab"], 1, "is no lock file, no environment"),
        (["env", "lock", "--framework-version", "0.1"], 1, "--as-of DATE --pip chainer==0.1"),
        (["env", "lock", "--as-of", "soon"], 1, "Error: --as-of is 'soon'; it must be a date"),
        (["env", "vrify"], 2, "No such command 'vrify'. Did you mean 'verify'?"),
        (["run", "--lock", "nothing", "code/train.py"], 125, "nothing cannot be read: No such"),
        (["run", "--lock", "bad.lock", "code/train.py"], 125, "bad.lock is no lock"),
        (["run", "--lock", "x", "--pip", "six", "code/train.py"], 125, "leave one of them out"),
        (["run", "--lock", "x", "--as-of", "2018-12-31", "code/train.py"], 125, "leave one"),
        (
            ["run", "--lock", "x", "--framework-version", "5.1.0", "code/train.py"],
            2,
            "--framework-version means nothing with --lock",
        ),
    ],
)
def test_what_cannot_be_is_one_clear_line(own, rechain, train, arguments, code, words) -> None:
    Path("bad.lock").write_text("{}")
    done = rechain(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_another_tools_file_asks_for_is_locked(own, rechain) -> None:
    Path("requirements.txt").write_text("chainer==5.1.0\n-c limits.txt\n-e .\n--pre\n")
    Path("limits.txt").write_text("six==1.12.0\nnumpy<1.15\nscipy<1\n")
    Path("setup.py").write_text("from setuptools import setup\nsetup(install_requires=['tqdm'])\n")
    done = rechain("env", "import", "requirements.txt", "--as-of", "2018-12-31")
    lock = json.loads(good(done))
    versions = {one["name"]: one["version"] for one in lock["packages"]}
    assert lock["recipe"] == "chainer-5.1.0"
    assert (versions["chainer"], versions["six"]) == ("5.1.0", "1.12.0")
    assert (versions["numpy"], versions["tqdm"]) == ("1.14.6", "4.28.1")
    assert "scipy" not in versions
    assert "note: --pre (requirements.txt, line 4) is left to the settings" in done.stderr
    assert "note: . (requirements.txt, line 3) is not installed" in done.stderr

    entry = {"version": "==1.12.0", "hashes": [f"sha256:{'0' * 64}"]}
    document = {"_meta": {"requires": {"python_version": "3.6"}}, "default": {"six": entry}}
    Path("Pipfile.lock").write_text(json.dumps(document))
    done = rechain("env", "import", "Pipfile.lock", "-o", "x.lock")
    assert done.returncode == 1
    assert "six 1.12.0 of the index is not the file that Pipfile.lock names" in done.stderr
    assert not Path("x.lock").exists()


def test_a_shell_in_an_environment_is_where_a_script_runs(own, rechain, train, latest) -> None:
    train("import sys; print(sys.prefix)")
    wish = ["--framework-version", "7.0.0", "--python", "3.6"]
    prefix = good(rechain("run", "-q", *wish, "code/train.py")).strip()
    ask = ["python", "-c", "import sys, chainer; print(sys.prefix); sys.exit(7)"]
    for name in ("latest", os.path.basename(prefix)[:12]):
        done = rechain("env", "shell", name, "--", *ask, env={**os.environ, "PYTHONPATH": "x"})
        assert (done.stdout, done.returncode) == (f"{prefix}\n", 7), done.stderr
    assert rechain("env", "shell", "latest", "sh", "-c", "kill -9 $$").returncode == 137
    done = rechain("env", "shell", "latest", "no-such-command")
    assert (done.returncode, done.stdout) == (127, "")
    assert "no-such-command cannot be started: No such file" in done.stderr
    done = rechain("env", "shell", "9.9.9")
    assert "no lock file, no environment" in done.stderr
    seen = good(rechain("env", "shell", "latest", "env"))
    script = "import os; print(*(f'{k}={v}' for k, v in os.environ.items()), sep='\\n')"
    train(script.replace("f'{k}={v}' for", "'{}={}'.format(k, v) for"))
    theirs = good(rechain("run", "-q", *wish, "code/train.py"))
    names = {line.partition("=")[0] for line in theirs.splitlines()}
    of_a_run = {name for name in names if name.startswith(("RECHAIN_", "AZUREML_"))}
    missing = names - {line.partition("=")[0] for line in seen.splitlines()}
    assert missing <= of_a_run | {"LC_CTYPE"}


def test_an_open_shell_keeps_its_environment(own, rechain, tmp_path) -> None:
    """A real terminal, in which somebody types."""
    import pty
    import subprocess

    from tests.cli.conftest import COMMAND

    done = rechain("env", "lock", "--framework-version", "7.0.0", "--python", "3.6", "-o", "my")
    good(done)
    prefix = good(rechain("env", "build", "my")).strip()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "env", "shell", "my"], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "SHELL": "/bin/sh", "TERM": "dumb"}, start_new_session=True,
    ) as shell:  # fmt: skip
        os.close(theirs)
        said = b""
        while b"(chainer-7.0.0)" not in said:
            said += os.read(ours, 4096)
        assert "is used by a shell" in rechain("env", "rm", "-y", "my").stderr
        assert "nothing to remove" in rechain("env", "gc", "--older-than", "0").stderr
        os.write(ours, b"exit 5\n")
        assert shell.wait(60) == 5
    os.close(ours)
    said = rechain("env", "gc").stderr
    assert "1 unused, younger than a day (--older-than 0 removes it)" in said
    gone = good(rechain("env", "gc", "--older-than", "0"))
    assert "freed " in gone
    assert not os.path.exists(prefix)


def test_why_an_environment_cannot_be_made_is_said_once(rechain, train, environments) -> None:
    given = ("--framework-version", "7.0.0", "--pip", "no-such-package-of-anyone")
    done = rechain("run", *given, "code/train.py")
    assert done.returncode == 125
    assert done.stderr.count("No solution found") == 1
    assert done.stderr.count("Check the name") == 1
    assert len(re.findall(r"resolving chainer 7\.0\.0 for Python \S+ failed: ", done.stderr)) == 1
    assert "after 0.00 s" not in done.stderr  # it had taken its time to find that out
