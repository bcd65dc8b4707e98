"""What a node that does not see the record writes, on its way into the record."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rechain.record import events, jsonl
from rechain.record.paths import RunPaths
from rechain.supervisor.apart import Apart, OwnFolder, make_own_folder, sees
from rechain.supervisor.link import Line

pytestmark = pytest.mark.fast

RUN_ID = "x_1700000000_0123abcd"


class Journal:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def write(self, event: str, text: str) -> None:
        assert event == "note"
        self.notes.append(text)


class Both:
    """A record, and a node that does not see it."""

    def __init__(self, folder: Path) -> None:
        self.record = RunPaths(str(folder / "record" / RUN_ID))
        self.node = RunPaths(str(folder / "node" / RUN_ID))
        for path in (self.record.attempt(1).ranks, self.record.work, self.record.metrics):
            os.makedirs(path)
        make_own_folder(self.node, self.node.attempt(1))
        self._here, there = (Line(end, 60) for end in socket.socketpair())
        self.own = OwnFolder(self.node, self.node.attempt(1), there)
        self.journal = Journal()
        around: Any = (self.record, self.record.attempt(1), None, self.journal, {}, None)
        self.apart = Apart(*around)
        self.apart.nodes.add("n2")

    def hang_up(self) -> None:
        self._here.close()

    def take(self) -> None:
        while rows := self._here.hear():
            for row in rows:
                self.apart.take({**row, "node": "n2"})

    def say(self, **row: Any) -> None:
        self.apart.take({"event": "file", "node": "n2", "at": 0, "mode": 0o644, **row})

    def deliver(self) -> None:
        with ThreadPoolExecutor(1) as pool:  # it waits until what it says is heard
            delivered = pool.submit(self.own.deliver)
            while not delivered.done():
                events.wait([self._here.fileno()], 0.2)
                self.take()
        self.take()


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


def test_logs_come_as_they_grow(both: Both) -> None:
    there, here = both.node.attempt(1).stdout(3), Path(both.record.attempt(1).stdout(3))
    for more in (b"first\n", b"", b"\xffsecond\n"):
        with open(there, "ab") as file:
            file.write(more)
        both.own.report()
        both.take()
        assert here.read_bytes() == Path(there).read_bytes()
    here.write_bytes(b"FIRST\n\xffsecond\n")  # what has come is not sent again
    both.own.report()
    both.deliver()
    assert here.read_bytes() == b"FIRST\n\xffsecond\n"


def test_a_note_of_a_rank_is_replaced_as_a_whole(both: Both) -> None:
    there = both.node.attempt(1).rank(3, "reports")
    for rows in ([1], [1, 2]):
        jsonl.write_atomic(there, {"rank": 3, "reports": rows})
        both.own.report()
        both.take()
        assert jsonl.read(both.record.attempt(1).rank(3, "reports"))["reports"] == rows


def test_a_file_comes_with_its_mode_and_time_and_a_link_as_a_link(both: Both) -> None:
    os.makedirs(f"{both.node.work}/outputs/deep")
    there = f"{both.node.work}/outputs/deep/tool"
    Path(there).write_bytes(os.urandom(300_000))
    os.chmod(there, 0o750)
    os.utime(there, ns=(1, 1_600_000_000_123_456_789))
    os.symlink("deep/tool", f"{both.node.work}/outputs/newest")
    for passed_over in (".packages", "__pycache__"):
        os.makedirs(f"{both.node.work}/{passed_over}")
        Path(both.node.work, passed_over, "x").touch()
    both.deliver()
    here = f"{both.record.work}/outputs/deep/tool"
    assert Path(here).read_bytes() == Path(there).read_bytes()
    found = os.stat(here)
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o750, 1_600_000_000_123_456_789)
    assert os.readlink(f"{both.record.work}/outputs/newest") == "deep/tool"
    assert os.listdir(both.record.work) == ["outputs"]
    assert both.journal.notes == []


def test_what_two_nodes_wrote_differently_is_kept_twice_and_said(both: Both) -> None:
    for run, text in ((both.record, "of the first"), (both.node, "of the second")):
        os.makedirs(f"{run.work}/outputs")
        for name in ("model.npz", "log"):
            Path(run.work, "outputs", name).write_text(text)
        Path(run.work, "outputs", "same").write_text("same")
    both.deliver()
    found = {path.name: path.read_text() for path in Path(both.record.work, "outputs").iterdir()}
    assert found == {
        "model.npz": "of the first", "model.n2.npz": "of the second",
        "log": "of the first", "log.n2": "of the second", "same": "same",
    }  # fmt: skip
    assert both.journal.notes == [
        "node n2 wrote other content than another node: it is in outputs/log.n2, "
        "outputs/model.n2.npz"
    ]


def test_what_cannot_be_written_here_is_said_once(both: Both) -> None:
    Path(both.record.work, "outputs").write_text("a file")  # in place of a folder
    os.makedirs(f"{both.node.work}/outputs")
    for name in ("a", "b"):
        Path(both.node.work, "outputs", name).write_text(name)
    both.deliver()
    (note,) = both.journal.notes
    assert note.startswith("not all that node n2 wrote could be written here: ")


@pytest.mark.parametrize("path", ["../outside", "/tmp/outside", "work/../../outside"])
def test_a_path_that_leads_out_of_the_run_is_not_followed(both: Both, path: str) -> None:
    before = sorted(Path(both.record.root).parent.rglob("*"))
    both.say(path=path, data="QUFB", last=True, mtime=0, grows=True)
    both.say(path=path, link="x")
    assert sorted(Path(both.record.root).parent.rglob("*")) == before


def test_a_folder_that_no_node_made_is_left_alone(tmp_path: Path) -> None:
    run = RunPaths(str(tmp_path / RUN_ID))
    os.makedirs(run.work)
    Path(run.work, "train.py").touch()
    with pytest.raises(OSError, match="is not this attempt's"):
        make_own_folder(run, run.attempt(1))
    assert os.listdir(run.work) == ["train.py"]


def test_what_an_earlier_attempt_left_on_the_node_goes(both: Both) -> None:
    Path(both.node.work, "old").touch()
    attempt = both.node.attempt(2)
    assert not sees(both.node, attempt)
    make_own_folder(both.node, attempt)
    assert os.listdir(both.node.work) == []
    both.own.remove()  # of the first attempt's guard, which is late
    assert both.node.numbers() == [2]


def test_what_the_supervisor_does_not_hear_stays_on_the_node(both: Both) -> None:
    os.makedirs(f"{both.node.work}/outputs")
    Path(both.node.work, "outputs", "model").write_text("weights")
    both.hang_up()
    assert not both.own.deliver()


def test_a_node_that_shares_the_folder_sees_the_record(both: Both) -> None:
    Path(both.record.attempt(1).journal).touch()
    assert sees(both.record, both.record.attempt(1))
