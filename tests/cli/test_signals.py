"""Ctrl-C, SIGTERM and SIGHUP while `rechain run`, `logs -f` and `cancel` are in the foreground."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rechain.testing import wait_for

pytestmark = pytest.mark.fast

WAITS = """
import os, time
print("ready", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
print("done")
"""
TIDY = """
import signal, sys, time
def tidy(*_):
    print("tidied")
    sys.exit(5)
signal.signal(signal.SIGTERM, tidy)
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""
DEAF = """
import signal, time
def heard(*_):
    print("heard", flush=True)
signal.signal(signal.SIGTERM, heard)
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""
# It waits in the midst of storing: an event, whatever the machine's pace.
HELD = """
import os, time
rename, stored = os.rename, []
def held(old, new):
    rename(old, new)
    stored.extend([new] * ("/store/objects/" in new))
    if len(stored) == 4:
        open("held", "w").close()
        time.sleep(600)
os.rename = held
"""


@pytest.fixture
def up(train, start):
    """A run in the foreground, its script being up."""

    def call(script: str, *options: str):
        train(script)
        process = start("run", "--user-managed", *options, "code/train.py")
        assert process.stdout.readline() == "ready\n"
        return process

    return call


def test_ctrl_c_cancels(up, latest) -> None:
    process = up(TIDY)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == "tidied\n"
    assert "\ncanceling; Ctrl-C again kills it at once\n" in err
    assert "canceled on request after" in err
    assert latest().get_status() == "Canceled"


def test_ctrl_c_twice_kills(up, latest) -> None:
    process = up(DEAF, "--grace", "1000")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "heard\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert latest().get_status() == "Canceled"


def test_sigterm_cancels(up, latest) -> None:
    process = up(TIDY)
    process.terminate()
    assert process.communicate(timeout=60)[0] == "tidied\n"
    assert process.returncode == 143
    assert latest().get_status() == "Canceled"


def test_sighup_detaches(up, latest) -> None:
    """The terminal was closed."""
    process = up(WAITS)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGHUP
    Path(latest().folder, "work", "go").touch()
    assert latest().wait_for_completion()["status"] == "Completed"


def test_sigkill_detaches(up, latest) -> None:
    process = up(WAITS)
    process.kill()
    process.communicate(timeout=60)
    Path(latest().folder, "work", "go").touch()
    assert latest().wait_for_completion()["status"] == "Completed"


def test_cancel_from_another_terminal(up, rechain) -> None:
    process = up(TIDY)
    done = rechain("cancel", "latest")
    assert done.stdout.endswith("  canceled on request\n")
    done = rechain("cancel", "latest")
    assert done.stdout.endswith("  canceled on request (had ended already)\n")
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_folder_is_stored(train, start, home, number) -> None:
    """Nothing is started and nothing left."""
    train("")
    for name in range(8):
        (home / "code" / f"{name}.bin").write_text(str(name))
    (home / "hook").mkdir()
    (home / "hook" / "sitecustomize.py").write_text(HELD)
    environ = {**os.environ, "PYTHONPATH": str(home / "hook")}
    process = start("run", "--user-managed", "code/train.py", env=environ)
    wait_for((home / "held").exists, "it is storing")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    folder = home / ".rechain" / "experiments" / "code"
    assert not folder.exists() or os.listdir(folder) == []


def test_ctrl_c_in_logs_f_detaches(up, start, latest) -> None:
    process = up(WAITS)
    logs = start("logs", "-f")
    assert logs.stdout.readline() == "ready\n"
    logs.send_signal(signal.SIGINT)
    _, err = logs.communicate(timeout=60)
    assert err == "\nthe run goes on\n"
    assert logs.returncode == 0
    Path(latest().folder, "work", "go").touch()
    assert process.wait(60) == 0
