"""Source folders that go through a datastore: sent once, checked where they arrive."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rechain import Chainer, Experiment, Run, Workspace
from rechain.data import Datastore
from rechain.data.source import bring_source
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.paths import RunPaths
from rechain.testing import processes_of, wait_for
from rechain.testing.slurm import SlurmCluster

SCRIPT = """
import os
from code_of_ours import part
print(part.VALUE, os.access("tool", os.X_OK), os.readlink("link"), os.path.isdir("empty"))
open("part.txt", "w").write("changed by the script")
open("outputs/model", "w").write("weights")
"""
SAID = "digits True part.txt True\n"


@pytest.fixture
def store(home: Path) -> Datastore:
    (home / "elsewhere").mkdir()
    return Datastore.register(Workspace.local(), "elsewhere", str(home / "elsewhere"))


@pytest.fixture
def submit(source: Path, store: Datastore) -> Callable[..., Run]:
    (source / "code_of_ours").mkdir()
    (source / "code_of_ours" / "part.py").write_text("VALUE = 'digits'")
    (source / "train.py").write_text(SCRIPT)
    (source / "tool").write_text("#!/bin/sh")
    (source / "tool").chmod(0o755)
    (source / "part.txt").write_text("as it was")
    (source / "link").symlink_to("part.txt")
    (source / "empty").mkdir()

    def send(target: str = "local") -> Run:
        estimator = Chainer(
            str(source), entry_script="train.py", compute_target=target, user_managed=True,
            use_docker=False, source_directory_data_store=store,
        )  # fmt: skip
        return Experiment(Workspace.local(), "x").submit(estimator)

    return send


def ended(run: Run) -> Run:
    run.wait_for_completion(raise_on_error=False)
    wait_for(lambda: not processes_of(RunPaths(run.folder)), "the run's guard to leave")
    return run


def output(run: Run) -> str:
    assert run.status == "Completed", (run.cause, Path(run.folder, "attempts/1/0.err").read_text())
    return Path(run.folder, "attempts/1/0.out").read_text()


def packed(run: Run, store: Datastore) -> Path:
    return Path(store.folder, jsonl.read(RunPaths(run.folder).job)["source"]["copy"]["path"])


@pytest.mark.fast
def test_the_working_copy_comes_from_the_datastore(
    submit: Callable[..., Run], source: Path, store: Datastore
) -> None:
    run = submit()
    shutil.rmtree(source)
    assert output(ended(run)) == SAID
    copy = jsonl.read(RunPaths(run.folder).job)["source"]["copy"]
    assert copy["store"]["name"] == "elsewhere"
    assert os.listdir(f"{run.folder}/outputs") == ["model"]
    assert "code_of_ours/part.py" not in run.get_file_names()
    assert Path(run.folder, "attempts/1/prepare.log").read_text().splitlines() == [
        f"the source folder came from elsewhere/{copy['path']}"
    ]
    assert not os.path.exists(f"{run.folder}/.source")
    rechain = Path(sys.executable).with_name("rechain")
    shown = subprocess.run([rechain, "show", run.id], capture_output=True, text=True, check=True)
    assert f"through elsewhere/{copy['path']}" in shown.stdout


@pytest.mark.fast
def test_the_datastore_is_enough_to_run_again(
    submit: Callable[..., Run], source: Path, store: Datastore
) -> None:
    first = ended(submit())
    for folder in (source, f"{Workspace.local().path}/store"):
        shutil.rmtree(folder)
    assert output(ended(first.replay())) == SAID


@pytest.mark.fast
def test_what_is_there_is_not_sent_again(submit: Callable[..., Run], store: Datastore) -> None:
    before = os.stat(packed(ended(submit()), store))
    second = ended(submit())
    after = os.stat(packed(second, store))
    assert output(second) == SAID
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(os.listdir(f"{store.folder}/rechain-snapshots")) == 1


def _flip(path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b"VALUE = 'digits'")
    path.write_bytes(data[:at] + b"VALUE = 'digitz'" + data[at + 16 :])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1500])


def _lose(path: Path) -> None:
    with tarfile.open(path) as archive:
        second = archive.getmembers()[1].offset
    path.write_bytes(path.read_bytes()[:second] + bytes(10240))


def _rename(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("../../../../outside"))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.fast
@pytest.mark.parametrize("damage", [_flip, _cut, _lose, _rename, _empty])
def test_what_is_damaged_there_ends_the_run_before_the_script(
    submit: Callable[..., Run], store: Datastore, damage: Callable[[Path], None]
) -> None:
    path = packed(ended(submit()), store)
    damage(path)
    run = ended(submit())
    end = run._state().end
    assert (run.status, end["cause"]) == ("Failed", "input")
    assert (
        "the source folder is damaged in the datastore elsewhere: rechain-snapshots/"
        in (end["message"])
    )
    assert not os.path.exists(f"{run.folder}/outputs/model")
    assert not os.path.exists(f"{run.folder}/work/train.py")
    path.unlink()
    assert output(ended(submit())) == SAID


@pytest.mark.fast
def test_what_is_gone_there_is_said(
    submit: Callable[..., Run], store: Datastore, home: Path
) -> None:
    run = ended(submit())
    packed(run, store).unlink()
    with pytest.raises(UserErrorException, match="is not in the datastore elsewhere any more"):
        bring_source(RunPaths(run.folder), str(home / "cache"), print)


@pytest.mark.fast
def test_what_a_run_has_in_its_folder_already_stays(
    submit: Callable[..., Run], home: Path
) -> None:
    """As the files of the run that it resumes; and a start that was cut off is taken up."""
    run = ended(submit())
    Path(run.folder, "work", "train.py").unlink()
    Path(run.folder, ".source").mkdir()
    Path(run.folder, ".source", "left").touch()
    bring_source(RunPaths(run.folder), str(home / "cache"), print)
    assert Path(run.folder, "work", "part.txt").read_text() == "changed by the script"
    assert Path(run.folder, "work", "train.py").read_text() == SCRIPT
    assert not Path(run.folder, ".source").exists()


@pytest.mark.fast
def test_a_datastore_that_cannot_be_written_starts_nothing(
    submit: Callable[..., Run], store: Datastore
) -> None:
    Path(store.folder, "rechain-snapshots").touch()
    with pytest.raises(UserErrorException, match=r"cannot be copied to .*rechain-snapshots"):
        submit()
    runs = f"{Workspace.local().path}/experiments/x"
    assert not os.path.exists(runs) or not os.listdir(runs)


@pytest.mark.engines
def test_on_slurm_the_node_needs_the_datastore_only(
    slurm: SlurmCluster, submit: Callable[..., Run], source: Path, tmp_path: Path
) -> None:
    rechain = Path(sys.executable).with_name("rechain")
    lab = [rechain, "target", "add", "lab", "--slurm", "--store", tmp_path / "shared"]
    subprocess.run(lab, capture_output=True, check=True)
    first = ended(submit("lab"))
    assert output(first) == SAID
    for folder in (source, f"{Workspace.local().path}/store"):
        shutil.rmtree(folder)
    second = ended(first.replay())
    assert output(second) == SAID
    assert "came from elsewhere/" in Path(second.folder, "attempts/1/prepare.log").read_text()
