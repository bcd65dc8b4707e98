"""The kill matrix over two nodes of a real Slurm: whoever is killed, nothing is left on either.

The scripts are those of `test_kill_matrix`; no MPI is spoken, because a script that waits for
nobody is the harder one to end.
"""

from __future__ import annotations

import os
import signal
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

# Who gets SIGKILL, and what is recorded then.
EXPECTED = {
    "rank 0": "killed",
    "rank 3": "killed",
    "guard of rank 0": "killed",
    "guard of rank 3": "killed",
    "guard of n1": "killed",
    "guard of n2": "killed",
    "keeper of n1": "killed",
    "keeper of n2": "killed",
    "launcher": "killed",
    "supervisor": "supervisor_lost",
    "guard": "supervisor_lost",
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


def cases() -> list[Any]:
    """In CI each victim once, with the script that is the hardest to find, in turn each way."""
    found = []
    for number, victim in enumerate(EXPECTED):
        for way in WAYS:
            for kind in matrix.HOSTILE:
                quick = kind == "no environment" and way == WAYS[number % len(WAYS)]
                mark = pytest.mark.engines if quick else pytest.mark.matrix
                name = f"{victim}-{'-'.join(way)}-{kind}"
                found.append(pytest.param(victim, way, kind, marks=mark, id=name))
    return found


@pytest.mark.parametrize(("victim", "way", "kind"), cases())
def test_one_of_the_run_is_killed(
    slurm: SlurmCluster, tmp_path: Path, victim: str, way: tuple[str, str], kind: str
) -> None:
    attempt = Attempt(slurm, tmp_path, way, kind).start()
    os.kill(attempt.pid(victim), signal.SIGKILL)
    if victim == "guard":  # Slurm may be quicker to end the supervisor than that its record
        wait_for(lambda: not attempt.left(), "nothing is left", PATIENCE)
        wait_for(lambda: reconciled(attempt), "its end is recorded", PATIENCE)
    end = attempt.ends_clean(EXPECTED[victim]).end
    if " of " in victim:
        who = victim.replace("keeper", "guard").replace("of n", "of node n")
        assert f"the {who}" in end["message"]
    elif victim.startswith("rank"):
        assert f"{victim} on n" in end["message"]


@pytest.mark.engines
def test_cancel(slurm: SlurmCluster, tmp_path: Path) -> None:
    attempt = Attempt(slurm, tmp_path, WAYS[0], "deaf").start()
    ask_to_stop(attempt.run)
    attempt.ends_clean("canceled")


@pytest.mark.engines
def test_the_script_ends_by_itself(slurm: SlurmCluster, tmp_path: Path) -> None:
    attempt = Attempt(slurm, tmp_path, WAYS[1], "setsid").start()
    attempt.release.touch()
    assert attempt.ends_clean("completed").end["leftover"] >= 4
