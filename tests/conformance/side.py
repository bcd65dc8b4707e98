"""One of the two sides that are compared."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.conformance.calls import Call
from tests.conformance.differences import Answer

WORKER = Path(__file__).with_name("worker.py")


class Side:
    """A process that makes estimators."""

    def __init__(self, python: str, which: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [python, str(WORKER), which],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder,
            env={name: os.environ[name] for name in ("PATH", "HOME")},
        )  # fmt: skip

    def ask(self, call: Call) -> Answer:
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the process is gone: {call}"
        return json.loads(line)

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()
