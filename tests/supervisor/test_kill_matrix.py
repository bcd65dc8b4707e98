"""The kill matrix: whoever is killed, however, nothing of the run is left and the cause is right.

Victims x hostile scripts x ways to end. A row's check is a scan of `/proc`: soon after the end no
process carries the run's id, in its environment or on its command line.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rechain.compute.ended import give_up
from rechain.compute.local import LocalTarget
from rechain.compute.target import StartError
from rechain.record import host
from rechain.record.journal import RunState, fold
from rechain.record.paths import RunPaths
from rechain.record.requests import ask_to_stop
from rechain.supervisor import tree
from rechain.testing import make_run, processes_of, wait_for, wait_for_end
from rechain.testing.runs import payload
from rechain.workspace.reconcile import reconcile
from tests.conftest import missing

pytestmark = pytest.mark.fast

HOSTILE = ["plain", "double fork", "setsid", "deaf", "no environment", "refork"]
SCRIPT = (Path(__file__).parent / "hostile.py").read_text()
GRACE = 0.3
TARGET = LocalTarget()


class Attempt:
    """A hostile script under way."""

    ranks = 1
    patience = 120  # seconds; only ends a test that hangs
    cache = "/nonexistent"

    def __init__(self, workspace: Path, kind: str, **settings: object) -> None:
        self.token = f"{os.getpid()}{time.monotonic_ns()}"
        self.ready = workspace / f"ready{self.token}"
        self.release = workspace / f"finish{self.token}"
        workspace.mkdir(exist_ok=True)
        arguments = (kind, self.token, str(self.ready), str(self.release))
        self.run, self.job = self.make(
            workspace, SCRIPT, arguments=arguments, grace_seconds=GRACE, **settings
        )

    def make(self, workspace: Path, script: str, **settings: Any) -> Any:
        return make_run(workspace, script, **settings)

    def start(self, up: bool = True) -> Attempt:
        TARGET.start(TARGET.plan(self.run, self.job), self.run, payload(self.job, self.cache))
        return self.up() if up else self

    def up(self) -> Attempt:
        for rank in range(self.ranks):
            wait_for(
                lambda rank=rank: Path(f"{self.ready}{rank}").exists(), "it is up", self.patience
            )
        wait_for(lambda: len(fold(self.run).last.ranks) == self.ranks, "its ranks are recorded")
        return self

    def pid(self, who: str) -> int:
        last = fold(self.run).last
        return last.ranks[0]["pid"] if who == "script" else last.attempt[who]["pid"]

    def left(self) -> list[int]:
        return processes_of(self.run, self.token)

    def ends_clean(self, cause: str) -> RunState:
        state = wait_for_end(self.run, self.patience)
        wait_for(lambda: not self.left(), "no process of the run is left", self.patience)
        assert state.end["cause"] == cause
        return state


@pytest.mark.parametrize("kind", HOSTILE)
def test_cancel(tmp_path: Path, kind: str) -> None:
    attempt = Attempt(tmp_path, kind).start()
    ask_to_stop(attempt.run)
    attempt.ends_clean("canceled")


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_limit(tmp_path: Path, kind: str) -> None:
    attempt = Attempt(tmp_path, kind, seconds=0.5)
    attempt.start(up=False)  # on a busy machine the limit may come first
    attempt.ends_clean("time_limit")


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_script_ends_by_itself(tmp_path: Path, kind: str) -> None:
    attempt = Attempt(tmp_path, kind).start()
    attempt.release.touch()
    assert attempt.ends_clean("completed").end["leftover"] >= 1


# What is recorded when a victim gets a signal.
EXPECTED = {
    ("script", signal.SIGKILL): "killed",
    ("script", signal.SIGTERM): "user_error",
    ("supervisor", signal.SIGKILL): "supervisor_lost",
    ("supervisor", signal.SIGTERM): "terminated",
    ("guard", signal.SIGKILL): "supervisor_lost",
    ("guard", signal.SIGTERM): "terminated",
}
ROWS = list(itertools.product(EXPECTED, HOSTILE))


@pytest.mark.parametrize(
    ("victim", "number", "kind"),
    [(victim, number, kind) for (victim, number), kind in ROWS],
    ids=[f"{victim}-{number.name}-{kind}" for (victim, number), kind in ROWS],
)
def test_one_of_the_run_gets_a_signal(
    tmp_path: Path, victim: str, number: signal.Signals, kind: str
) -> None:
    attempt = Attempt(tmp_path, kind).start()
    os.kill(attempt.pid(victim), number)
    if (victim, number, kind) == ("script", signal.SIGTERM, "deaf"):
        # A script that ignores SIGTERM goes on, and can still be canceled.
        time.sleep(0.1)
        assert fold(attempt.run).end is None
        ask_to_stop(attempt.run)
        attempt.ends_clean("canceled")
    else:
        attempt.ends_clean(EXPECTED[victim, number])


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_guard_and_supervisor_get_a_signal_at_once(
    tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    attempt = Attempt(tmp_path, kind).start()
    if number == signal.SIGKILL and kind == "no environment":
        _needs_cgroup(attempt)
    if number == signal.SIGTERM:
        for pid in [attempt.pid(who) for who in ("guard", "supervisor")]:
            with contextlib.suppress(ProcessLookupError):  # it was asked by the other, and is gone
                os.kill(pid, number)
        attempt.ends_clean("terminated")
        return
    _kill_both(attempt)
    wait_for(lambda: not host.start_time(attempt.pid("script")), "the script dies with them")
    assert fold(attempt.run).end is None
    reconcile(attempt.run, attempt.job)  # what any reader on this host does
    attempt.ends_clean("supervisor_lost")


def test_documented_both_killed_without_cgroup_and_environment_emptied_leaves_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(tmp_path, "no environment").start()
    _kill_both(attempt)
    # As on a host where the run could have no cgroup.
    monkeypatch.setattr(tree, "end_cgroup", lambda _: None)
    reconcile(attempt.run, attempt.job)
    state = fold(attempt.run)
    assert state.end["cause"] == "supervisor_lost"
    left = wait_for(
        lambda: (found := attempt.left()) and len(found) == 1 and found, "all others end"
    )
    assert b"86400." in Path(f"/proc/{left[0]}/cmdline").read_bytes()
    os.kill(left[0], signal.SIGKILL)
    monkeypatch.undo()
    if state.last.attempt["cgroup"]:
        tree.end_cgroup(state.last.attempt["cgroup"])


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_the_submitter_gets_a_signal_and_the_run_goes_on(
    tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    attempt = Attempt(tmp_path, kind)
    code = (
        "import pickle, sys, time\n"
        "from rechain.compute.local import LocalTarget\n"
        "run, job, payload = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "target = LocalTarget()\n"
        "target.start(target.plan(run, job), run, lambda: payload)\n"
        "time.sleep(1000)"
    )
    packed = pickle.dumps((attempt.run, attempt.job, payload(attempt.job)())).hex()
    submitter = subprocess.Popen([sys.executable, "-c", code, packed], start_new_session=True)
    attempt.up()
    os.killpg(submitter.pid, number)  # its whole session, as when a terminal closes
    submitter.wait()
    time.sleep(0.1)
    assert fold(attempt.run).end is None
    attempt.release.touch()
    attempt.ends_clean("completed")


@pytest.mark.parametrize("delay", [0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.03])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_the_launcher_gets_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, delay: float
) -> None:
    """Either nothing was started, and that is said; or the run is as good as any other."""
    attempt = Attempt(tmp_path, "refork")
    spawn = os.posix_spawn

    def spawn_and_kill(*args: object, **kwargs: object) -> int:
        pid = spawn(*args, **kwargs)
        time.sleep(delay)
        os.kill(pid, number)
        return pid

    monkeypatch.setattr(os, "posix_spawn", spawn_and_kill)
    try:
        TARGET.start(TARGET.plan(attempt.run, attempt.job), attempt.run, payload(attempt.job))
    except StartError as error:
        give_up(attempt.run, "supervisor_lost", str(error), here=True)  # as submit does
        attempt.ends_clean("supervisor_lost")
    else:
        attempt.up().release.touch()
        attempt.ends_clean("completed")


def test_a_run_whose_submitter_died_before_starting_it_is_found_out(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "plain")
    gone = subprocess.Popen(["sleep", "1000"])
    attempt.job["submitted"].update(host.process(gone.pid))
    Path(attempt.run.job).write_text(__import__("json").dumps(attempt.job))
    reconcile(attempt.run, attempt.job)
    assert fold(attempt.run).status == "NotStarted"  # it may still come to it
    gone.kill()
    gone.wait()
    reconcile(attempt.run, attempt.job)
    attempt.ends_clean("supervisor_lost")


def test_a_run_from_before_a_reboot_is_found_out(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "plain").start()
    _kill_both(attempt)
    _rewrite_host(attempt.run, boot_id="another boot")
    reconcile(attempt.run, attempt.job)
    attempt.ends_clean("supervisor_lost")


def test_a_run_of_another_host_is_left_alone(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, "plain").start()
    _rewrite_host(attempt.run, boot_id="another", machine_id="another", name="another")
    reconcile(attempt.run, attempt.job)
    assert fold(attempt.run).end is None
    ask_to_stop(attempt.run, at_once=True)
    attempt.ends_clean("canceled")


def _kill_both(attempt: Attempt) -> None:
    both = [attempt.pid("guard"), attempt.pid("supervisor")]
    kill_at_once(both)
    wait_for(lambda: not any(map(host.start_time, both)), "both are gone")


def kill_at_once(pids: list[int]) -> None:
    for pid in pids:  # stopped first, so that none sees another's end
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _rewrite_host(run: RunPaths, **changed: str) -> None:
    """Let the journal say that it was written elsewhere, keeping the writer's own descriptor."""
    journal = Path(run.attempt(1).journal)
    text = journal.read_text()
    here = host.identity()
    for name, value in changed.items():
        text = text.replace(f'"{name}": "{here[name]}"', f'"{name}": "{value}"')
    with journal.open("r+") as file:
        file.write(text)
        file.truncate()


def _needs_cgroup(attempt: Attempt) -> None:
    if fold(attempt.run).last.attempt["cgroup"] is None:
        ask_to_stop(attempt.run, at_once=True)
        wait_for_end(attempt.run)
        missing("writable cgroup v2")
