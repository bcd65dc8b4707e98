import json
import math
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rechain.guest.rechain_guest import lines
from rechain.guest.rechain_guest.writer import Writer

pytestmark = pytest.mark.fast
shared_folder = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)
)
entries = st.fixed_dictionaries(
    {
        "k": st.just("scalar"),
        "n": st.sampled_from(["a", "b", "main/loss", "日本"]),
        "v": values,
    },
    optional={"s": st.integers(0, 5)},
)


def write(folder: Path, writer: str, rows: list[dict]) -> Path:
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    path = folder / "metrics" / f"{writer}.jsonl"
    numbered = [{"q": q, "t": 0, **row} for q, row in enumerate(rows, 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in numbered))
    return path


def scalar(name: str, value: object, step: object = None) -> dict:
    row = {"k": "scalar", "n": name, "v": value}
    return row if step is None else {**row, "s": step}


def test_a_line_is_what_the_contract_says(tmp_path):
    Writer(str(tmp_path), 2, 3).write("scalar", "loss", 0.5, step=7, description="d")
    (path,) = (tmp_path / "metrics").iterdir()
    assert lines.order(path.name)[:2] == (2, 3)
    assert lines.order(path.name)[3] == os.getpid()
    row = json.loads(path.read_text())
    assert row.pop("t") > 1e9
    assert row == {"q": 1, "k": "scalar", "n": "loss", "v": 0.5, "s": 7, "d": "d"}


@pytest.mark.parametrize("value", [math.inf, -math.inf, 0, -1.5, 10**30, True, None, "\ud800é"])
def test_a_value_comes_back_as_it_was(tmp_path, value):
    Writer(str(tmp_path)).write("scalar", "x", value)
    assert lines.read_metrics(tmp_path) == {"x": value}


def test_nan_comes_back(tmp_path):
    Writer(str(tmp_path)).write("scalar", "x", math.nan)
    assert math.isnan(lines.read_metrics(tmp_path)["x"])


def test_threads_lose_nothing(tmp_path):
    writer = Writer(str(tmp_path))

    def say(name):
        for i in range(200):
            writer.write("scalar", name, i)

    threads = [threading.Thread(target=say, args=(f"t{n}",)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert lines.read_metrics(tmp_path) == {f"t{n}": list(range(200)) for n in range(8)}
    assert sorted(row["q"] for _, row in lines.read_rows(tmp_path)) == list(range(1, 1601))


def test_a_signal_handler_may_log_while_a_line_is_written(tmp_path, monkeypatch):
    writer = Writer(str(tmp_path))
    real = os.write

    def interrupted(descriptor, data):
        monkeypatch.setattr(os, "write", real)
        writer.write("scalar", "handler", 1)
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", interrupted)
    writer.write("scalar", "main", 2)
    assert lines.read_metrics(tmp_path) == {"handler": 1, "main": 2}


@given(rows=st.lists(entries, min_size=1, max_size=4), data=st.data())
@shared_folder
def test_torn_at_any_byte_the_whole_lines_count(tmp_path_factory, rows, data):
    folder = tmp_path_factory.mktemp("run")
    path = write(folder, "a1-r0-1-1", rows)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    again = write(folder / "other", "a1-r0-1-1", rows[:kept])
    assert lines.read_series(folder) == lines.read_series(again.parents[1])


def test_torn_at_every_byte(tmp_path):
    path = write(tmp_path, "a1-r0-1-1", [scalar("a", "é"), scalar("a", 2), scalar("b", [1])])
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        assert len(lines.read_rows(tmp_path)) == whole[:cut].count(b"\n")


@given(
    files=st.dictionaries(
        st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(1, 2)),
        st.lists(entries, max_size=4),
        max_size=5,
    ),
    data=st.data(),
)
@shared_folder
def test_the_fold_depends_on_nothing_but_the_contents(tmp_path_factory, files, data):
    folders = []
    for order in (list(files), data.draw(st.permutations(list(files)))):
        folder = tmp_path_factory.mktemp("run")
        folders.append(folder)
        for attempt, rank, pid, start in order:
            path = write(
                folder,
                f"a{attempt}-r{rank}-{pid}-{start}",
                files[attempt, rank, pid, start],
            )
            rows = path.read_text().splitlines(keepends=True)
            path.write_text("".join(data.draw(st.permutations(rows))))
    first, second = (lines.read_series(folder) for folder in folders)
    assert first == second
    assert list(first) == list(second)

    rows = [row for key in sorted(files, key=lambda k: (k[0], k[1], k[3], k[2]))
            for row in [(key[1], row) for row in files[key]]]  # fmt: skip
    for name, points in first.items():
        rank = min(rank for rank, row in rows if row["n"] == name)
        mine = [row for r, row in rows if r == rank and row["n"] == name]
        last = {row["s"]: row["v"] for row in mine if "s" in row}
        assert [p for p in points if p[0] is not None] == sorted(last.items(), key=lambda p: p[0])
        assert [v for s, v in points if s is None] == [r["v"] for r in mine if "s" not in r]


def test_a_resumed_run_adds_no_doubles(tmp_path):
    write(tmp_path, "a1-r0-9-9", [scalar("loss", v, v) for v in (1, 2, 3)])
    write(tmp_path, "a2-r0-1-1", [scalar("loss", v * 10, v) for v in (3, 4)])
    assert lines.read_series(tmp_path) == {"loss": [(1, 1), (2, 2), (3, 30), (4, 40)]}


def test_rank_0_counts_and_others_only_without_it(tmp_path):
    write(tmp_path, "a1-r1-1-1", [scalar("loss", 1), scalar("own", 5)])
    write(tmp_path, "a1-r0-2-1", [scalar("loss", 0)])
    write(tmp_path, "a1-r2-3-1", [scalar("own", 6)])
    assert lines.read_metrics(tmp_path) == {"loss": 0, "own": 5}


def test_foreign_files_and_lines_are_left_out(tmp_path):
    path = write(tmp_path, "a1-r0-1-1", [scalar("a", 1)])
    for name in (
        "notes.txt",
        "a1-r0.jsonl",
        "x1-r0-1-1.jsonl",
        "a1-r0-x-1.jsonl",
        "a²-r0-1-1.jsonl",
    ):
        (path.parent / name).write_bytes(path.read_bytes())
    with path.open("ab") as file:
        file.write(b'[1]\n\n{"q": "x", "k": "scalar", "n": "a"}\n\xff\xfe\n{"q": 9}\n')
        file.write(b'{"q": 10, "k": "later", "n": "a", "v": 1}\n' + b"[" * 100_000 + b"\n")
    assert lines.read_metrics(tmp_path) == {"a": 1}
    assert lines.read_metrics(tmp_path / "nothing") == {}


def test_a_torn_line_does_not_spoil_the_next(tmp_path, monkeypatch, capsys):
    writer = Writer(str(tmp_path))
    real = os.write
    limits = iter([None, 10, 0, 1, None])

    def limited(descriptor, data):
        limit = next(limits, None)
        if limit == 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, data if limit is None else data[:limit])

    monkeypatch.setattr(os, "write", limited)
    for i in range(6):
        writer.write("scalar", "a", i)
    assert lines.read_metrics(tmp_path) == {"a": [0, 4, 5]}
    assert capsys.readouterr().err.count("metrics are being lost") == 1


