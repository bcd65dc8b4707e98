"""What the workspace's tests share: an experiment, and scripts to submit to it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from rechain import Chainer, Experiment, Run, Workspace
from rechain.record.paths import RunPaths
from rechain.testing import processes_of, wait_for


class Submitter:
    """Submits scripts as a v1 user does."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.experiment = Experiment(Workspace.local(), "digits")

    def estimator(self, script: str | bytes = "", **parameters: Any) -> Chainer:
        data = script if isinstance(script, bytes) else textwrap.dedent(script).encode()
        (self.source / "train.py").write_bytes(data)
        given: dict[str, Any] = {
            "source_directory": str(self.source),
            "entry_script": "train.py",
            "compute_target": "local",
            "user_managed": True,
            "use_docker": False,
        }
        return Chainer(**{**given, **parameters})

    def __call__(self, script: str | bytes = "", **parameters: Any) -> Run:
        tags = parameters.pop("tags", None)
        return self.experiment.submit(self.estimator(script, **parameters), tags=tags)

    def done(self, script: str | bytes = "", **parameters: Any) -> Run:
        """Submit, and wait for the end, whichever it is, until nobody writes to the run."""
        run = self(script, **parameters)
        run.wait_for_completion(raise_on_error=False)
        wait_for(lambda: not processes_of(RunPaths(run.folder)), "the run's guard to leave")
        return run

    def output(self, run: Run, stream: str = "out") -> str:
        return (Path(run.folder) / "attempts" / "1" / f"0.{stream}").read_text()


@pytest.fixture
def submit(source: Path) -> Submitter:
    """A submitter of scripts in the test's own workspace."""
    return Submitter(source)
