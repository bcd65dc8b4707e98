"""The kill matrix under real MPIs: one of the ranks' own processes is killed, or what holds them.

The rows and their check are those of `test_kill_matrix`; no MPI is spoken, because a script that
waits for nobody is the harder one to end.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from rechain.record import host, jsonl
from rechain.record.journal import fold
from rechain.record.requests import ask_to_stop
from rechain.supervisor import tree
from rechain.testing import wait_for
from rechain.workspace.reconcile import reconcile
from tests.supervisor import test_kill_matrix as matrix
from tests.supervisor.mpi import LAUNCHERS, cache, make_ranks

# The kinds that are the hardest to end each in its own way; the others take their turn with the
# full matrix.
ALWAYS = ("plain", "deaf", "no environment")
KINDS = [
    pytest.param(kind, marks=pytest.mark.engines if kind in ALWAYS else pytest.mark.matrix)
    for kind in matrix.HOSTILE
]


class Attempt(matrix.Attempt):
    """A hostile script of two ranks under way."""

    ranks = 2

    def __init__(self, workspace: Path, family: str, kind: str, **settings: Any) -> None:
        self._family = family
        self.cache = cache()
        super().__init__(workspace, kind, **settings)

    def make(self, workspace: Path, script: str, **settings: Any) -> Any:
        return make_ranks(workspace, self._family, script, self.ranks, **settings)

    def pid(self, who: str) -> int:
        last = fold(self.run).last
        if who == "rank":
            return int(last.ranks[1]["pid"])
        if who == "rank guard":
            started = jsonl.read(self.run.attempt(1).rank(1, "start"))
            return int(started["guard"]["pid"])
        if who == "mpiexec":
            supervisor = super().pid("supervisor")
            mine = set(tree._children(supervisor))
            path = self.run.attempt(1)
            of_ranks = {jsonl.read(path.rank(rank, "start"))["guard"]["pid"] for rank in range(2)}
            above = {pid for pid in mine if of_ranks & set(tree.descendants(pid))}
            return above.pop()
        return super().pid(who)


@pytest.fixture(params=LAUNCHERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_cancel(tmp_path: Path, family: str, kind: str) -> None:
    attempt = Attempt(tmp_path, family, kind).start()
    ask_to_stop(attempt.run)
    attempt.ends_clean("canceled")


@pytest.mark.parametrize("kind", KINDS)
def test_the_script_ends_by_itself(tmp_path: Path, family: str, kind: str) -> None:
    attempt = Attempt(tmp_path, family, kind).start()
    attempt.release.touch()
    assert attempt.ends_clean("completed").end["leftover"] >= 2


EXPECTED = {
    ("rank", signal.SIGKILL): "killed",
    ("rank", signal.SIGTERM): "user_error",
    ("rank guard", signal.SIGKILL): "killed",
    ("rank guard", signal.SIGTERM): "killed",
    ("mpiexec", signal.SIGKILL): "killed",
    ("mpiexec", signal.SIGTERM): "killed",
    ("supervisor", signal.SIGKILL): "supervisor_lost",
    ("supervisor", signal.SIGTERM): "terminated",
    ("guard", signal.SIGKILL): "supervisor_lost",
    ("guard", signal.SIGTERM): "terminated",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("victim", "number"), EXPECTED, ids=[f"{victim}-{number.name}" for victim, number in EXPECTED]
)
def test_one_of_the_run_gets_a_signal(
    tmp_path: Path, family: str, victim: str, number: signal.Signals, kind: str
) -> None:
    attempt = Attempt(tmp_path, family, kind).start()
    os.kill(attempt.pid(victim), number)
    passed_on = ["rank", "rank guard"] + ["mpiexec"] * (family == "mpich")
    if kind == "deaf" and number == signal.SIGTERM and victim in passed_on:
        # A rank that ignores SIGTERM goes on, and can still be canceled.
        time.sleep(0.1)
        assert fold(attempt.run).end is None
        ask_to_stop(attempt.run)
        attempt.ends_clean("canceled")
    else:
        attempt.ends_clean(EXPECTED[victim, number])


@pytest.mark.parametrize("kind", KINDS)
def test_guard_and_supervisor_are_killed_at_once(tmp_path: Path, family: str, kind: str) -> None:
    attempt = Attempt(tmp_path, family, kind).start()
    if kind == "no environment":
        matrix._needs_cgroup(attempt)
    matrix._kill_both(attempt)
    wait_for(lambda: not host.start_time(attempt.pid("rank")), "the ranks die with them")
    assert fold(attempt.run).end is None
    reconcile(attempt.run, attempt.job)
    attempt.ends_clean("supervisor_lost")
