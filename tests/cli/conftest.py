"""The real command, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from rechain import Run, Workspace

COMMAND = os.path.join(sysconfig.get_path("scripts"), "rechain")

Answer = subprocess.CompletedProcess[str]


@pytest.fixture
def train(home: Path) -> Callable[[str], Path]:
    """Write the script `code/train.py`."""

    def write(text: str, name: str = "code/train.py") -> Path:
        path = home / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    write("")
    return write


@pytest.fixture
def rechain(home: Path) -> Callable[..., Answer]:
    """Run the command to its end."""

    def call(*arguments: str, **settings: object) -> Answer:
        given = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 600}
        return subprocess.run([COMMAND, *arguments], **{**given, **settings})

    return call


@pytest.fixture
def run(rechain: Callable[..., Answer], train: object) -> Callable[..., Answer]:
    """`rechain run --user-managed ...`; without arguments `code/train.py`."""

    def call(*arguments: str, **settings: object) -> Answer:
        return rechain("run", "--user-managed", *(arguments or ("code/train.py",)), **settings)

    return call


@pytest.fixture
def start(home: Path, train: object) -> Callable[..., subprocess.Popen[str]]:
    """Start the command and go on."""
    started = []
    # Tests that were started by nohup ignore it, and so would the command.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def call(*arguments: str, **settings: object) -> subprocess.Popen[str]:
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([COMMAND, *arguments], **{**given, **settings})
        started.append(process)
        return process

    yield call
    signal.signal(signal.SIGHUP, before)
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def last_run() -> Run:
    """Return the newest run of the current folder's workspace."""
    return next(Workspace.local().get_runs())


@pytest.fixture
def latest() -> Callable[[], Run]:
    """How to get at the newest run."""
    return last_run


@pytest.fixture
def python() -> str:
    """This interpreter."""
    return sys.executable
