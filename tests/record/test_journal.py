"""The journal: whatever happens to the file, it opens and folds right."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rechain.record import jsonl
from rechain.record.causes import ACTIVE, CAUSES, TERMINAL
from rechain.record.journal import Journal, end_event, fold, fold_attempt
from rechain.record.paths import RunPaths, experiment_of
from rechain.record.requests import ask_to_stop

pytestmark = pytest.mark.fast

RUN_ID = "digits_1700000000_0123abcd"


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    paths = RunPaths(str(tmp_path / RUN_ID))
    os.makedirs(f"{paths.attempts}/1")
    os.makedirs(paths.requests)
    return paths


def write_whole_story(run: RunPaths) -> None:
    journal = Journal(run.attempt(1).journal)
    journal.write("attempt", attempt=1, host={}, guard={}, supervisor={}, cgroup=None)
    journal.write("note", text="größer\nas two lines")
    journal.write("state", state="Preparing")
    journal.write("state", state="Running", sync=True)
    journal.write("rank", rank=0, pid=1, start=2)
    journal.write("end", cause="completed", message="exit 0", exit_code=0, sync=True)


def test_a_journal_truncated_at_any_byte_still_folds_to_a_prefix_of_the_story(
    run: RunPaths,
) -> None:
    write_whole_story(run)
    path = Path(run.attempt(1).journal)
    whole = path.read_bytes()
    order = ["Starting", "Preparing", "Running", "Completed"]
    reached = []
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        reached.append(order.index(fold(run).status))
    assert reached == sorted(reached)
    assert set(reached) == {0, 1, 2, 3}
    assert fold_attempt(run.attempt(1)).notes == ["größer\nas two lines"]


def test_a_reopened_journal_is_not_glued_to_a_torn_line(run: RunPaths, monkeypatch) -> None:
    journal = Journal(run.attempt(1).journal)
    journal.write("state", state="Preparing")
    real_write = os.write

    def half(descriptor: int, data: bytes) -> int:
        return real_write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="disk is full"):
        journal.write("state", state="Running")
    monkeypatch.undo()
    journal.write("end", cause="completed", message="")
    rows = jsonl.read_lines(run.attempt(1).journal)
    assert [row["event"] for row in rows] == ["state", "end"]
    assert [row["seq"] for row in rows] == [1, 2]


def test_a_full_disk_is_an_error_that_leaves_no_half_line(small_disk: Path) -> None:
    journal = Journal(str(small_disk / "journal.jsonl"))
    filler = os.open(small_disk / "filler", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError) as caught:
        while True:
            os.write(filler, b"x" * 65536)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError):
        for number in range(10000):
            journal.write("note", text=f"{number} " + "y" * 500)
    rows = jsonl.read_lines(str(small_disk / "journal.jsonl"))
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    with open(small_disk / "journal.jsonl", "rb") as file:
        assert file.read()[-1:] in (b"\n", b"")


@pytest.mark.parametrize("document", ["write_new", "write_atomic"])
def test_a_full_disk_leaves_the_old_document_and_nothing_beside_it(
    small_disk: Path, document: str
) -> None:
    path = small_disk / "job.json"
    jsonl.write_new(path, {"schema": 1})
    with open(small_disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"x" * 4096)
    target = path if document == "write_atomic" else small_disk / "other.json"
    with pytest.raises(OSError):
        getattr(jsonl, document)(target, {"much": "z" * 100000})
    assert jsonl.read(path) == {"schema": 1}
    assert sorted(os.listdir(small_disk)) == ["filler", "job.json"]


def test_of_two_ends_the_supervisors_counts_then_the_guards(run: RunPaths) -> None:
    attempt = run.attempt(1)
    jsonl.write_new(attempt.reader_end, end_event("supervisor_lost", "reader"))
    assert fold(run).end["message"] == "reader"
    jsonl.write_new(attempt.guard_end, end_event("supervisor_lost", "guard"))
    assert fold(run).end["message"] == "guard"
    Journal(attempt.journal).write("end", cause="completed", message="supervisor")
    assert fold(run).end["message"] == "supervisor"


def test_what_a_superseded_attempt_writes_later_does_not_count(run: RunPaths) -> None:
    Journal(run.attempt(1).journal).write("state", state="Running")
    os.mkdir(run.attempt(2).root)
    Journal(run.attempt(2).journal).write("state", state="Preparing")
    Journal(run.attempt(1).journal).write("end", cause="completed", message="")
    assert fold(run).status == "Preparing"


def test_order_is_by_sequence_not_by_place_or_clock(run: RunPaths) -> None:
    lines = [
        {"seq": 2, "t": 1.0, "event": "state", "state": "Running"},
        {"seq": 1, "t": 9.0, "event": "state", "state": "Preparing"},
    ]
    Path(run.attempt(1).journal).write_text("".join(jsonl.dumps(line) + "\n" for line in lines))
    assert fold(run).status == "Running"


def test_garbage_in_the_journal_hides_nothing(run: RunPaths) -> None:
    journal = Path(run.attempt(1).journal)
    journal.write_bytes(
        b'{"seq": 1, "t": 0, "event": "state", "state": "Running"}\n'
        b"\x00\xff garbage\n[1]\n{}\n"
        b'{"seq": 2, "t": 0, "event": "end", "cause": "completed", "message": ""}\n'
    )
    assert fold(run).status == "Completed"


def test_of_two_writers_racing_to_cancel_one_wins_and_both_are_content(run: RunPaths) -> None:
    with ThreadPoolExecutor(16) as pool:
        first = list(pool.map(lambda _: ask_to_stop(run), range(64)))
    assert first.count(True) == 1
    assert os.listdir(run.requests) == ["cancel"]
    assert jsonl.read(f"{run.requests}/cancel")["request"] == "cancel"
    os.mkdir(run.attempt(2).root)
    assert fold(run).status == "CancelRequested"


def test_every_cause_has_a_status_that_v1_knows() -> None:
    for cause in CAUSES.values():
        assert cause.status in TERMINAL
        assert cause.words
    assert not set(ACTIVE) & set(TERMINAL)


@pytest.mark.parametrize(
    "value",
    [{}, [], "", 'quo"te\n', "ü\udc80", 0, -1.5, 1e300, True, None, {"a": [{"b": None}]}, 2**70],
)
def test_json_reads_back_what_it_wrote_and_is_what_json_says(value: object) -> None:
    import json

    assert jsonl.loads(jsonl.dumps(value)) == value
    assert json.loads(jsonl.dumps(value)) == value
    assert jsonl.loads(json.dumps(value, indent=2)) == value


@pytest.mark.parametrize("text", ["", "{", '{"a": }', "[1,]", "{} {}", "nul", '"\n"'])
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        jsonl.loads(text)


def test_nan_and_infinity_survive() -> None:
    read = jsonl.loads(jsonl.dumps([float("nan"), float("inf"), -float("inf")]))
    assert read[0] != read[0]
    assert read[1:] == [float("inf"), -float("inf")]


def test_the_fallback_to_json_behaves_the_same() -> None:
    code = (
        "import sys; sys.modules['_json'] = None\n"
        "from rechain.record import jsonl\n"
        "import json\n"
        "assert jsonl.loads is json.loads\n"
        "print(jsonl.dumps({'a': [1, None, 'ü']}))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert jsonl.loads(said.stdout) == {"a": [1, None, "ü"]}


@pytest.mark.parametrize(
    "name", ["x", "x_1_2", "../x_1_01234567", "a/b_1_01234567", "x_y_01234567"]
)
def test_what_is_no_run_id_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a run id"):
        experiment_of(name)
