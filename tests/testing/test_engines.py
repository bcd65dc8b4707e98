"""The throw-away engines are real, separate ones, and nothing of them stays."""

from __future__ import annotations

import os
import sys

import pytest

from rechain.testing.engines import EngineError

pytestmark = pytest.mark.engines


def test_a_python_of_this_machine_runs_in_it(engine) -> None:
    image = engine.python_image(sys.executable)
    code = "import ssl, sqlite3, ctypes, bz2, lzma, zlib, sys; print(sys.version_info[:2])"
    said = engine.run("run", "--rm", "--network=host", "--user=1234", image, "python3", "-c", code)
    assert said.strip() == str(sys.version_info[:2])
    assert engine.python_image(sys.executable) == image


def test_a_command_that_fails_says_why(engine) -> None:
    with pytest.raises(EngineError, match="nothing-of-this-name"):
        engine.run("run", "--rm", "--pull=never", "nothing-of-this-name", "true")


def test_two_at_once_know_nothing_of_each_other_and_leave_nothing(engine) -> None:
    image = engine.python_image(sys.executable)
    with type(engine)() as other:
        container = engine.run("run", "--detach", "--network=host", image, "sleep", "600").strip()
        assert engine.run("ps", "--quiet", "--no-trunc").split() == [container]
        assert not other.run("ps", "--quiet").strip()
        assert not other.run("images", "--quiet").strip()
        engine.run("rm", "--force", container)
        root = other.root
    with open("/proc/self/mountinfo") as file:
        assert f" {root}/" not in file.read()
    assert not os.path.exists(root)
