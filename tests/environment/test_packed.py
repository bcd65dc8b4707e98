"""An environment as one file, and unpacked on a node's own disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rechain.environment import packed, store, uv
from rechain.environment.packed import NotUnpacked

pytestmark = pytest.mark.fast

MODULE = "import sys\nwhere = __file__\nif __name__ == '__main__':\n    print(where)\n"


def make(cache: str, name: str) -> str:
    """A small environment, as `build` makes them: with a module and a command."""
    os.makedirs(store.environments(cache), exist_ok=True)
    asked = ["venv", "--relocatable", "--no-project", "--python", sys.executable, name]
    assert uv.run(asked, store.environments(cache)).code == 0
    prefix = f"{store.environments(cache)}/{name}"
    (site,) = Path(prefix).glob("lib/python*/site-packages")
    (site / "tiny.py").write_text(MODULE)
    (site / "large").write_bytes(os.urandom(3 << 19))
    return prefix


@pytest.fixture
def cache(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture
def prefix(cache: str) -> str:
    return make(cache, "one")


@pytest.fixture
def node(tmp_path: Path) -> str:
    return str(tmp_path / "node")


def old(prefix: str, days: float) -> None:
    moment = time.time() - days * 86400
    os.utime(f"{prefix}.use", (moment, moment))


def test_it_works_where_it_was_unpacked(cache: str, prefix: str, node: str) -> None:
    pack = packed.pack(cache, prefix)
    there, fresh = packed.unpack(pack, node)
    assert (there, fresh) == (f"{node}/rechain-{os.getuid()}/one", True)
    shutil.rmtree(prefix)  # nothing leads back
    code = "import sys, tiny; print(sys.prefix, tiny.where)"
    python = f"{there}/bin/python"
    said = subprocess.check_output([python, "-c", code], text=True).split()
    assert said[0] == there
    assert said[1].startswith(f"{there}/lib/")
    assert packed.unpack(pack, node) == (there, False)


def test_nothing_in_it_names_the_place_where_it_was_made(cache: str, prefix: str) -> None:
    """The script of activation is for people, and finds its place by itself."""
    for path in Path(prefix).rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert prefix.encode() not in path.read_bytes(), path


def test_it_is_packed_once(cache: str, prefix: str) -> None:
    said: list[str] = []
    pack = packed.pack(cache, prefix, said.append)
    assert len(said) == 1
    assert packed.pack(cache, prefix, pytest.fail).document == pack.document
    assert sorted(os.listdir(f"{cache}/packs")) == ["one.json", "one.lock", "one.tar"]


def test_what_python_compiled_meanwhile_does_not_count(cache: str, prefix: str, node: str) -> None:
    subprocess.run([f"{prefix}/bin/python", "-c", "import tiny"], check=True)
    pack = packed.pack(cache, prefix)
    there, _ = packed.unpack(pack, node)
    assert not list(Path(there).rglob("__pycache__"))
    subprocess.run([f"{there}/bin/python", "-c", "import tiny"], check=True)
    assert packed.unpack(pack, node) == (there, False)


def test_many_at_once_unpack_it_once(cache: str, prefix: str, node: str) -> None:
    pack = packed.pack(cache, prefix)
    found: list[tuple[str, bool]] = []
    jobs = [
        threading.Thread(target=lambda: found.append(packed.unpack(pack, node))) for _ in range(8)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted(fresh for _, fresh in found) == [False] * 7 + [True]


def test_a_file_that_a_cleaner_took_is_put_back(cache: str, prefix: str, node: str) -> None:
    pack = packed.pack(cache, prefix)
    there, _ = packed.unpack(pack, node)
    (module,) = Path(there).rglob("tiny.py")
    module.unlink()
    assert packed.unpack(pack, node) == (there, True)
    assert module.read_text() == MODULE


def test_one_that_is_used_is_not_replaced(cache: str, prefix: str, node: str) -> None:
    pack = packed.pack(cache, prefix)
    there, _ = packed.unpack(pack, node)
    held = packed.hold(there)
    assert held is not None
    next(Path(there).rglob("tiny.py")).unlink()
    with pytest.raises(NotUnpacked, match="is damaged, and a job uses it"):
        packed.unpack(pack, node)
    os.close(held)
    assert packed.unpack(pack, node) == (there, True)


def test_one_of_before_the_node_s_start_is_unpacked_again(
    cache: str, prefix: str, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = packed.pack(cache, prefix)
    packed.unpack(pack, node)
    monkeypatch.setattr(packed.host, "identity", lambda: {"boot_id": "another"})
    assert packed.unpack(pack, node)[1]


@pytest.mark.parametrize("how", ["cut", "changed", "no tar"])
def test_a_damaged_file_is_said_and_leaves_nothing(
    cache: str, prefix: str, node: str, how: str
) -> None:
    pack = packed.pack(cache, prefix)
    data = Path(pack.path).read_bytes()
    changed = data.replace(b"import sys", b"import syz")
    Path(pack.path).write_bytes(
        {"cut": data[: len(data) // 2], "changed": changed, "no tar": b"x" * 2048}[how]
    )
    with pytest.raises(NotUnpacked) as error:
        packed.unpack(pack, node)
    assert error.value.damaged
    own = f"{node}/rechain-{os.getuid()}"
    assert sorted(os.listdir(own)) == ["one.lock", "one.use"]
    packed.forget(cache, "one")
    assert packed.unpack(packed.pack(cache, prefix), node)[1]


def test_what_was_not_used_for_long_goes(cache: str, prefix: str, node: str) -> None:
    first, _ = packed.unpack(packed.pack(cache, prefix), node)
    old(first, 15)
    second = packed.pack(cache, make(cache, "two"))
    packed.unpack(second, node)
    assert not os.path.exists(first)
    old(f"{os.path.dirname(first)}/two", 13)
    packed.unpack(packed.pack(cache, prefix), node)
    assert os.path.exists(f"{os.path.dirname(first)}/two")


def test_a_full_disk_takes_the_longest_unused_and_then_says_no(
    cache: str, prefix: str, small_disk: Path
) -> None:
    """4 MiB: three of them do not fit."""
    packs = [packed.pack(cache, prefix), *(packed.pack(cache, make(cache, n)) for n in "ab")]
    folder = str(small_disk / "node")
    places = [packed.unpack(pack, folder)[0] for pack in packs[:2]]
    with pytest.raises(NotUnpacked, match=r"are free in .*, and it needs"):
        packed.unpack(packs[2], folder)  # both were used within the hour
    old(places[0], 2)
    old(places[1], 1)
    held = packed.hold(places[0])
    assert held is not None
    packed.unpack(packs[2], folder)
    assert [os.path.exists(place) for place in places] == [True, False]
    os.close(held)


def test_a_disk_that_is_fuller_than_it_says(
    cache: str, prefix: str, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small_disk / "of others").write_bytes(b"x" * (3 << 20))
    pack = packed.pack(cache, prefix)
    monkeypatch.setattr(packed, "_free", lambda folder: 1 << 40)
    with pytest.raises(NotUnpacked, match="No space left on device"):
        packed.unpack(pack, str(small_disk / "node"))
    own = small_disk / "node" / f"rechain-{os.getuid()}"
    assert sorted(os.listdir(own)) == ["one.lock", "one.use"]


def test_what_a_killed_process_left_is_removed(cache: str, prefix: str, node: str) -> None:
    pack = packed.pack(cache, prefix)
    there, _ = packed.unpack(pack, node)
    left = f"{os.path.dirname(there)}/.unpacking.one"
    os.rename(there, left)
    assert packed.unpack(pack, node) == (there, True)
    assert not os.path.exists(left)


def test_a_variable_of_the_job(
    cache: str, prefix: str, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = packed.pack(cache, prefix)
    monkeypatch.setenv("JOB_SCRATCH", node)
    assert packed.unpack(pack, "$JOB_SCRATCH/envs")[0].startswith(f"{node}/envs/")
    monkeypatch.delenv("JOB_SCRATCH")
    with pytest.raises(NotUnpacked, match=r"is '\$JOB_SCRATCH/envs' there"):
        packed.unpack(pack, "$JOB_SCRATCH/envs")


def test_a_folder_that_others_can_write_is_not_trusted(cache: str, prefix: str, node: str) -> None:
    own = f"{node}/rechain-{os.getuid()}"
    os.makedirs(own)
    os.chmod(own, 0o777)
    with pytest.raises(NotUnpacked, match="is not a folder that only its owner can write"):
        packed.unpack(packed.pack(cache, prefix), node)
    os.rmdir(own)
    os.symlink("/tmp", own)
    with pytest.raises(NotUnpacked, match="is not a folder that only its owner can write"):
        packed.unpack(packed.pack(cache, prefix), node)