def test_after_exec_the_same_file_is_counted_on(tmp_path):
    Writer(str(tmp_path)).write("scalar", "a", 1)
    (path,) = (tmp_path / "metrics").iterdir()
    with path.open("a") as file:
        file.write('{"q": 2, "torn')
    Writer(str(tmp_path)).write("scalar", "a", 2)
    assert lines.read_metrics(tmp_path) == {"a": [1, 2]}
    assert [row["q"] for _, row in lines.read_rows(tmp_path)] == [1, 2]


def test_an_unwritable_folder_is_said_once(tmp_path, capsys):
    (tmp_path / "metrics").write_text("a file")
    writer = Writer(str(tmp_path))
    writer.write("scalar", "a", 1)
    writer.write("scalar", "a", 2)
    assert capsys.readouterr().err.count("metrics are being lost") == 1


def test_rows_stay_aligned(tmp_path):
    writer = Writer(str(tmp_path))
    writer.write("row", "t", {"x": 1})
    writer.write("row", "t", {"x": 2, "y": 3})
    writer.write("table", "t", {"y": [4, 5]})
    assert lines.read_metrics(tmp_path) == {
        "t": {"x": [1, 2, None, None], "y": [None, 3, 4, 5]},
    }


def test_the_last_use_of_a_name_says_what_it_is(tmp_path):
    writer = Writer(str(tmp_path))
    writer.write("row", "m", {"x": 1})
    writer.write("scalar", "m", 2)
    assert lines.read_metrics(tmp_path) == {"m": 2}
    assert lines.read_series(tmp_path) == {"m": [(None, 2)]}


def test_tags_come_from_the_job_then_the_script_then_from_others(tmp_path):
    job = {"tags": {"a": "job", "b": "job"}, "properties": {"p": "job"}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    rank0, rank1 = Writer(str(tmp_path), 1, 0), Writer(str(tmp_path), 1, 1)
    rank0.write("tag", "b", "rank 0")
    rank1.write("tag", "b", "rank 1")
    rank0.write("tag", "c", "script")
    rank0.write("untag", "a")
    rank0.write("property", "p", "script")
    rank0.write("property", "q", "script")
    (tmp_path / "requests").mkdir()
    request = {"set": {"d": "asked"}, "remove": ["c"]}
    (tmp_path / "requests" / "1-1-tag.json").write_text(json.dumps(request))
    request = {"set": {"q": "late", "r": "asked"}}
    (tmp_path / "requests" / "1-1-properties.json").write_text(json.dumps(request))
    assert lines.read_tags(tmp_path) == {"b": "rank 0", "d": "asked"}
    assert lines.read_properties(tmp_path) == {"p": "job", "q": "script", "r": "asked"}
