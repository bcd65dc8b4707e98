"""ChainerMN trained over two nodes of a real Slurm, and taken up again when it lost them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain import ComputeTarget, Run, SlurmCompute, Workspace
from rechain.record import jsonl
from rechain.record.journal import AttemptState, fold
from rechain.record.paths import RunPaths
from rechain.testing import processes_of, wait_for
from rechain.testing.slurm import MPI_VARIABLES, SlurmCluster
from rechain.workspace.reconcile import reconcile
from tests import test_chainermn, test_resuming
from tests.conftest import interpreter

PATIENCE = 300  # seconds; only ends a test that hangs

# Chainer, its Python, what `--mpi` is given and what is to start the ranks.
CELLS = [
    ("5.1.0", "3.6", "mpiexec.openmpi", "auto"),
    ("5.1.0", "3.6", "mpiexec.openmpi", "srun:pmix"),
    ("7.0.0", "3.11", "mpiexec.openmpi", "auto"),
    ("7.0.0", "3.11", "openmpi", "auto"),
    ("7.0.0", "3.11", "openmpi", "srun:pmix"),
]
ALSO_ENGINES = CELLS[0]


def cells() -> list[Any]:
    found = []
    for cell in CELLS:
        mark = pytest.mark.engines if cell == ALSO_ENGINES else pytest.mark.matrix
        found.append(pytest.param(*cell, marks=mark))
    return found


class Training:
    """A training on two nodes, two ranks on each."""

    def __init__(
        self,
        source: Path,
        cluster: SlurmCluster,
        cell: tuple[str, ...],
        *script: str,
        **asked: Any,
    ) -> None:
        version, minor, mpi, start = cell
        settings = SlurmCompute.attach_configuration(mpi=start, **asked)
        ComputeTarget.attach(Workspace.local(), "cluster", settings)
        variables = [word for pair in MPI_VARIABLES.items() for word in ("--env", "=".join(pair))]
        command = [
            sys.executable, "-m", "rechain", "run", "--json", "--detach", "--no-docker",
            "--framework-version", version, "--python", interpreter(minor), "--target", "cluster",
            "--node-count", "2", "-n", "2", "--mpi", mpi, "--grace", "25s", *variables,
            str(source / "train.py"), *script,
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        self._cluster = cluster
        self.run = Run.get(Workspace.local(), jsonl.loads(ended.stdout)["run_id"])
        self.paths = RunPaths(self.run.folder)
        self.job = jsonl.read(self.paths.job)

    @property
    def number(self) -> str:
        return str(jsonl.read(self.paths.submission)["handle"]["job"])

    def held(self) -> None:
        """Wait until all ranks wait at the iteration where they are told to."""

        def all_wait() -> bool:
            end = fold(self.paths).end
            assert end is None, end
            return all(os.path.exists(f"{self.paths.work}/held{rank}") for rank in range(4))

        wait_for(all_wait, "the training is under way", PATIENCE)

    def first_end(self) -> dict[str, Any]:
        """Wait for the end of the first attempt, after which it goes on."""
        end = wait_for(lambda: fold(self.paths).attempts[0].end, "its end", PATIENCE)
        assert end["requeue"], end
        assert fold(self.paths).status == "Queued"
        return dict(end)

    def start_again(self) -> None:
        def waits() -> bool:
            return self._cluster.job(self.number)["JobState"] == "PENDING"

        wait_for(waits, "its job is in the queue again", PATIENCE)
        self._cluster.start_now(self.number)

    def resumed(self) -> tuple[str, str]:
        """Return how the second attempt went on, and from what."""
        lines = Path(self.paths.attempt(2).journal).read_text().splitlines()
        (event,) = [row for row in map(jsonl.loads, lines) if row["event"] == "resume"]
        return event["how"], event["snapshot"]

    def ended(self) -> AttemptState:
        def end() -> Any:
            reconcile(self.paths, self.job)
            return fold(self.paths).end

        last = wait_for(end, "the end of the training", PATIENCE)
        notes = [note for attempt in fold(self.paths).attempts for note in attempt.notes]
        assert last["cause"] == "completed", (last, notes)
        wait_for(lambda: not processes_of(self.paths), "no process is left on any node", PATIENCE)
        state = fold(self.paths).last
        assert state is not None
        return state


@pytest.mark.parametrize("cell", [pytest.param(c.values, marks=c.marks) for c in cells()], ids=str)
def test_chainermn_trains_on_two_nodes(
    source: Path, environments: Path, slurm: SlurmCluster, cell: tuple[str, ...]
) -> None:
    (source / "train.py").write_text(test_chainermn.SCRIPT)
    training = Training(source, slurm, cell)
    state = training.ended()
    said = Path(training.paths.attempt(1).stdout(0)).read_text()
    assert f"{cell[0]} {test_chainermn.PYTHONS[cell[1]]} 4 75 True" in said
    assert [row["node"] for _, row in sorted(state.ranks.items())] == ["n1", "n1", "n2", "n2"]
    losses = training.run.get_metrics()["validation/main/loss"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


RESUMED = [
    pytest.param(("5.1.0", "3.6", "mpiexec.openmpi", "auto"), marks=pytest.mark.matrix),
    pytest.param(("7.0.0", "3.11", "mpiexec.openmpi", "srun:pmix"), marks=pytest.mark.matrix),
]


def write(source: Path, extensions: str = test_resuming.CHECKPOINTER) -> None:
    test_resuming.write(source, comm=test_resuming.MN, extensions=extensions)


@pytest.mark.parametrize("cell", RESUMED, ids=str)
def test_preempted_it_goes_on_where_it_was(
    source: Path, environments: Path, slurm: SlurmCluster, cell: tuple[str, ...]
) -> None:
    write(source)
    gate = source.parent / "gate"
    script = ("--hold-at", "25", "--gate", str(gate))
    training = Training(source, slurm, cell, *script, partition="low", options=["--exclusive"])
    training.held()
    gate.touch()
    high = ["--partition=high", "-N2", "--exclusive", "--output=/dev/null"]
    slurm.run("sbatch", *high, "--wrap=true")
    assert training.first_end()["cause"] == "preempted"
    training.start_again()
    assert training.ended().number == 2
    test_resuming.every_iteration_once(training.run)


SAVED = [
    pytest.param(("5.1.0", "3.6", "mpiexec.openmpi", "mpirun"), marks=pytest.mark.engines),
    pytest.param(("5.1.0", "3.6", "mpiexec.openmpi", "srun:pmix"), marks=pytest.mark.matrix),
    pytest.param(("7.0.0", "3.11", "openmpi", "mpirun"), marks=pytest.mark.matrix),
    pytest.param(("7.0.0", "3.11", "mpiexec.mpich", "mpirun"), marks=pytest.mark.matrix),
    pytest.param(("7.0.0", "3.11", "mpiexec.mpich", "srun:pmi2"), marks=pytest.mark.matrix),
]


@pytest.mark.parametrize("cell", SAVED, ids=str)
def test_preempted_it_saves_on_all_ranks_and_goes_on_from_there(
    source: Path, environments: Path, slurm: SlurmCluster, cell: tuple[str, ...]
) -> None:
    write(source, test_resuming.ON_SIGTERM)
    gate = source.parent / "gate"
    script = ("--hold-at", "25", "--gate", str(gate))
    training = Training(source, slurm, cell, *script, partition="low", options=["--exclusive"])
    training.held()
    high = ["--partition=high", "-N2", "--exclusive", "--output=/dev/null"]
    slurm.run("sbatch", *high, "--wrap=true")
    wait_for(lambda: fold(training.paths).attempts[0].stopping, "it is asked to end", PATIENCE)
    gate.touch()
    assert training.first_end()["cause"] == "preempted"
    training.start_again()
    assert training.ended().number == 2
    assert training.resumed() == ("itself", "result/snapshot_iter_25")
    test_resuming.every_iteration_once(training.run)


@pytest.mark.parametrize("node", ["n1", "n2"])
@pytest.mark.parametrize("cell", RESUMED, ids=str)
def test_a_node_is_killed_and_it_goes_on_where_it_was(
    source: Path, environments: Path, slurm: SlurmCluster, cell: tuple[str, ...], node: str
) -> None:
    write(source)
    gate = source.parent / "gate"
    training = Training(source, slurm, cell, "--hold-at", "25", "--gate", str(gate))
    training.held()
    gate.touch()
    slurm.kill_node(node)
    if node == "n2":  # the supervisor is on the other one
        end = training.first_end()
        assert end["cause"] == "lost_node"
        assert "node n2" in end["message"]
    slurm.start_node(node)
    training.start_again()
    assert training.ended().number == 2
    first = fold(training.paths).attempts[0].end
    assert first["requeue"]
    assert first["cause"] == "lost_node"
    assert f"node {node}" in first["message"]
    test_resuming.every_iteration_once(training.run)


WHERE = """
import os, sys
from mpi4py import MPI
import chainer
size = MPI.COMM_WORLD.size
print(os.uname().nodename, sys.prefix, chainer.__file__, os.environ["VIRTUAL_ENV"], size)
"""
NODE_STORE = "/dev/shm/rechain-test"  # each node has a /dev/shm of its own


@pytest.mark.engines
def test_each_node_unpacks_the_environment_to_its_own_disk(
    source: Path, environments: Path, slurm: SlurmCluster
) -> None:
    (source / "train.py").write_text(WHERE)

    def on_each(command: str) -> list[str]:
        return sorted(slurm.run("srun", "-N2", "bash", "-c", command).splitlines())

    def trained() -> tuple[str, list[list[str]]]:
        training = Training(source, slurm, ALSO_ENGINES, node_store=NODE_STORE)
        state = training.ended()
        outs = [Path(training.paths.attempt(1).stdout(rank)).read_text() for rank in range(4)]
        (note,) = [note for note in state.notes if "the environment is read from" in note]
        return note, [out.split() for out in outs]

    try:
        on_each(f"[ $SLURM_PROCID = 0 ] || touch {NODE_STORE}")
        note, outs = trained()
        assert note == (
            "the environment is read from the shared file system, not from the nodes' disks: "
            "n2: File exists"
        )
        assert all(out[1].startswith(str(environments)) for out in outs)

        on_each(f"rm -rf {NODE_STORE}")
        own = f"{NODE_STORE}/rechain-{os.getuid()}"
        note, outs = trained()
        assert note.startswith(
            f"the environment is read from the nodes' own disks: {own}, unpacked on n1, n2 in "
        )
        assert [out[0] for out in outs] == ["n1", "n1", "n2", "n2"]
        for out in outs:
            assert out[4] == "4"
            assert out[1] == out[3]
            assert out[1].startswith(f"{own}/")
            assert out[2].startswith(f"{out[1]}/")
        assert not os.path.exists(NODE_STORE)  # nodes' disks are theirs

        inodes = on_each(f"stat -c %i {own}/*/pyvenv.cfg")
        note, _ = trained()
        assert note.endswith(", it was there already")
        assert on_each(f"stat -c %i {own}/*/pyvenv.cfg") == inodes
    finally:
        on_each(f"rm -rf {NODE_STORE}")
