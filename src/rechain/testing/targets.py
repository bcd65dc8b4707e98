"""The contract of a compute target, as tests.

A target's own tests derive from `TargetConformance` and give it the target:

    class TestMine(TargetConformance):
        @pytest.fixture
        def target(self):
            return MyTarget()

Everything else is done here, with real processes. Limits are generous and only end a hanging
test; none is a measurement.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from rechain.compute.target import StartError, Submission, Target
from rechain.record import jsonl
from rechain.record.requests import ask_to_stop
from rechain.testing.runs import make_run, payload, processes_of, wait_for, wait_for_end

if TYPE_CHECKING:
    from pathlib import Path

    from rechain.record.paths import RunPaths

__all__ = ["TargetConformance"]


class TargetConformance:
    """What every target must do. Derive, and define the fixture `target`."""

    @pytest.fixture
    def target(self) -> Target:
        """Return the target to test."""
        raise NotImplementedError("a conformance test defines the fixture `target`")

    @pytest.fixture
    def workspace(self, tmp_path: Path) -> Path:
        """Return a folder that the target's machines see, too."""
        return tmp_path / "workspace"

    def start(self, target: Target, workspace: Path, script: str, **settings: Any) -> RunPaths:
        """Start a script and return its run."""
        run, job = make_run(workspace, script, target=target.name, **settings)
        target.start(target.plan(run, job), run, payload(job))
        return run

    def finish(self, run: RunPaths) -> tuple[str, dict[str, Any]]:
        """Wait for a run's end and for the end of all its processes.

        Returns:
            The run's status, and its `end` event.
        """
        state = wait_for_end(run)
        wait_for(lambda: not processes_of(run), "no process is left")
        assert state.end is not None
        return state.status, state.end

    # plan

    def test_plan_is_pure(self, target: Target, workspace: Path) -> None:
        """It answers the same twice and touches nothing."""
        run, job = make_run(workspace, "pass", target=target.name, variables={"A": "b c"})
        before = _tree(workspace)
        first = target.plan(run, job)
        assert first == target.plan(run, job)
        assert _tree(workspace) == before
        assert isinstance(first, Submission)
        assert jsonl.loads(jsonl.dumps(first.to_json()))["target"] == target.name
        assert first.argv
        assert "script.py" in first.command
        assert first.environment == {"A": "b c"}

    def test_plan_needs_no_run_folder(self, target: Target, workspace: Path) -> None:
        """A dry run asks before anything is made."""
        import shutil

        run, job = make_run(workspace, "pass", target=target.name)
        shutil.rmtree(run.root)
        target.plan(run, job)
        assert not os.path.exists(run.root)

    def test_plan_holds_no_secret(self, target: Target, workspace: Path) -> None:
        """Secrets are in the payload; a plan is shown and recorded."""
        run, job = make_run(workspace, "pass", target=target.name)
        job["secrets"] = ["TOKEN"]
        os.environ["TOKEN"] = "hunter2"
        try:
            assert "hunter2" not in str(target.plan(run, job))
        finally:
            del os.environ["TOKEN"]

    # start

    def test_a_script_runs_to_its_end(self, target: Target, workspace: Path) -> None:
        """Output, exit code and state arrive in the record."""
        script = "import sys; print('out'); print('err', file=sys.stderr); open('made', 'w')"
        run = self.start(target, workspace, script)
        status, end = self.finish(run)
        assert status == "Completed"
        assert end["exit_code"] == 0
        attempt = run.attempt(1)
        assert _read(attempt.stdout(0)) == "out\n"
        assert _read(attempt.stderr(0)) == "err\n"
        assert os.path.exists(f"{run.work}/made")

    def test_exit_code_and_traceback(self, target: Target, workspace: Path) -> None:
        """A failure is the user's, with its line."""
        run = self.start(target, workspace, "x = 1\nraise KeyError('k')\n")
        status, end = self.finish(run)
        assert status == "Failed"
        assert end["cause"] == "user_error"
        assert end["message"] == "exit 1, KeyError at script.py:2"
        run = self.start(target, workspace, "import sys; sys.exit(37)")
        assert self.finish(run)[1]["exit_code"] == 37

    def test_arguments_and_variables_arrive_as_they_are(
        self, target: Target, workspace: Path
    ) -> None:
        """Nothing is split, quoted or expanded on the way."""
        nasty = ("a b", "", "$HOME", "`x`", "'\"", "*", "-x", "--", "ü\n", "\\", "%s", ";")
        script = "import sys, json, os; json.dump([sys.argv[1:], os.environ['V']], open('o', 'w'))"
        run = self.start(
            target, workspace, script, arguments=nasty, variables={"V": "".join(nasty)}
        )
        self.finish(run)
        assert jsonl.read(f"{run.work}/o") == [list(nasty), "".join(nasty)]

    def test_an_interpreter_that_is_not_there(self, target: Target, workspace: Path) -> None:
        """The environment is the cause, not the script."""
        run = self.start(target, workspace, "pass", python="/nonexistent/python")
        assert self.finish(run)[1]["cause"] == "environment"

    def test_a_run_folder_that_is_not_there(self, target: Target, workspace: Path) -> None:
        """It is refused, or recorded as lost; never silently nothing."""
        run, job = make_run(workspace, "pass", target=target.name)
        submission = target.plan(run, job)
        os.rename(run.root, run.root + ".away")
        with pytest.raises(StartError):
            target.start(submission, run, payload(job))

    def test_it_survives_its_submitter(self, target: Target, workspace: Path) -> None:
        """The process that called `start` may die at once."""
        run, job = make_run(
            workspace, "import time; time.sleep(0.5); print('done')", target=target.name
        )
        code = (
            "import os, pickle, sys\n"
            "target, run, job, payload = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
            "target.start(target.plan(run, job), run, lambda: payload)\n"
            "os.kill(os.getpid(), 9)"
        )
        import pickle

        packed = pickle.dumps((target, run, job, payload(job)())).hex()
        submitter = subprocess.run([sys.executable, "-c", code, packed], check=False)
        assert submitter.returncode == -9
        assert self.finish(run)[0] == "Completed"
        assert _read(run.attempt(1).stdout(0)) == "done\n"

    # stopping

    @pytest.mark.parametrize("request_", ["cancel", "kill"])
    def test_cancel(self, target: Target, workspace: Path, request_: str) -> None:
        """The whole tree ends, with the cause `canceled`."""
        run = self.start(target, workspace, _WITH_CHILD, grace_seconds=5)
        wait_for(lambda: os.path.exists(f"{run.work}/ready"), "the script is up")
        ask_to_stop(run, at_once=request_ == "kill")
        status, end = self.finish(run)
        assert (status, end["cause"]) == ("Canceled", "canceled")

    def test_cancel_before_anything_runs(self, target: Target, workspace: Path) -> None:
        """A request that is there before the supervisor is honored."""
        run, job = make_run(workspace, "open('ran', 'w')", target=target.name)
        ask_to_stop(run)
        target.start(target.plan(run, job), run, payload(job))
        target.cancel(run)
        assert self.finish(run)[0] == "Canceled"

    def test_a_script_that_ignores_sigterm_is_killed(
        self, target: Target, workspace: Path
    ) -> None:
        """After the grace period, and its children with it."""
        script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + _WITH_CHILD
        run = self.start(target, workspace, script, grace_seconds=0.2)
        wait_for(lambda: os.path.exists(f"{run.work}/ready"), "the script is up")
        ask_to_stop(run)
        _, end = self.finish(run)
        assert end["cause"] == "canceled"
        assert end["signal"] == 9

    def test_a_script_may_use_its_grace(self, target: Target, workspace: Path) -> None:
        """SIGTERM comes first, so that a checkpoint can be written."""
        run = self.start(target, workspace, _TIDY, grace_seconds=30)
        wait_for(lambda: os.path.exists(f"{run.work}/ready"), "the script is up")
        ask_to_stop(run)
        assert self.finish(run)[1]["exit_code"] == 5
        assert os.path.exists(f"{run.work}/checkpoint")

    def test_time_limit(self, target: Target, workspace: Path) -> None:
        """The limit ends the whole tree."""
        run = self.start(target, workspace, _WITH_CHILD, seconds=0.5, grace_seconds=0.2)
        status, end = self.finish(run)
        assert (status, end["cause"]) == ("Failed", "time_limit")

    def test_what_a_script_leaves_behind_ends_with_it(
        self, target: Target, workspace: Path
    ) -> None:
        """No process outlives its run."""
        script = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)"
        status, end = self.finish(self.start(target, workspace, script))
        assert status == "Completed"
        assert end["leftover"] >= 1

    # poll

    def test_poll_tells_the_living_from_the_gone(self, target: Target, workspace: Path) -> None:
        """Many runs are asked about at once."""
        living = self.start(target, workspace, _WITH_CHILD)
        gone = self.start(target, workspace, "pass")
        self.finish(gone)
        # A scheduler may need a moment to see that the processes are gone.
        wait_for(lambda: target.poll([gone])[gone.run_id].alive is False, "it is gone")
        seen = target.poll([living, gone])
        assert seen[living.run_id].alive is True
        assert seen[gone.run_id].alive is False
        ask_to_stop(living, at_once=True)
        self.finish(living)

    def test_many_at_once(self, target: Target, workspace: Path) -> None:
        """Starts do not disturb each other."""
        runs = [self.start(target, workspace, f"print({number})") for number in range(8)]
        for number, run in enumerate(runs):
            assert self.finish(run)[0] == "Completed"
            assert _read(run.attempt(1).stdout(0)) == f"{number}\n"


_WITH_CHILD = """
import subprocess, time
subprocess.Popen(["sleep", "1000"], start_new_session=True)
open("ready", "w").close()
time.sleep(1000)
"""

_TIDY = """
import signal, sys, time
def tidy(*_):
    open("checkpoint", "w").close()
    sys.exit(5)
signal.signal(signal.SIGTERM, tidy)
open("ready", "w").close()
time.sleep(1000)
"""


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _tree(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in root.rglob("*"))
