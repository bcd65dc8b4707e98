"""Real trainings that give way to others and go on: their metrics, and what comes out."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rechain import AmlCompute, Chainer, ComputeTarget, Experiment, Run, Workspace
from rechain.record import jsonl
from rechain.record.journal import AttemptState, fold
from rechain.record.paths import RunPaths
from rechain.testing import wait_for, wait_for_end
from tests.conftest import interpreter

pytestmark = pytest.mark.engines

# What is between the brackets differs from test to test.
SCRIPT = """
import argparse, os, time
import numpy as np
import chainer, chainer.functions as F, chainer.links as L
from chainer import training
from chainer.training import extensions

parser = argparse.ArgumentParser()
parser.add_argument("--resume", "-r", default="")
parser.add_argument("--hold-at", type=int, default=0)
parser.add_argument("--gate", default="")
args = parser.parse_args()
[comm]
rank = comm.rank if comm else 0

np.random.seed(0)
x = np.random.rand(200, 8).astype("f") - 0.5
t = (x.dot(np.random.rand(8, 3).astype("f") - 0.5)).argmax(1).astype("i")
np.random.seed(rank)


class Net(chainer.Chain):
    def __init__(self):
        super(Net, self).__init__()
        with self.init_scope():
            self.a = L.Linear(8, 16)
            self.b = L.Linear(16, 3)

    def __call__(self, x):
        return self.b(F.dropout(F.relu(self.a(x)), 0.2))


class Hold(training.Extension):
    trigger = (1, "iteration")
    priority = -150  # after the snapshot of the iteration

    def __call__(self, trainer):
        if trainer.updater.iteration == args.hold_at and not os.path.exists(args.gate):
            open("held%d" % rank, "w").close()
            while not os.path.exists(args.gate):
                time.sleep(0.01)


model = L.Classifier(Net())
optimizer = chainer.optimizers.Adam()
if comm:
    import chainermn
    optimizer = chainermn.create_multi_node_optimizer(optimizer, comm)
optimizer.setup(model)
batches = chainer.iterators.SerialIterator(chainer.datasets.TupleDataset(x, t), 20)
updater = training.StandardUpdater(batches, optimizer)
trainer = training.Trainer(updater, (60, "iteration"))
if rank == 0:
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
[extensions]
trainer.extend(Hold())
if args.resume:
    chainer.serializers.load_npz(args.resume, trainer)
trainer.run()
if rank == 0:
    chainer.serializers.save_npz("model.npz", model)
"""
SNAPSHOT = 'trainer.extend(extensions.snapshot(), trigger=(10, "iteration"))'
ON_SIGTERM = """
from rechain_guest.extensions import snapshot_on_sigterm
trainer.extend(snapshot_on_sigterm(comm))
"""
MN = 'import chainermn\ncomm = chainermn.create_communicator("naive")'
CHECKPOINTER = """
checkpointer = chainermn.create_multi_node_checkpointer("job", comm, path="checkpoints")
checkpointer.maybe_load(trainer, optimizer)
trainer.extend(checkpointer, trigger=(10, "iteration"))
"""


@pytest.fixture(autouse=True)
def queue(source: Path, environments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of the test's own."""
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(source.parent / "queue"))


def write(source: Path, comm: str = "comm = None", extensions: str = SNAPSHOT) -> None:
    script = SCRIPT.replace("[comm]", comm, 1).replace("[extensions]", extensions)
    (source / "train.py").write_text(script)


def cluster(priority: str) -> None:
    """Describe the cluster of one node, as a user of this priority would."""
    described = Path(".rechain/compute/cluster.json")
    described.unlink(missing_ok=True)
    configuration = AmlCompute.provisioning_configuration(
        vm_size="STANDARD_D2_V2", vm_priority=priority, max_nodes=1
    )
    ComputeTarget.create(Workspace.local(), "cluster", configuration)


class Training:
    """A training under way, on a node that it must give up for others.

    Args:
        source: the script's folder.
        version: Chainer's.
        minor: the version of its Python.
        hold_at: the iteration at whose end it waits.
        options: further ones for `rechain run`.
    """

    def __init__(
        self, source: Path, version: str, minor: str, *options: str, hold_at: int = 25
    ) -> None:
        cluster("lowpriority")
        self.gate = source.parent / f"gate{time.monotonic_ns()}"
        self._source = source
        command = [
            sys.executable, "-m", "rechain", "run", "--json", "--detach", "--no-docker",
            "--framework-version", version, "--python", interpreter(minor), "--target", "cluster",
            *options, str(source / "train.py"),
            "--hold-at", str(hold_at), "--gate", str(self.gate),
        ]  # fmt: skip
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        self.run = Run.get(Workspace.local(), jsonl.loads(ended.stdout)["run_id"])
        self.paths = RunPaths(self.run.folder)

    def held(self, ranks: int = 1) -> None:
        """Wait until it waits."""
        wait_for(
            lambda: all(os.path.exists(f"{self.paths.work}/held{rank}") for rank in range(ranks))
            or fold(self.paths).end,
            "the training is under way", 600,
        )  # fmt: skip
        assert not fold(self.paths).end, fold(self.paths).end

    def give_way(self) -> None:
        """Have a run that goes first take the node for a moment."""
        cluster("dedicated")
        (self._source / "other.py").write_text("pass")
        first = Chainer(
            str(self._source), entry_script="other.py", compute_target="cluster",
            user_managed=True, use_docker=False,
        )  # fmt: skip
        other = Experiment(Workspace.local(), "other").submit(first)
        wait_for(lambda: fold(self.paths).attempts[0].stopping, "it is asked to end")
        self.gate.touch()
        other.wait_for_completion()

    def ended(self) -> AttemptState:
        """Wait for its end, and return the last attempt."""
        end = wait_for_end(self.paths, 600).end
        assert end["cause"] == "completed", end
        return fold(self.paths).last

    def result(self) -> bytes:
        """Return the weights in the end, as they lie in the file."""
        with zipfile.ZipFile(f"{self.paths.work}/model.npz") as archive:
            return b"".join(archive.read(name) for name in sorted(archive.namelist()))

    def resumed(self) -> dict[str, Any]:
        """Return how the second attempt went on."""
        lines = Path(self.paths.attempt(2).journal).read_text().splitlines()
        (event,) = [row for row in map(jsonl.loads, lines) if row["event"] == "resume"]
        return {key: event[key] for key in ("how", "snapshot", "passed_over")}


