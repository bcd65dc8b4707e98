"""Real trainings that go on from another run, and that are replayed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rechain import Run, Workspace
from tests.conftest import interpreter
from tests.test_resuming import SCRIPT

CELLS = [
    pytest.param("7.0.0", "3.11", marks=pytest.mark.engines),
    pytest.param("5.1.0", "3.6", marks=pytest.mark.matrix),
]
SNAPSHOT = 'trainer.extend(extensions.snapshot(), trigger=(10, "iteration"))'


def write(source: Path, extensions: str = SNAPSHOT) -> None:
    script = SCRIPT.replace("[comm]", "comm = None", 1).replace("[extensions]", extensions)
    script = script.replace(
        '"--gate"', '"--stop", type=int, default=60)\nparser.add_argument("--gate"'
    )
    (source / "train.py").write_text(script.replace("(60,", "(args.stop,"))


def train(source: Path, version: str, minor: str, *options: str, stop: int = 60) -> Run:
    command = [
        sys.executable, "-m", "rechain", "run", "--json", "--no-docker",
        "--framework-version", version, "--python", interpreter(minor), *options,
        str(source / "train.py"), "--stop", str(stop),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return Run.get(Workspace.local(), json.loads(ended.stdout)["run_id"])


def iterations(run: Run) -> list[int]:
    rows = json.loads(Path(run.folder, "work/result/log").read_text())
    return [row["iteration"] for row in rows]


@pytest.mark.parametrize(("version", "minor"), CELLS)
@pytest.mark.parametrize("extensions", [SNAPSHOT, SNAPSHOT.replace("()", "(autoload=True)")])
def test_a_training_goes_on_from_another_runs_snapshot(
    source: Path, environments: Path, version: str, minor: str, extensions: str
) -> None:
    if "autoload" in extensions and version == "5.1.0":
        extensions = SNAPSHOT  # which came with Chainer 6
    write(source, extensions)
    first = train(source, version, minor, stop=30)
    assert iterations(first) == list(range(1, 31))
    second = train(source, version, minor, "--resume", first.id, stop=60)
    assert iterations(second) == list(range(1, 61))
    # It has trained what was missing, and only that.
    snapshots = [name for name in os.listdir(f"{second.folder}/work/result") if "_iter_" in name]
    assert sorted(snapshots) == [f"snapshot_iter_{number}" for number in (30, 40, 50, 60)]
    assert second.get_metrics()["main/loss"][:30] == first.get_metrics()["main/loss"]
    shown = subprocess.run(
        [sys.executable, "-m", "rechain", "show", second.id], capture_output=True, text=True
    ).stdout
    assert f"from {first.id}: result/snapshot_iter_30 (iteration 30)" in shown


def made(path: str, names: list[str]) -> None:
    for name in names:
        assert os.path.exists(f"{path}/{name}"), name


@pytest.mark.parametrize(("version", "minor"), CELLS)
def test_a_replayed_training_is_the_same_also_in_an_environment_built_again(
    source: Path, environments: Path, version: str, minor: str, tmp_path: Path
) -> None:
    write(source, f'{SNAPSHOT}\ntrainer.extend(extensions.dump_graph("main/loss"))')
    first = train(source, version, minor)
    (tmp_path / "cache").mkdir()
    # With a cache of its own nothing is there: the lock alone says what the environment is.
    said = subprocess.run(
        [sys.executable, "-m", "rechain", "replay", "--verify", "--json", first.id],
        capture_output=True, text=True,
        env={**os.environ, "RECHAIN_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    second = Workspace.local().get_run(found["run_id"])
    assert found["replayed"] == first.id
    assert found["differences"]["same"], found["differences"]
    assert found["differences"]["changes"] == []
    names = ["model.npz", "result/log", "result/cg.dot", "result/snapshot_iter_60"]
    made(f"{second.folder}/work", names)
    locks = [json.loads(Path(run.folder, "lock.json").read_text()) for run in (first, second)]
    assert locks[0]["digest"] == locks[1]["digest"]


@pytest.mark.engines
def test_another_package_and_another_seed_are_found_in_a_training(
    source: Path, environments: Path
) -> None:
    write(source)
    script = source / "train.py"
    text = script.read_text()
    script.write_text(text.replace("np.random.seed(0)", 'np.random.seed(int(os.environ["SEED"]))'))
    first = train(source, "7.0.0", "3.11", "--env", "SEED=1")
    second = train(source, "7.0.0", "3.11", "--env", "SEED=2", "--pip", "colorama")
    said = subprocess.run(
        [sys.executable, "-m", "rechain", "diff", first.id, second.id],
        capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 1, said.stderr
    assert "  seed: SEED: 1 and 2\n" in said.stdout
    assert "  environment: colorama: not there and " in said.stdout
    assert "  model.npz: predictor/a/W: 128 of 128 values differ, by " in said.stdout
    assert "  result/log: [0].main/loss: " in said.stdout


@pytest.mark.matrix
def test_a_replayed_training_of_two_ranks_is_the_same(source: Path, environments: Path) -> None:
    write(source)
    script = source / "train.py"
    comm = 'import chainermn\ncomm = chainermn.create_communicator("naive")'
    script.write_text(script.read_text().replace("comm = None", comm).replace(SNAPSHOT, ""))
    first = train(source, "7.0.0", "3.11", "-n", "2")
    said = subprocess.run(
        [sys.executable, "-m", "rechain", "replay", "--verify", first.id],
        capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "the same: " in said.stderr
    assert "2 ranks" in said.stderr
