"""How a next attempt finds out where to go on; on files as Chainer writes them."""

from __future__ import annotations

import os
import random
import struct
import zipfile
from pathlib import Path

import pytest

from rechain.supervisor.resume import find_snapshots, habits, plan

pytestmark = pytest.mark.fast

ARGPARSE = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument({})\n"
RESUME = ARGPARSE.format("'--resume', '-r', default=''")


def npy(kind: str, shape: str, data: bytes) -> bytes:
    """Return an array as `numpy.save` writes it."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def save(path: Path, iteration: int, kind: str = "<i8") -> Path:
    """Write what `chainer.serializers.save_npz` writes of a trainer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = iteration.to_bytes(int(kind[2]), "little")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("updater/iterator:main/epoch.npy", npy("<i8", "()", bytes(8)))
        weights = random.Random(0).randbytes(1 << 15)
        archive.writestr("updater/model:main/W.npy", npy("<f4", "(8192,)", weights))
        archive.writestr("updater/iteration.npy", npy(kind, "()", number))
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rot(path: Path) -> None:
    """Change a byte in the middle: the list of members at the end is still whole."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["<i8", "<i4", "<u8"])
def test_the_highest_iteration_is_the_newest_whatever_its_name_and_time(
    tmp_path: Path, kind: str
) -> None:
    save(tmp_path / "result" / "snapshot_iter_200", 200, kind)
    save(tmp_path / "other" / "best.npz", 300, kind)
    os.utime(tmp_path / "other" / "best.npz", (1, 1))
    found, broken = find_snapshots(str(tmp_path))
    assert found == [("other/best.npz", 300), ("result/snapshot_iter_200", 200)]
    assert broken == []


def test_what_is_no_snapshot_of_a_trainer_is_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model_iter_900.npz", "w") as archive:
        archive.writestr("predictor/W.npy", npy("<f4", "(3,)", bytes(12)))
    (tmp_path / "snapshot_iter_9").write_text("not a zip file")
    save(tmp_path / "tmpabc" / "snapshot_iter_8", 8)
    save(tmp_path / ".hidden" / "snapshot_iter_7", 7)
    assert find_snapshots(str(tmp_path)) == ([], [])


@pytest.mark.parametrize("spoil", [truncate, rot])
def test_a_broken_one_is_passed_over_renamed_and_named(tmp_path: Path, spoil) -> None:
    (tmp_path / "train.py").write_text(RESUME)
    save(tmp_path / "result" / "snapshot_iter_200", 200)
    spoil(save(tmp_path / "result" / "snapshot_iter_300", 300))
    found = plan(str(tmp_path), ["train.py", "-e", "3"])
    assert found["snapshot"] == "result/snapshot_iter_200"
    assert found["arguments"] == ["-e", "3", "--resume", "result/snapshot_iter_200"]
    assert found["passed_over"] == ["result/snapshot_iter_300"]
    assert "result/snapshot_iter_300" in found["text"]
    assert sorted(os.listdir(tmp_path / "result")) == [
        "broken_snapshot_iter_300",
        "snapshot_iter_200",
    ]
    assert plan(str(tmp_path), ["train.py"])["passed_over"] == []  # it is not found again


def test_all_are_broken(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(RESUME)
    truncate(save(tmp_path / "result" / "snapshot_iter_300", 300))
    found = plan(str(tmp_path), ["train.py", "-e", "3"])
    assert (found["snapshot"], found["how"]) == (None, "scratch")
    assert found["arguments"] == ["-e", "3"]


@pytest.mark.parametrize(
    ("text", "option", "flag"),
    [
        (RESUME, "--resume", False),
        (ARGPARSE.format("'-r', '--resume', type=str"), "--resume", False),
        (ARGPARSE.format("'--resume-from'"), "--resume-from", False),
        (ARGPARSE.format("'-r', help='Resume the training from'"), "-r", False),
        (ARGPARSE.format("'-r', type=float, help='learning rate'"), "", False),
        (ARGPARSE.format("'--resume', action='store_true'"), "--resume", True),
        ("print('--resume')", "", False),
        ("def broken(:", "", False),
    ],
)
def test_the_option_that_takes_a_snapshot(
    tmp_path: Path, text: str, option: str, flag: bool
) -> None:
    script = tmp_path / "train.py"
    script.write_text(text)
    seen = habits(str(script), str(tmp_path))
    assert (seen.option, seen.flag, seen.itself) == (option, flag, "")


def test_options_in_a_module_beside_the_script(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "options.py").write_text(RESUME)
    (tmp_path / "train.py").write_text("from lib.options import parser\nimport numpy, train")
    assert habits(f"{tmp_path}/train.py", str(tmp_path)).option == "--resume"


@pytest.mark.parametrize(
    ("text", "itself"),
    [
        ("trainer.extend(extensions.snapshot(autoload=True))", True),
        ("trainer.extend(extensions.snapshot(autoload=False))", False),
        ("trainer.extend(extensions.snapshot(autoload=args.autoload))", False),
        ("c = chainermn.create_multi_node_checkpointer(name='a', comm=comm)", True),
        ("trainer.extend(snapshot_on_sigterm(comm))", True),
    ],
)
def test_scripts_that_go_on_by_themselves(tmp_path: Path, text: str, itself: bool) -> None:
    (tmp_path / "train.py").write_text(RESUME + text)
    save(tmp_path / "result" / "snapshot_iter_3", 3)
    found = plan(str(tmp_path), ["train.py"])
    assert found["how"] == ("itself" if itself else "argument")
    assert (found["arguments"] == []) == itself


def test_a_script_that_cannot_go_on_is_said_to_start_from_scratch(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("pass")
    save(tmp_path / "result" / "snapshot_iter_3", 3)
    found = plan(str(tmp_path), ["train.py", "a"])
    assert (found["how"], found["arguments"]) == ("scratch", ["a"])
    assert "starts from scratch" in found["text"]


def test_what_follows_two_dashes_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(RESUME)
    save(tmp_path / "snapshot", 3)
    found = plan(str(tmp_path), ["train.py", "--resume", "old", "--", "x"])
    assert found["arguments"] == ["--resume", "old", "--resume", "snapshot", "--", "x"]


def test_each_ranks_newest_is_verified_and_rank_0s_counts(tmp_path: Path) -> None:
    for name in ("job.0.20", "job.1.20", "job.0.30", "job.1.30", "rank1_snapshot_iter_40"):
        save(tmp_path / name, int(name[-2:]))
    truncate(tmp_path / "job.1.30")
    rot(tmp_path / "rank1_snapshot_iter_40")
    found, broken = find_snapshots(str(tmp_path))
    assert found == [("job.0.30", 30), ("job.0.20", 20)]
    assert broken == ["job.1.30", "rank1_snapshot_iter_40"]
