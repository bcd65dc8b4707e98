import io
import json
import math
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rechain.guest.rechain_guest import chainer_log
from rechain.job import snapshot

pytestmark = pytest.mark.fast


def report(*iterations: int, **extra: object) -> list[dict]:
    return [
        {"main/loss": 1 / (i + 1), "epoch": i // 10, "iteration": i, "elapsed_time": i * 0.5}
        | extra
        for i in iterations
    ]


def put(path: Path, rows: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=4))
    return path


def test_a_report_becomes_series_by_iteration(tmp_path):
    rows = report(10, 20, 30)
    put(tmp_path / "result" / "log", [{"epoch": 0, "iteration": 0, "elapsed_time": 0.1}, *rows])
    series = chainer_log.read_reports(tmp_path)
    assert series == {
        "main/loss": [(i, 1 / (i + 1)) for i in (10, 20, 30)],
        "epoch": [(0, 0), (10, 1), (20, 2), (30, 3)],
        "elapsed_time": [(0, 0.1), (10, 5.0), (20, 10.0), (30, 15.0)],
    }


def test_a_repeated_iteration_has_its_last_row(tmp_path):
    put(tmp_path / "log", report(10, 20) + report(20, 30, **{"main/loss": 9}))
    series = chainer_log.read_reports(tmp_path)
    assert series["main/loss"] == [(10, 1 / 11), (20, 9), (30, 9)]


def test_nan_counts_and_text_does_not(tmp_path):
    put(tmp_path / "log", report(1, **{"main/loss": math.nan, "note": "x", "none": None}))
    series = chainer_log.read_reports(tmp_path)
    assert math.isnan(series["main/loss"][0][1])
    assert set(series) == {"main/loss", "epoch", "elapsed_time"}


def test_several_folders_are_told_apart(tmp_path):
    put(tmp_path / "a" / "log", report(1))
    put(tmp_path / "b" / "deep" / "log.json", report(2))
    put(tmp_path / "log", report(3))
    series = chainer_log.read_reports(tmp_path)
    assert series["a/main/loss"] == [(1, 0.5)]
    assert series["b/deep/main/loss"] == [(2, 1 / 3)]
    assert series["main/loss"] == [(3, 0.25)]


def test_files_of_one_folder_are_one_report(tmp_path):
    put(tmp_path / "log_2", report(1, 2, **{"main/loss": 9}))
    put(tmp_path / "log_10", report(1, 2, 10, **{"main/loss": 7}))
    assert chainer_log.read_reports(tmp_path)["main/loss"] == [(1, 7), (2, 7), (10, 7)]


@given(cut=st.integers(0, 10_000))
def test_of_a_half_written_report_the_whole_rows_count(cut):
    text = json.dumps(report(10, 20, 30), indent=4)
    rows = chainer_log.parse_report(text[: cut % (len(text) + 1)])
    assert rows == report(10, 20, 30)[: len(rows)]


def test_what_is_no_report_is_left_out(tmp_path):
    put(tmp_path / "log", {"epoch": 1, "iteration": 1})
    put(tmp_path / "list.json", [1, 2])
    put(tmp_path / "objects.json", [{"epoch": 1}])
    put(tmp_path / "data.csv", report(1))
    put(tmp_path / ".hidden" / "log", report(1))
    put(tmp_path / "infinite.json", [{"epoch": 1, "iteration": math.inf}])
    (tmp_path / "link").symlink_to(put(tmp_path / "x.csv", report(1)))
    (tmp_path / "deep.txt").write_text("[" * 100_000)
    os.mkfifo(tmp_path / "fifo")
    assert chainer_log.read_reports(tmp_path) == {}
    assert chainer_log.read_reports(tmp_path / "nothing") == {}


def test_a_report_of_the_snapshot_counts_only_when_changed(tmp_path):
    path = put(tmp_path / "log", report(1))
    stat = path.stat()
    known = [("log", stat.st_size, stat.st_mtime_ns)]
    assert chainer_log.read_reports(tmp_path, known) == {}
    put(path, report(1, 2))
    assert len(chainer_log.read_reports(tmp_path, known)["main/loss"]) == 2


def test_a_file_that_bears_the_time_of_the_snapshot_is_of_the_snapshot(tmp_path):
    assert chainer_log.SNAPSHOT_TIME == snapshot.STAMP
    path = put(tmp_path / "log", report(1))
    os.utime(path, (snapshot.STAMP, snapshot.STAMP))
    assert chainer_log.read_reports(tmp_path) == {}


def test_an_unchanged_file_is_parsed_once(tmp_path, monkeypatch):
    put(tmp_path / "log", report(1))
    cache: dict = {}
    first = chainer_log.read_reports(tmp_path, cache=cache)
    monkeypatch.setattr(chainer_log, "parse_report", lambda text: pytest.fail("parsed again"))
    assert chainer_log.read_reports(tmp_path, cache=cache) == first


def npz(*members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for member in members:
            file.writestr(member, b"x" * 100)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("path", "head", "kind"),
    [
        ("result/log", json.dumps(report(1), indent=4).encode(), "log-report"),
        ("result/log", b"text", "file"),
        ("result/loss.png", b"\x89PNG", "plot"),
        ("result/cg.dot", b"digraph", "graph"),
        ("result/snapshot_iter_100", npz("updater/iteration.npy", "x.npy"), "snapshot"),
        ("result/a.npz", npz("extra.npy", "updater/iteration.npy"), "snapshot"),
        ("outputs/model.npz", npz("l1/W.npy", "l1/b.npy"), "model"),
        ("mlp.model", npz("l1/W.npy"), "model"),
        ("outputs/code.zip", npz("train.py"), "file"),
        ("model.h5", b"\x89HDF\r\n\x1a\n", "model"),
        ("model.npz", b"", "model"),
        ("logs/anything", b"", "log"),
        ("azureml-logs/70_driver_log.txt", b"", "log"),
        ("train.py", b"import", "file"),
    ],
)
def test_kinds(path, head, kind):
    assert chainer_log.kind_of(path, head[:4096]) == kind


def test_of_several_attempts_the_newest_says_what_rank_0_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a file system that lists them in another order, which is faked."""
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listed(path), reverse=True))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "log").write_text('[{"epoch": 1, "iteration": 1, "loss": 99}]')
    for attempt in range(1, 13):
        ranks = tmp_path / "attempts" / str(attempt) / "ranks"
        ranks.mkdir(parents=True)
        for rank in (0, 1):
            rows = [{"epoch": 1, "iteration": 1, "loss": attempt + 100 * rank}]
            noted = {"rank": rank, "reports": {"log": rows}}
            (ranks / f"{rank}.reports.json").write_text(json.dumps(noted))
    assert chainer_log.read_reports(tmp_path / "work")["loss"] == [(1, 12)]
