"""`--dry-run`: plans, held still by the files in `golden/`; nothing is written.

`RECHAIN_GOLDEN=write pytest tests/cli/test_dry_run.py` writes them anew.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

import rechain as package
from rechain.environment.resolve import identity

pytestmark = pytest.mark.fast

GOLDEN = Path(__file__).parent / "golden"

PLANS = {
    "plain": ["--user-managed", "code/train.py"],
    "arguments": ["--user-managed", "code/train.py", "--epochs", "3", "a b", "", "$HOME"],
    "folder": ["--user-managed", "code", "sub/other.py"],
    "everything": [
        "--user-managed", "--python", "python3.8", "-e", "digits", "--time-limit", "1h30m",
        "--grace", "1m", "--env", "COLOR=deep red", "--env", "API_TOKEN=hunter2",
        "--tag", "phase=1", "code/train.py",
    ],
    "managed": ["--framework-version", "7.0.0", "code/train.py"],
    "managed-with-packages": [
        "--framework-version", "7.8.1", "--python", "3.8", "--pip", "scipy", "--pip", "tqdm>=4",
        "code/train.py",
    ],
    "as-of": ["--framework-version", "5.1.0", "--as-of", "2018-12-31", "code/train.py"],
    "other-chainer": ["--pip", "chainer==4.4.0", "--as-of", "2018-09-07", "code/train.py"],
    "conda": [
        "--framework-version", "7.0.0", "--conda", "python=3.6", "--conda", "numpy=1.14",
        "--channel", "https://conda.example/lab", "--pip", "tqdm", "code/train.py",
    ],
    "gpu": ["--framework-version", "7.8.1", "--gpu", "optional", "code/train.py"],
}  # fmt: skip


def normal(text: str, home: Path) -> str:
    """Replace what differs from machine to machine and from run to run."""
    for path, name in (
        (str(home), "HERE"),
        (os.path.dirname(package.__file__), "RECHAIN"),
        (sys.executable, "PYTHON"),
    ):
        text = text.replace(path, name)
    text = re.sub(r"_\d{10}_[0-9a-f]{8}", "_SECONDS_HEX", text)
    return re.sub(r"[0-9a-f]{64}", "DIGEST", text)


def hold(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("RECHAIN_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


@pytest.fixture
def plan(rechain, train, home):
    train("")
    (home / "code" / "sub").mkdir()
    (home / "code" / "sub" / "other.py").touch()

    def call(*arguments: str) -> str:
        before = sorted(home.parent.rglob("*"))
        done = rechain("run", "--dry-run", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(home.parent.rglob("*")) == before
        return normal(done.stdout, home)

    return call


@pytest.mark.parametrize("name", PLANS)
def test_for_people(plan, name) -> None:
    hold(f"{name}.txt", plan(*PLANS[name]))


@pytest.mark.parametrize("name", ["plain", "everything", "managed-with-packages", "gpu"])
def test_for_programs(plan, name) -> None:
    text = plan("--json", *PLANS[name])
    json.loads(text)
    hold(f"{name}.json.txt", text)


def test_no_secret_is_shown(plan) -> None:
    assert "hunter2" not in plan(*PLANS["everything"])
    assert "hunter2" not in plan("--json", *PLANS["everything"])


def test_a_plan_in_a_workspace_changes_nothing_in_it(run, plan) -> None:
    run()
    plan(*PLANS["plain"])


def test_a_bad_plan_is_an_error(rechain, home) -> None:
    assert rechain("run", "--dry-run", "nope.py").returncode == 125


def test_how_an_image_is_built_is_printed(rechain, home, monkeypatch) -> None:
    golden = Path(__file__).parents[1] / "environment" / "golden"
    monkeypatch.delenv("RECHAIN_BASE_IMAGE", raising=False)
    done = rechain("env", "containerfile", "7.0.0")
    assert done.stdout == (golden / "7.0.0-cpu.Containerfile").read_text()
    done = rechain("env", "containerfile", "7.0.0", "--mpi", "mpich", "--base", "debian:13")
    assert "FROM debian:13\n" in done.stdout
    assert "COPY mpi/" in done.stdout
    done = rechain("env", "containerfile", "7.0.0", "--gpu")
    assert done.stdout == (golden / "7.0.0-gpu.Containerfile").read_text()
    monkeypatch.setenv("RECHAIN_BASE_IMAGE", "documented")
    for kind, options in (("cpu", []), ("gpu", ["--gpu"])):
        done = rechain("env", "containerfile", "5.1.0", *options)
        assert done.stdout == (golden / f"5.1.0-{kind}-documented.Containerfile").read_text()
    assert "FROM ubuntu:16.04\n" in rechain("env", "containerfile", "5.1.0").stdout


def test_the_image_of_a_run_is_printed_on_its_own_base(rechain, home, monkeypatch) -> None:
    monkeypatch.setenv("RECHAIN_BASE_IMAGE", "other:1")
    lock = {
        "schema": 1, "kind": "venv", "recipe": "chainer-7.0.0", "packages": [], "build": {},
        "interpreter": {"version": "3.8.20", "path": sys.executable},
        "platform": {"libc": "glibc-2.36", "machine": "x86_64"},
    }  # fmt: skip
    base = {"reference": "localhost/base:1", "id": f"sha256:{'1' * 64}", "digest": None}
    for more, git in (({}, True), ({"asked": "base:1"}, False)):
        image = {"reference": "localhost/rechain:1", "base": base, **more}
        whole = {**lock, "digest": identity(lock), "image": image}
        (home / "run.json").write_text(json.dumps(whole))
        done = rechain("env", "containerfile", "run.json")
        assert "FROM localhost/base:1\n" in done.stdout, done.stderr
        assert ("apt-get install" in done.stdout) is git
    done = rechain("env", "containerfile", "run.json", "--base", "debian:13")
    assert "FROM debian:13\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["9.9"], "chainer 9.9 is not among the versions"),
        (["nothing"], "'nothing' is no lock file"),
        (
            ["7.0.0", "--base", "Not Good"],
            "(RECHAIN_BASE_IMAGE, --base) is 'Not Good', which no eng",
        ),
        (["7.0.0", "--mpi", "system"], "--mpi system is this machine's own, which no image has"),
        (["7.0.0", "-o", "."], ". is there already"),
    ],
)
def test_an_image_that_cannot_be_described_is_an_error(rechain, home, arguments, says) -> None:
    done = rechain("env", "containerfile", *arguments)
    assert done.returncode == 1
    assert says in done.stderr
