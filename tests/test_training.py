"""Real Chainer, trained through the whole of Rechain, on an old Python and on a current one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rechain import Chainer, Environment, Experiment, ScriptRunConfig, Workspace
from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.testing import processes_of, wait_for
from tests.conftest import interpreter

pytestmark = pytest.mark.engines

# A script as people have them: no word of Rechain or Azure, results in `result/`.
SCRIPT = """
import argparse, os, time
import numpy as np
import chainer, chainer.functions as F, chainer.links as L
from chainer import training
from chainer.training import extensions

parser = argparse.ArgumentParser()
parser.add_argument("--epoch", type=int, default=3)
parser.add_argument("--wait-for", default="")
parser.add_argument("--fail-at", type=int, default=0)
args = parser.parse_args()

np.random.seed(0)
x = np.random.rand(300, 1, 8, 8).astype("f") - 0.5
t = (x.reshape(300, -1).dot(np.random.rand(64, 3).astype("f") - 0.5)).argmax(1).astype("i")


class Net(chainer.Chain):
    def __init__(self):
        super(Net, self).__init__()
        with self.init_scope():
            self.conv = L.Convolution2D(1, 4, 3)
            self.out = L.Linear(None, 3)

    def __call__(self, x):
        return self.out(F.relu(self.conv(x)))


class Hold(training.Extension):
    trigger = (1, "epoch")
    priority = -100

    def __call__(self, trainer):
        if trainer.updater.epoch == args.fail_at:
            raise RuntimeError("no more digits")
        while args.wait_for and not os.path.exists(args.wait_for):
            time.sleep(0.01)


data = chainer.datasets.TupleDataset(x, t)
model = L.Classifier(Net())
optimizer = chainer.optimizers.Adam()
optimizer.setup(model)
batches = chainer.iterators.SerialIterator(data, 50)
trainer = training.Trainer(training.StandardUpdater(batches, optimizer), (args.epoch, "epoch"))
trainer.extend(extensions.LogReport())
trainer.extend(extensions.dump_graph("main/loss"))
trainer.extend(extensions.snapshot(), trigger=(args.epoch, "epoch"))
if args.wait_for or args.fail_at:
    trainer.extend(Hold())
