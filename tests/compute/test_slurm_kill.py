"""The kill matrix over two nodes of a real Slurm: whoever is killed, nothing is left on either.

The scripts are those of `test_kill_matrix`; no MPI is spoken, because a script that waits for
nobody is the harder one to end.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from rechain.record import jsonl
from rechain.record.journal import RunState, fold
from rechain.record.requests import ask_to_stop
from rechain.supervisor import tree
from rechain.testing import wait_for
from rechain.testing.slurm import SlurmCluster
from rechain.workspace.reconcile import reconcile
from tests.compute.test_slurm_nodes import PATIENCE, cmdline, submit
from tests.supervisor import test_kill_matrix as matrix

WAYS = (("mpich", "mpirun"), ("openmpi", "mpirun"), ("openmpi", "srun:pmix"))

# What is recorded when a victim gets a signal.
EXPECTED = {
    ("rank 0", signal.SIGKILL): "killed",
    ("rank 3", signal.SIGKILL): "killed",
    ("guard of rank 0", signal.SIGKILL): "killed",
    ("guard of rank 3", signal.SIGKILL): "killed",
    ("guard of n1", signal.SIGKILL): "killed",
    ("guard of n2", signal.SIGKILL): "killed",
    ("keeper of n1", signal.SIGKILL): "killed",
    ("keeper of n2", signal.SIGKILL): "killed",
    ("launcher", signal.SIGKILL): "killed",
    ("supervisor", signal.SIGKILL): "supervisor_lost",
    ("guard", signal.SIGKILL): "supervisor_lost",
    ("rank 3", signal.SIGTERM): "user_error",
    ("guard of n2", signal.SIGTERM): "terminated",
    ("supervisor", signal.SIGTERM): "terminated",
    ("guard", signal.SIGTERM): "terminated",
}


class Attempt(matrix.Attempt):
    """A hostile script of two ranks on each of two nodes under way."""

    ranks = 4
    patience = PATIENCE

    def __init__(self, slurm: SlurmCluster, workspace: Path, way: tuple[str, str], kind: str):
        self._slurm = slurm
        self._way = way
        super().__init__(workspace, kind)

    def make(self, workspace: Path, script: str, **settings: Any) -> Any:
        family, mpi = self._way
        run = submit(workspace, family, script, mpi, **settings)
        return run, jsonl.read(run.job)

    def start(self) -> Attempt:
        return self.up()  # it was submitted when it was made

    def pid(self, who: str) -> int:
        last = fold(self.run).last
        kind, _, of = who.rpartition(" ")
        if who in ("supervisor", "guard"):
            return self._slurm.pid_of("n1", last.attempt[who]["pid"])
        if kind.endswith("rank"):
            started = jsonl.read(self.run.attempt(1).rank(int(of), "start"))
            pid = started["guard"]["pid"] if kind.startswith("guard") else started["pid"]
            return self._slurm.pid_of(started["node"], pid)
        if who == "launcher":
            under = tree._children(self.pid("supervisor"))
            return next(pid for pid in under if b"--rank" in cmdline(pid))
        mark = f"--node\0{self.run.root}\0".encode()
        pair = [pid for pid in self._slurm.processes(of) if mark in cmdline(pid)]
        keeper = next(pid for pid in pair if set(tree._children(pid)) & set(pair))
        guard = next(pid for pid in tree._children(keeper) if pid in pair)
        return keeper if kind.startswith("keeper") else guard

    def ends_clean(self, cause: str) -> RunState:
        try:
            state = super().ends_clean(cause)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{fold(self.run).end}\n{self._slurm.logs()}") from None
        return state


def reconciled(attempt: Attempt) -> object:
    reconcile(attempt.run, attempt.job)
    return fold(attempt.run).end


def cases(rows: Iterable[Any], quick: str) -> list[Any]:
    """Each row with each kind of script, in turn each way; in CI with one kind."""
    found = []
    for number, row in enumerate(rows):
        for offset, kind in enumerate(matrix.HOSTILE, -matrix.HOSTILE.index(quick)):
            way = WAYS[(number + offset) % len(WAYS)]
            always = kind == quick and row[1:] != (signal.SIGTERM,)
            mark = pytest.mark.engines if always else pytest.mark.matrix
            name = "-".join([*(getattr(part, "name", part) for part in row), *way, kind])
            found.append(pytest.param(*row, way, kind, marks=mark, id=name))
    return found


@pytest.mark.parametrize(("victim", "number", "way", "kind"), cases(EXPECTED, "no environment"))
def test_one_of_the_run_gets_a_signal(
    slurm: SlurmCluster,
    tmp_path: Path,
    victim: str,
    number: signal.Signals,
    way: tuple[str, str],
    kind: str,
) -> None:
    attempt = Attempt(slurm, tmp_path, way, kind).start()
    os.kill(attempt.pid(victim), number)
    if (number, kind) == (signal.SIGTERM, "deaf") and victim.startswith("rank"):
        # A rank that ignores SIGTERM goes on, and can still be canceled.
        time.sleep(0.1)
        assert fold(attempt.run).end is None
        ask_to_stop(attempt.run)
        attempt.ends_clean("canceled")
        return
    if (victim, number) == ("guard", signal.SIGKILL):
        # Slurm may be quicker to end the supervisor than that its record.
        wait_for(lambda: not attempt.left(), "nothing is left", PATIENCE)
        wait_for(lambda: reconciled(attempt), "its end is recorded", PATIENCE)
    end = attempt.ends_clean(EXPECTED[victim, number]).end
    if " of " in victim:
        who = victim.replace("keeper", "guard").replace("of n", "of node n")
        assert f"the {who}" in end["message"]
    elif victim.startswith("rank") and number == signal.SIGKILL:
        assert f"{victim} on n" in end["message"]


@pytest.mark.parametrize(("way", "kind"), cases([()], "plain"))
def test_guard_and_supervisor_are_killed_at_once(
    slurm: SlurmCluster, tmp_path: Path, way: tuple[str, str], kind: str
) -> None:
    attempt = Attempt(slurm, tmp_path, way, kind).start()
    matrix.kill_at_once([attempt.pid("guard"), attempt.pid("supervisor")])
    wait_for(lambda: not attempt.left(), "nothing is left", PATIENCE)
    wait_for(lambda: reconciled(attempt), "its end is recorded", PATIENCE)
    attempt.ends_clean("supervisor_lost")


@pytest.mark.parametrize(("way", "kind"), cases([()], "deaf"))
def test_cancel(slurm: SlurmCluster, tmp_path: Path, way: tuple[str, str], kind: str) -> None:
    attempt = Attempt(slurm, tmp_path, way, kind).start()
    ask_to_stop(attempt.run)
    attempt.ends_clean("canceled")


@pytest.mark.parametrize(("way", "kind"), cases([()], "refork"))
def test_scancel(slurm: SlurmCluster, tmp_path: Path, way: tuple[str, str], kind: str) -> None:
    attempt = Attempt(slurm, tmp_path, way, kind).start()
    slurm.run("scancel", f"--name={attempt.run.run_id}")
    attempt.ends_clean("canceled")


@pytest.mark.parametrize(("way", "kind"), cases([()], "setsid"))
def test_the_script_ends_by_itself(
    slurm: SlurmCluster, tmp_path: Path, way: tuple[str, str], kind: str
) -> None:
    attempt = Attempt(slurm, tmp_path, way, kind).start()
    attempt.release.touch()
    assert attempt.ends_clean("completed").end["leftover"] >= 4