def every_iteration_once(run: Run) -> None:
    losses = run.get_metrics()["main/loss"]
    log = jsonl.loads(Path(run.folder, "work/result/log").read_text())
    assert [row["iteration"] for row in log] == list(range(1, 61))
    assert losses == [row["main/loss"] for row in log]


CELLS = pytest.mark.parametrize(("version", "minor"), [("5.1.0", "3.6"), ("7.0.0", "3.11")])


@CELLS
def test_a_script_with_resume_goes_on_from_its_newest_whole_snapshot(
    source: Path, version: str, minor: str
) -> None:
    write(source)
    training = Training(source, version, minor)
    training.held()
    newest = Path(training.paths.work, "result/snapshot_iter_20")
    newest.write_bytes(newest.read_bytes()[:-100])
    training.give_way()
    last = training.ended()
    assert last.number == 2
    assert training.resumed() == {
        "how": "argument",
        "snapshot": "result/snapshot_iter_10",
        "passed_over": ["result/snapshot_iter_20"],
    }
    assert any("result/snapshot_iter_10" in note for note in last.notes)
    every_iteration_once(training.run)


def test_chainers_autoload_is_left_to_itself_but_spared_broken_snapshots(source: Path) -> None:
    write(source, extensions=SNAPSHOT.replace("snapshot()", "snapshot(autoload=True)"))
    training = Training(source, "7.0.0", "3.11")
    training.held()
    newest = Path(training.paths.work, "result/snapshot_iter_20")
    newest.write_bytes(newest.read_bytes()[:-100])
    training.give_way()
    training.ended()
    assert training.resumed()["how"] == "itself"
    every_iteration_once(training.run)


def test_without_any_means_it_starts_from_scratch_and_that_is_said(source: Path) -> None:
    write(source)
    script = source / "train.py"
    script.write_text(script.read_text().replace('"--resume", "-r"', '"--take-up"').replace(
        "args.resume", "args.take_up"
    ))  # fmt: skip
    training = Training(source, "7.0.0", "3.11")
    training.held()
    training.give_way()
    last = training.ended()
    assert training.resumed()["how"] == "scratch"
    assert any("starts from scratch" in note for note in last.notes)
    every_iteration_once(training.run)


@CELLS
@pytest.mark.parametrize("ranks", [1, 2])
def test_with_the_extension_the_weights_are_those_of_an_uninterrupted_training(
    source: Path, version: str, minor: str, ranks: int
) -> None:
    options = ("-n", "2") if ranks > 1 else ()
    write(source, comm=MN if ranks > 1 else "comm = None", extensions=ON_SIGTERM)
    training = Training(source, version, minor, *options)
    training.held(ranks)
    training.give_way()
    training.ended()
    assert training.resumed() == {
        "how": "itself", "snapshot": "result/snapshot_iter_25", "passed_over": [],
    }  # fmt: skip
    every_iteration_once(training.run)
    uninterrupted = Training(source, version, minor, *options, hold_at=0)
    uninterrupted.ended()
    assert fold(uninterrupted.paths).last.number == 1
    assert training.result() == uninterrupted.result()


def test_chainermns_checkpointer_goes_on_by_itself(source: Path) -> None:
    write(source, comm=MN, extensions=CHECKPOINTER)
    training = Training(source, "7.0.0", "3.11", "-n", "2")
    training.held(2)
    training.give_way()
    training.ended()
    assert training.resumed()["how"] == "itself"
    every_iteration_once(training.run)


REPORTS = """
trainer.extend(extensions.LogReport(trigger=(10, "iteration"), [where]))
"""


@pytest.mark.parametrize("where", ["log_name='log'", "log_name='log%d' % rank"])
def test_only_the_reports_of_rank_0_count(source: Path, where: str) -> None:
    """Be it that all ranks write to one file, or each to its own."""
    write(source, comm=MN, extensions=REPORTS.replace("[where]", where))
    script = source / "train.py"
    text = script.read_text().replace(
        'if rank == 0:\n    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))', ""
    )
    text += '\nif rank == 0: print([row["main/loss"] for row in [*trainer._extensions.values()]'
    script.write_text(text + "[0].extension.log])")
    training = Training(source, "7.0.0", "3.11", "-n", "2", hold_at=0)
    training.ended()
    said = jsonl.loads(Path(training.paths.attempt(1).stdout(0)).read_text())
    metrics = training.run.get_metrics()
    assert metrics["main/loss"] == said
    assert [name for name in metrics if "/main" in name] == []
