"""Submitting a user-managed script imports nothing that is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

CODE = """
import os, sys
sys.path.insert(0, sys.argv[4])
before = set(sys.modules)
from rechain.estimator import Chainer, compile
from rechain.job import git, snapshot
estimator = Chainer(sys.argv[1], entry_script="a.py", compute_target="local", user_managed=True,
                    script_params={"--x": 1})
job = compile(estimator, experiment="e")
taken = snapshot.take(sys.argv[1], sys.argv[2])
snapshot.checkout(sys.argv[2], taken.digest, sys.argv[3])
git.start(sys.argv[1])
print(" ".join(sorted({name for name in set(sys.modules) - before
                       if name.split(".")[0] != "rechain"})))
"""


def test_what_is_imported(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").touch()
    package = str(Path(__file__, "../../../src").resolve())
    folders = [f"{tmp_path}/{name}" for name in ("code", "ws/store", "work")]
    said = subprocess.run(
        [sys.executable, "-S", "-c", CODE, *folders, package],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    sha = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
    assert set(said.stdout.split()) <= {"__future__", "_json", sha}
