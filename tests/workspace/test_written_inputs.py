"""A mounted folder of this machine is the folder itself: what a run does to it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from rechain import Workspace
from rechain.data import Dataset
from rechain.record.journal import fold
from rechain.record.paths import RunPaths

pytestmark = pytest.mark.fast

SCRIPT = """
import os, sys
place = sys.argv[1]
with open(os.path.join(place, "a.txt"), "a") as file:
    file.write("more")
os.unlink(os.path.join(place, "b.txt"))
os.makedirs(os.path.join(place, "sub"))
for name in ("c", "d", "e", "f"):
    open(os.path.join(place, "sub", name), "w").close()
"""


@pytest.fixture
def store(home):
    return Workspace.local().get_default_datastore()


def filled(store, count: int = 0) -> Path:
    folder = Path(store.local_path("data"))
    folder.mkdir(parents=True)
    for name in ("a.txt", "b.txt", *map(str, range(count))):
        (folder / name).write_text(name)
    return folder


def notes(run) -> list[str]:
    said = fold(RunPaths(run.folder)).last.notes
    return [note for note in said if note.startswith("the input")]


def test_a_run_that_writes_to_its_input(submit, store) -> None:
    filled(store)
    run = submit.done(SCRIPT, script_params={"": [store.path("data", "d").as_mount()]})
    assert run.status == "Completed", run.cause
    assert notes(run) == [
        "the input d was written to while the run went on: 1 changed (a.txt); 1 gone (b.txt); "
        "4 new (sub/c, sub/d, sub/e, ...)"
    ]


def test_a_dataset_that_a_container_would_have_kept_is_said_to_be_one(submit, store) -> None:
    filled(store)
    data = Dataset.File.from_files((store, "data")).as_named_input("d").as_mount()
    run = submit.done(SCRIPT, script_params={"": [data]})
    assert run.status == "Completed", run.cause
    (note,) = notes(run)
    assert note.startswith(
        "the input d was written to while the run went on (only in a container is a mounted "
        "dataset read-only): 1 changed (a.txt)"
    )


def test_of_many_files_it_is_known_that_something_changed(submit, store) -> None:
    filled(store, 1001)
    run = submit.done(SCRIPT, script_params={"": [store.path("data", "d").as_mount()]})
    assert notes(run) == [
        "the input d was written to while the run went on: files changed, came or went"
    ]


@pytest.mark.parametrize("count", [0, 1001])
def test_a_run_that_reads_says_nothing(submit, store, count) -> None:
    folder = filled(store, count)
    script = "import sys; print(open(sys.argv[1] + '/a.txt').read())"
    run = submit.done(script, script_params={"": [store.path("data", "d").as_mount()]})
    assert (run.status, notes(run)) == ("Completed", [])
    (folder / "beside").write_text("x")
    one = submit.done(
        "import sys; open(sys.argv[1] + '.x', 'w')",
        script_params={"": [store.path("data/a.txt", "d").as_mount()]},
    )
    assert (one.status, notes(one)) == ("Completed", [])


def test_a_copy_of_its_own_is_the_runs_to_change(submit, store) -> None:
    folder = filled(store)
    run = submit.done(SCRIPT, script_params={"": [store.path("data", "d").as_download("in")]})
    assert run.status == "Completed", run.cause
    assert notes(run) == []
    assert (folder / "a.txt").read_text() == "a.txt"
