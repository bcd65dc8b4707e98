"""A secret reaches the script, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rechain.job.variables import Secret
from rechain.testing import wait_for

pytestmark = pytest.mark.fast

# The script's own text must not be what is found.
WAITS = """
import os, time
ok = os.environ["API_TOKEN"] == "hun" "ter2" and os.environ["PLAIN"] == "sword" "fish"
open("ready", "w").write(str(ok))
while not os.path.exists("go"):
    time.sleep(0.01)
"""
SECRETS = {"API_TOKEN": "hunter2", "PLAIN": Secret("swordfish")}
VALUES = (b"hunter2", b"swordfish")


def found_in_files(root: Path, ignored: tuple[str, ...] = ()) -> list[str]:
    return [
        str(path)
        for path in root.rglob("*")
        if path.is_file()
        and path.name not in ignored
        and any(value in path.read_bytes() for value in VALUES)
    ]


def found_in_command_lines() -> list[bytes]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path("/proc", pid, "cmdline").read_bytes()
        except OSError:
            continue
        found += [line for value in VALUES if value in line]
    return found


@pytest.fixture
def waiting(submit):
    """A run under way that was given two secrets."""
    run = submit("", environment_variables=SECRETS, entry_script="wait.py")
    yield run
    Path(run.folder, "work", "go").touch()
    run.wait_for_completion()


@pytest.fixture(autouse=True)
def _script(source: Path) -> None:
    (source / "wait.py").write_text(WAITS)


def ready(run) -> str:
    path = Path(run.folder, "work", "ready")
    return wait_for(lambda: path.exists() and path.read_text(), "the script is up")


def test_the_script_has_them(waiting) -> None:
    assert ready(waiting) == "True"


def test_no_file_has_them(waiting) -> None:
    ready(waiting)
    assert found_in_files(Path(".rechain")) == []


def test_no_file_has_them_after_the_end(waiting) -> None:
    ready(waiting)
    Path(waiting.folder, "work", "go").touch()
    waiting.wait_for_completion()
    assert found_in_files(Path(".rechain")) == []


def test_no_command_line_has_them(waiting) -> None:
    ready(waiting)
    assert found_in_command_lines() == []


def test_no_environment_but_the_scripts_has_them(waiting) -> None:
    """Neither guard nor supervisor can be asked for them."""
    ready(waiting)
    holders = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path("/proc", pid, "environ").read_bytes()
            line = Path("/proc", pid, "cmdline").read_bytes()
        except OSError:
            continue
        if any(value in environment for value in VALUES):
            holders.append(line.split(b"\0")[1])
    assert holders == [b"wait.py"]


def test_their_names_are_recorded(waiting) -> None:
    assert waiting._job["secrets"] == ["API_TOKEN", "PLAIN"]
    assert waiting._job["variables"] == {}


def test_no_handle_shows_them(waiting, submit) -> None:
    estimator = submit.estimator("", environment_variables=SECRETS)
    shown = f"{waiting!r} {waiting.get_details()} {estimator!r} {SECRETS}"
    assert "swordfish" not in shown
    assert "hunter2" not in repr(waiting.get_details())


def test_an_inherited_secret_is_not_recorded(submit, monkeypatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "hunter2")
    run = submit.done("import os; assert len(os.environ['MY_PASSWORD']) == 7")
    assert run.get_status() == "Completed"
    assert found_in_files(Path(".rechain")) == []


def test_a_url_with_a_password_is_a_secret(submit) -> None:
    run = submit.done("", environment_variables={"DATABASE": "postgres://me:hunter2@host/db"})
    assert run._job["secrets"] == ["DATABASE"]
    assert found_in_files(Path(".rechain")) == []