trainer.run()
chainer.serializers.save_npz("model.npz", model)
print("chainer", chainer.__version__, "numpy", np.__version__)
"""


@pytest.fixture(autouse=True)
def script(source: Path, environments: Path) -> Path:
    path = source / "train.py"
    path.write_text(SCRIPT)
    return path


def train(source: Path, version: str, minor: str, *arguments: str) -> dict[str, object]:
    """Run the script with `rechain run`, and return what `--json` says."""
    command = [
        sys.executable, "-m", "rechain", "run", "--json", "--no-docker",
        "--framework-version", version, "--python", interpreter(minor),
        str(source / "train.py"), *arguments,
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr
    said = jsonl.loads(ended.stdout)
    assert said["exit_code"] == ended.returncode
    return {**said, "stderr": ended.stderr}


@pytest.mark.parametrize(
    ("version", "minor"),
    [("5.1.0", "3.6"), ("5.1.0", "3.11"), ("7.0.0", "3.6"), ("7.0.0", "3.11"), ("7.0.0", "3.13")],
)
def test_a_training_runs_and_is_recorded(source: Path, version: str, minor: str) -> None:
    said = train(source, version, minor)
    assert said["cause"] == "completed", said["stderr"]
    assert f"chainer {version} numpy " in said["stderr"]
    metrics = said["metrics"]
    assert len(metrics["main/loss"]) == 3
    assert metrics["main/loss"][-1] < metrics["main/loss"][0]
    assert metrics["epoch"] == [1, 2, 3]
    run = Workspace.local().get_run(said["run_id"])
    listing = subprocess.run(
        [sys.executable, "-m", "rechain", "files", "--json", run.id],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    kinds = {file["name"]: file["kind"] for file in jsonl.loads(listing.stdout)}
    assert kinds["result/log"] == "log-report"
    assert kinds["result/cg.dot"] == "graph"
    assert kinds["result/snapshot_iter_18"] == "snapshot"
    assert kinds["model.npz"] == "model"
    assert "train.py" not in kinds
    lock = jsonl.read(f"{run.folder}/lock.json")
    assert lock["interpreter"]["version"].startswith(f"{minor}.")
    packages = {package["name"]: package["version"] for package in lock["packages"]}
    assert packages["chainer"] == version
    assert all(package["hash"] for package in lock["packages"])
    patched = f"chainer {version} is older than Python {lock['interpreter']['version']}: it runs"
    noted = [note.startswith(patched) for note in fold(run._paths).last.notes]
    compat = lock.get("compat", [])
    assert noted == [True] * bool(compat)
    assert ("numpy" in compat) == (minor == "3.13")
    assert ("chainer.serializers.npz" in compat) == ((version, minor) == ("5.1.0", "3.11"))


def test_the_same_training_twice_gives_the_same_result(source: Path) -> None:
    first, second = (train(source, "7.0.0", "3.6")["metrics"] for _ in range(2))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["main/loss"] == second["main/loss"]


def test_metrics_are_there_while_the_training_goes_on(source: Path, tmp_path: Path) -> None:
    estimator = Chainer(
        str(source),
        entry_script="train.py",
        script_params={"--wait-for": str(tmp_path / "go")},
        compute_target="local",
        framework_version="7.0.0",
        use_docker=False,
    )
    run = Experiment(Workspace.local(), "live").submit(estimator)
    wait_for(lambda: run.get_metrics().get("main/loss"), "the first epoch's loss", 600)
    assert run.get_status() == "Running"
    (tmp_path / "go").touch()
    run.wait_for_completion()
    assert len(run.get_metrics()["main/loss"]) == 3
    wait_for(lambda: not processes_of(run._paths), "nothing of the run is left")


def test_an_exception_in_the_training_loop_is_the_cause(source: Path) -> None:
    said = train(source, "7.0.0", "3.6", "--fail-at", "2")
    assert said["exit_code"] == 1
    assert said["message"].startswith("exit 1, RuntimeError at train.py:")
    assert said["detail"] == "RuntimeError: no more digits"
    assert len(said["metrics"]["main/loss"]) == 2


def test_a_requirement_that_cannot_be_met_is_an_environment_error(source: Path) -> None:
    estimator = Chainer(
        str(source),
        entry_script="train.py",
        compute_target="local",
        framework_version="7.0.0",
        pip_packages=["six==0.0.1"],
        use_docker=False,
    )
    run = Experiment(Workspace.local(), "bad").submit(estimator)
    details = run.wait_for_completion(raise_on_error=False)
    assert details["error"]["error"]["cause"] == "environment"
    assert "six" in details["error"]["error"]["message"]
    assert not os.path.exists(f"{run._paths.attempt(1).root}/0.out")


def test_a_curated_environment_trains_on_data_of_the_default_datastore(home, source) -> None:
    """v1's newer way: an environment by name, a ScriptRunConfig, a mounted reference."""
    (source / "train.py").write_text(
        "import sys, chainer, numpy as np\n"
        "x = np.loadtxt(sys.argv[2] + '/x.txt', dtype='f')\n"
        "link = chainer.links.Linear(2, 1)\n"
        "chainer.optimizers.SGD().setup(link).update(lambda: chainer.functions.sum(link(x)))\n"
        "print('chainer', chainer.__version__, x.shape)\n"
    )
    interpreter("3.6")  # which the curated environment asks for
    workspace = Workspace.local()
    store = workspace.get_default_datastore()
    (home / "data").mkdir()
    (home / "data" / "x.txt").write_text("1 2\n3 4\n5 6\n")
    store.upload(home / "data", "points")
    config = ScriptRunConfig(
        str(source),
        "train.py",
        ["--data", store.path("points").as_mount()],
        environment=Environment.get(workspace, "AzureML-Chainer-5.1.0-CPU"),
    )
    run = Experiment(workspace, "points").submit(config)
    run.wait_for_completion()
    assert Path(run.folder, "attempts/1/0.out").read_text() == "chainer 5.1.0 (3, 2)\n"
