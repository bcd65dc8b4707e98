"""Packages of conda on the command line: named, or in an environment.yml."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import uv_cache

pytestmark = pytest.mark.engines

SCRIPT = """
import os, shutil, subprocess, sys
print(sys.version_info[:2], subprocess.check_output(["tool"]).decode().strip() ==
      os.path.join(sys.prefix, "share"), sys.argv[1:])
"""


@pytest.fixture
def own(home, tmp_path, monkeypatch) -> Path:
    """A cache of environments of the test's own, and no settings of conda."""
    for name in list(os.environ):
        if name.startswith(("CONDA_", "RATTLER_")) or name in ("CONDARC", "NETRC"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", uv_cache())
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_run_on_packages_that_are_named(own, rechain, train, channel, latest) -> None:
    train(SCRIPT + "import chainer; print(chainer.__version__)\n")
    wish = ["--conda", "python=3.6", "--conda", "numpy=1.14", "--conda", "tool=1"]
    where = ["--channel", str(channel)]
    version = ["--framework-version", "5.1.0"]
    done = rechain("run", *version, *wish, *where, "code/train.py", "--conda", "x")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(3, 6) True ['--conda', 'x']\n5.1.0\n"
    conda = json.loads(Path(latest().folder, "lock.json").read_text())["conda"]
    assert conda["channels"] == [channel.as_uri()]
    assert {"numpy", "python", "tool"} <= {one["name"] for one in conda["packages"]}
    locked = rechain("env", "lock", *version, *wish, *where)
    assert json.loads(locked.stdout)["conda"] == conda


def test_a_run_on_an_environment_yml(own, rechain, train, channel) -> None:
    train(SCRIPT + "print(os.environ['COLOR'])\n")
    Path("code/environment.yml").write_text(
        f"channels: [{channel}]\ndependencies: [python=3.9, tool=1.0]\n"
        "variables: {COLOR: deep red}\n"
    )
    done = rechain("run", "--conda-file", "environment.yml", "code/train.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(3, 9) True []\ndeep red\n"


def test_a_channel_that_is_not_there(own, rechain, train) -> None:
    done = rechain("run", "--conda", "tool=1", "--channel", "./nowhere", "code/train.py")
    assert done.returncode == 125
    assert f"there is no channel at {Path('nowhere').absolute().as_uri()}" in done.stderr
