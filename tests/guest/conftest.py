import json
import os
import subprocess
import sys
from pathlib import Path

import findpython
import pytest

GUEST = Path(__file__).parents[2] / "src" / "rechain" / "guest"
RUN_ID = "exp_1700000000_0a0b0c0d"
VERSIONS = ("3.6", "3.8", "3.13")


def missing(what: str) -> None:
    """Skip for want of something; in CI everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


class Job:
    """A run folder made by hand, and how to start a script in it."""

    def __init__(self, root: Path, python: str) -> None:
        self.root = root
        self.python = python
        self.workspace = root / "ws"
        self.folder = self.workspace / "experiments" / "exp" / RUN_ID
        self.work = self.folder / "work"
        self.work.mkdir(parents=True)
        (self.folder / "attempts" / "1").mkdir(parents=True)
        job = {
            "schema": 1,
            "run_id": RUN_ID,
            "experiment": "exp",
            "parent": None,
            "kind": "script",
            "command": ["train.py", "--epoch", "3"],
            "target": "local",
            "tags": {},
            "properties": {},
            "submitted": {"time": 1700000000.5},
        }
        (self.folder / "job.json").write_text(json.dumps(job))
        event = {"seq": 1, "t": 1, "event": "state", "state": "Running"}
        (self.folder / "attempts" / "1" / "journal.jsonl").write_text(json.dumps(event) + "\n")

    def variables(self, rank: int = 0, attempt: int = 1, offline: bool = False) -> dict[str, str]:
        base = {k: v for k, v in os.environ.items() if not k.startswith(("RECHAIN_", "AZUREML_"))}
        base.update(PYTHONPATH=str(GUEST), PYTHONDONTWRITEBYTECODE="1", MPLBACKEND="Agg")
        base.pop("PYTHONHOME", None)
        if offline:
            return base
        return {
            **base,
            "RECHAIN_RUN_ID": RUN_ID,
            "RECHAIN_RUN_DIR": str(self.folder),
            "RECHAIN_WORKSPACE": str(self.workspace),
            "RECHAIN_EXPERIMENT": "exp",
            "RECHAIN_ATTEMPT": f"{RUN_ID}/{attempt}",
            "RECHAIN_RANK": str(rank),
            "AZUREML_ARM_WORKSPACE_NAME": "ws",
        }

    def command(self, script: str | Path) -> list[str]:
        return [self.python, *([str(script)] if isinstance(script, Path) else ["-c", script])]

    def run(self, script: str | Path, **where: object) -> subprocess.CompletedProcess[str]:
        """Run a script (a path, or its text) to its good end."""
        done = subprocess.run(
            self.command(script),
            cwd=self.work,
            env=self.variables(**where),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@pytest.fixture(scope="session")
def interpreters() -> dict[str, str]:
    """The Pythons there are on this machine, by version."""
    found = {}
    for version in VERSIONS:
        python = findpython.find(*map(int, version.split(".")))
        if python is not None:
            found[version] = str(python.executable)
    return found


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest, interpreters: dict[str, str]) -> str:
    """Each of the Pythons a job may run on, in turn."""
    if request.param not in interpreters:
        missing(f"python{request.param}")
    return interpreters[request.param]


@pytest.fixture
def old_job(tmp_path: Path, python: str) -> Job:
    """A job on each of the Pythons, in turn."""
    return Job(tmp_path, python)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job on this Python."""
    return Job(tmp_path, sys.executable)


@pytest.fixture
def make_job() -> type[Job]:
    """The maker of jobs."""
    return Job


@pytest.fixture
def need() -> object:
    """Skip for want of something; in CI everything must be there."""
    return missing
