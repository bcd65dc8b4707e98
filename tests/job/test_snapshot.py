"""What goes into the store comes out of it again, or is refused with a reason."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rechain.exceptions import SnapshotException
from rechain.job import snapshot
from rechain.job.snapshot import STAMP, Limits, checkout, manifest, take, unmodified

pytestmark = pytest.mark.fast


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "ws" / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "train.py").write_text("print('hello')\n")
    return folder


def tree(folder: Path) -> dict[bytes, object]:
    """Describe a tree: content and executable bit of files, targets of links, empty folders."""
    found: dict[bytes, object] = {}
    root = os.fsencode(folder)
    for where, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(where, name)
            relative = os.path.relpath(path, root)
            if os.path.islink(path):
                found[relative] = ("link", os.readlink(path))
            elif name in files:
                with open(path, "rb") as file:
                    found[relative] = (file.read(), bool(os.stat(path).st_mode & 0o100))
            elif not os.listdir(path):
                found[relative] = "empty"
    return found


def test_round_trip(source: Path, store: str, tmp_path: Path) -> None:
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "empty").mkdir()
    (source / "lib").mkdir()
    (source / "lib" / "big.bin").write_bytes(os.urandom(3 << 20))
    (source / "link").symlink_to("lib/big.bin")
    taken = take(str(source), store)
    checkout(store, taken.digest, str(tmp_path / "work"))
    assert tree(tmp_path / "work") == tree(source)
    assert (taken.files, taken.size) == (3, 3 * (1 << 20) + 15 + 10)
    assert taken.ignore_file is None
    assert taken.notes == ()


def test_the_digest_is_that_of_the_manifest_file(source: Path, store: str) -> None:
    digest = take(str(source), store).digest
    said = subprocess.run(
        ["sha256sum", f"{store}/snapshots/{digest}.json"], capture_output=True, check=True
    )
    assert said.stdout.decode().split()[0] == digest


def test_digest_covers_content_paths_and_kinds_only(
    source: Path, store: str, tmp_path: Path
) -> None:
    first = take(str(source), store).digest
    os.utime(source / "train.py", (1, 1))
    (source / "train.py").chmod(0o600)
    assert take(str(source), store).digest == first
    copy = tmp_path / "elsewhere"
    checkout(store, first, str(copy))
    assert take(str(copy), store).digest == first
    (source / "train.py").chmod(0o755)
    program = take(str(source), store).digest
    (source / "train.py").write_text("print('other')\n")
    changed = take(str(source), store).digest
    (source / "train.py").rename(source / "other.py")
    assert len({first, program, changed, take(str(source), store).digest}) == 4


def test_a_copy_is_private(source: Path, store: str, tmp_path: Path) -> None:
    digest = take(str(source), store).digest
    checkout(store, digest, str(tmp_path / "a"))
    (tmp_path / "a" / "train.py").write_text("spoilt")
    checkout(store, digest, str(tmp_path / "b"))
    assert (tmp_path / "b" / "train.py").read_text() == "print('hello')\n"
    assert (tmp_path / "a" / "train.py").stat().st_nlink == 1
    assert (tmp_path / "b" / "train.py").stat().st_mode & stat.S_IWUSR


def test_objects_are_read_only_and_nothing_half_written_stays(source: Path, store: str) -> None:
    (source / "empty.txt").touch()
    take(str(source), store)
    objects = [path for path in Path(store, "objects").rglob("*") if path.is_file()]
    assert len(objects) == 2
    for path in objects:
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0
        assert len(path.parent.name + path.name) == 64


names = st.one_of(
    st.sampled_from(
        ["a b", "'q'", '"', "new\nline", "-rf", "Ünï", "日本", "~", "$HOME", "*", "a\\b", " "]
    ),
    st.binary(min_size=1, max_size=6)
    .filter(lambda b: not set(b) & {0, 0x2F} and b not in (b".", b".."))
    .map(os.fsdecode),
).filter(lambda name: name not in (".amlignore", ".gitignore"))
trees = st.recursive(
    st.one_of(
        st.tuples(st.just("file"), st.binary(max_size=60), st.booleans()),
        st.tuples(st.just("link"), st.sampled_from(["x", "../x", "gone/away"]), st.none()),
    ),
    lambda inner: st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def plant(folder: str, content: object) -> None:
    if isinstance(content, dict):
        os.mkdir(folder)
        for name, inner in content.items():
            plant(f"{folder}/{name}", inner)
        return
    kind, data, program = content  # type: ignore[misc]
    if kind == "link":
        os.symlink(data, folder)
        return
    with open(folder, "wb") as file:
        file.write(data)
    os.chmod(folder, 0o755 if program else 0o644)


@given(content=st.dictionaries(names, trees, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_tree_survives(content: dict[str, object], tmp_path_factory) -> None:
    base = tmp_path_factory.mktemp("trees")
    plant(f"{base}/source", content)
    taken = take(f"{base}/source", f"{base}/ws/store")
    checkout(f"{base}/ws/store", taken.digest, f"{base}/work")
    expected = tree(base / "source")
    excluded = {os.fsencode(path).rstrip(b"/") for path in taken.excluded}
    assert not excluded
    got = tree(base / "work")
    assert got.keys() == expected.keys()
    # Links that only the source folder's place makes lead somewhere may be rewritten.
    assert {k: v for k, v in got.items() if v[0] != "link"} == {
        k: v for k, v in expected.items() if v[0] != "link"
    }
    paths = {path for path, kind, _, _ in manifest(f"{base}/ws/store", taken.digest)
             if kind != "folder"}  # fmt: skip
    assert unmodified(f"{base}/ws/store", taken.digest, f"{base}/work") == paths
    assert take(f"{base}/work", f"{base}/ws/store").digest == taken.digest


def test_a_name_that_is_not_utf8_is_kept(source: Path, store: str, tmp_path: Path) -> None:
    with open(os.fsencode(source) + b"/caf\xe9.txt", "w") as file:
        file.write("x")
    digest = take(str(source), store).digest
    checkout(store, digest, str(tmp_path / "work"))
    assert b"caf\xe9.txt" in os.listdir(os.fsencode(tmp_path / "work"))


# Links


def test_links_to_files_outside_become_files(source: Path, store: str, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("outside")
    (source / "relative").symlink_to("../outside.txt")
    (source / "absolute").symlink_to(tmp_path / "outside.txt")
    checkout(store, take(str(source), store).digest, str(tmp_path / "work"))
    for name in ("relative", "absolute"):
        assert not (tmp_path / "work" / name).is_symlink()
        assert (tmp_path / "work" / name).read_text() == "outside"


@pytest.mark.parametrize("target", ["{source}/lib/a.py", "../source/lib/a.py", "lib/a.py"])
def test_links_inside_lead_into_the_copy(
    source: Path, store: str, tmp_path: Path, target: str
) -> None:
    (source / "lib").mkdir()
    (source / "lib" / "a.py").write_text("a")
    (source / "a.py").symlink_to(target.format(source=source))
    checkout(store, take(str(source), store).digest, str(tmp_path / "work"))
    link = tmp_path / "work" / "a.py"
    assert link.is_symlink()
    assert link.resolve() == tmp_path / "work" / "lib" / "a.py"


def test_broken_and_circular_links_stay(source: Path, store: str, tmp_path: Path) -> None:
    (source / "gone").symlink_to("/nowhere/at/all")
    (source / "circle").symlink_to("circle")
    checkout(store, take(str(source), store).digest, str(tmp_path / "work"))
    assert os.readlink(tmp_path / "work" / "gone") == "/nowhere/at/all"
    assert os.readlink(tmp_path / "work" / "circle") == "circle"


def test_a_link_to_a_folder_outside_is_refused(source: Path, store: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (source / "data").symlink_to(tmp_path / "data")
    with pytest.raises(
        SnapshotException, match=r"(?s)source/data is a link.*\.amlignore.*argument"
    ):
        take(str(source), store)
    for pattern in ("data", "data/"):
        (source / ".amlignore").write_text(pattern)
        assert take(str(source), store).excluded == ("data",)


def test_the_source_may_be_reached_through_a_link(
    source: Path, store: str, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(source)
    assert take(str(tmp_path / "alias"), store).digest == take(str(source), store).digest


# What cannot be stored


def test_special_files_are_left_out_with_a_note(source: Path, store: str) -> None:
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(source)
        try:
            listener.bind("sock")
        finally:
            os.chdir(here)
        taken = take(str(source), store)
    assert taken.files == 1
    assert [note.split(" is ")[1].split(";")[0] for note in sorted(taken.notes)] == [
        "a device or pipe",
        "a socket",
    ]


TAKE_AS_NOBODY = """
import os, sys
from rechain.job.snapshot import take
from rechain.exceptions import SnapshotException
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    take(sys.argv[1], sys.argv[2])
except SnapshotException as error:
    print(error)
"""


def test_an_unreadable_file_is_named(source: Path, tmp_path: Path) -> None:
    unreadable = source / "private.key"
    unreadable.write_text("x")
    (tmp_path / "ws").mkdir()
    folder = tmp_path
    while folder.owner() == source.owner() and folder.name:  # pytest's folder is a private one
        folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent
    (tmp_path / "ws").chmod(0o777)
    unreadable.chmod(0)
    said = subprocess.run(
        [sys.executable, "-c", TAKE_AS_NOBODY, str(source), str(tmp_path / "ws" / "store")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"{unreadable} cannot be read: Permission denied" in said.stdout, said.stderr
    assert ".amlignore" in said.stdout


def test_a_missing_folder(tmp_path: Path, store: str) -> None:
    with pytest.raises(SnapshotException, match="nowhere does not exist"):
        take(str(tmp_path / "nowhere"), store)


def test_the_workspace_is_never_part_of_it(source: Path) -> None:
    for home in (".rechain", "elsewhere/home"):
        store = str(source / home / "store")
        first = take(str(source), store)
        assert first.files == 1
        assert take(str(source), store).digest == first.digest
    with pytest.raises(SnapshotException, match="workspace itself"):
        take(str(source), str(source / "store"))


def test_a_required_file_that_is_ignored(source: Path, store: str) -> None:
    (source / ".gitignore").write_text("*.py\n")
    with pytest.raises(SnapshotException, match=r"train\.py would not be part.*\.gitignore"):
        take(str(source), store, required=["train.py"])
    (source / ".gitignore").write_text("")
    assert take(str(source), store, required=["train.py", "./train.py"]).files == 2


# Limits


def test_too_many_files(source: Path, store: str) -> None:
    (source / "data").mkdir()
    for number in range(12):
        (source / "data" / f"{number}.txt").touch()
    with pytest.raises(SnapshotException) as caught:
        take(str(source), store, limits=Limits(files=10))
    text = str(caught.value)
    assert "13 files; the limit is 1.0 GiB and 10 files" in text
    assert "12 files  data/" in text
    assert ".amlignore" in text
    assert "RECHAIN_SNAPSHOT_MAX_FILES" in text
    assert not os.path.exists(store)


def test_too_large(source: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        (source / f"{number}.bin").write_bytes(b"x" * (1 << 20) * (number % 3))
    monkeypatch.setenv("RECHAIN_SNAPSHOT_MAX_MB", "1.5")
    with pytest.raises(SnapshotException) as caught:
        take(str(source), store)
    lines = str(caught.value).splitlines()
    assert "6 MiB in 8 files; the limit is 2 MiB and 20000 files" in lines[0]
    assert lines[1].split() == ["2", "MiB", "1", "file", "5.bin"]
    assert len(lines) == 7
    monkeypatch.setenv("RECHAIN_SNAPSHOT_MAX_MB", "0")
    assert take(str(source), store).files == 8


@pytest.mark.parametrize(
    ("environ", "size", "files"),
    [
        ({}, 1 << 30, 20_000),
        ({"RECHAIN_SNAPSHOT_MAX_MB": "2"}, 2 << 20, 20_000),
        ({"RECHAIN_SNAPSHOT_MAX_MB": "0"}, None, 20_000),
        ({"RECHAIN_SNAPSHOT_MAX_FILES": "5"}, 1 << 30, 5),
        ({"AML_SNAPSHOT_NO_FILE_LIMIT": "True"}, 1 << 30, None),
        ({"AML_SNAPSHOT_NO_FILE_LIMIT": "0"}, 1 << 30, 20_000),
    ],
)
def test_limits_of(environ: dict[str, str], size: int | None, files: int | None) -> None:
    limits = Limits.of(environ)
    assert (limits.size, limits.files) == (size, files)


@pytest.mark.parametrize("text", ["many", "-1", "nan", "inf"])
def test_limits_that_are_no_numbers(text: str) -> None:
    with pytest.raises(SnapshotException, match="RECHAIN_SNAPSHOT_MAX_MB"):
        Limits.of({"RECHAIN_SNAPSHOT_MAX_MB": text})


def test_a_huge_folder_is_not_counted_to_its_end(source: Path, store: str) -> None:
    for number in range(40):
        (source / f"d{number}").mkdir()
        (source / f"d{number}" / "f").touch()
    with pytest.raises(SnapshotException, match="at least"):
        take(str(source), store, limits=Limits(files=1))


# Damage and bad luck


@pytest.mark.parametrize(
    "damage", [b"", b"print('hellO')\n", b"print('hello')\nand more"], ids=["empty", "bit", "long"]
)
def test_damaged_content_is_found(source: Path, store: str, tmp_path: Path, damage: bytes) -> None:
    digest = take(str(source), store).digest
    (kept,) = [path for path in Path(store, "objects").rglob("*") if path.is_file()]
    kept.unlink()
    kept.write_bytes(damage)
    with pytest.raises(SnapshotException, match=r"(?s)'train\.py' is damaged.*Remove that file"):
        checkout(store, digest, str(tmp_path / "work"))
    kept.unlink()
    with pytest.raises(SnapshotException, match=r"'train\.py' is missing"):
        checkout(store, digest, str(tmp_path / "work2"))
    take(str(source), store)
    checkout(store, digest, str(tmp_path / "work3"))


def test_a_size_that_is_wrong_heals(source: Path, store: str, tmp_path: Path) -> None:
    digest = take(str(source), store).digest
    for kept in [p for p in Path(store).rglob("*") if p.is_file()]:
        kept.unlink()
        kept.touch()
    take(str(source), store)
    checkout(store, digest, str(tmp_path / "work"))


def test_a_damaged_or_missing_manifest(source: Path, store: str, tmp_path: Path) -> None:
    digest = take(str(source), store).digest
    kept = Path(store, "snapshots", f"{digest}.json")
    text = kept.read_text()
    kept.unlink()
    with pytest.raises(SnapshotException, match="is not in the store"):
        checkout(store, digest, str(tmp_path / "work"))
    kept.write_text(text.replace("train", "brain"))
    with pytest.raises(SnapshotException, match="list of files is damaged"):
        checkout(store, digest, str(tmp_path / "work"))


@pytest.mark.parametrize("path", ["/tmp/x", "../x", "a/../../x"])
def test_a_manifest_cannot_write_outside(store: str, tmp_path: Path, path: str) -> None:
    import json

    data = json.dumps({"schema": 1, "entries": [[path, "link", "x", 0]]}).encode()
    digest = snapshot.Store(store).put_manifest(data)
    with pytest.raises(SnapshotException, match="outside"):
        checkout(store, digest, str(tmp_path / "work"))


def test_two_processes_at_once(source: Path, store: str, tmp_path: Path) -> None:
    for number in range(60):
        (source / f"{number}.bin").write_bytes(bytes([number]) * (number * 997))
    (source / "large.bin").write_bytes(os.urandom(5 << 20))
    code = (
        "import sys\nfrom rechain.job.snapshot import take, checkout\n"
        "sys.stdin.readline()\n"
        "digest = take(sys.argv[1], sys.argv[2]).digest\n"
        "checkout(sys.argv[2], digest, sys.argv[3])\nprint(digest)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(source), store, str(tmp_path / f"work{number}")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert len(said) == 1
    assert all(tree(tmp_path / f"work{number}") == tree(source) for number in range(4))
    assert not [path for path in Path(store).rglob("*.tmp")]


def test_a_full_disk(source: Path, small_disk: Path, tmp_path: Path) -> None:
    (source / "large.bin").write_bytes(os.urandom(8 << 20))
    store = str(small_disk / "store")
    with pytest.raises(SnapshotException, match=r"large\.bin cannot be stored.*No space left"):
        take(str(source), store)
    assert not [path for path in Path(store).rglob("*.tmp")]
    (source / ".amlignore").write_text("large.bin")
    digest = take(str(source), store).digest
    checkout(store, digest, str(tmp_path / "work"))
    (source / ".amlignore").unlink()
    roomy = str(tmp_path / "ws" / "store")
    large = take(str(source), roomy).digest
    with pytest.raises(SnapshotException, match="No space left"):
        checkout(roomy, large, str(small_disk / "work"))


def test_a_file_that_is_being_written(source: Path, store: str, tmp_path: Path) -> None:
    log = source / "log.txt"
    log.write_bytes(b"x" * (3 << 20))
    stop = threading.Event()

    def write() -> None:
        with open(log, "r+b", buffering=0) as file:
            letter = 0
            while not stop.is_set():
                letter = (letter + 1) % 256
                file.seek(0)
                file.write(bytes([letter]) * (1 << 16))
                file.seek(0, 2)
                file.write(b"more")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        digests = {take(str(source), store).digest for _ in range(5)}
    finally:
        stop.set()
        writer.join()
    for number, digest in enumerate(digests):  # whatever was stored is whole
        checkout(store, digest, str(tmp_path / f"work{number}"))


def test_a_file_that_keeps_changing_is_told(
    source: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = snapshot.Store.put_object

    def put_and_touch(self, descriptor: int, size: int) -> tuple[str, int]:
        with open(source / "train.py", "a") as file:
            file.write("#\n")
        return put(self, descriptor, size)

    monkeypatch.setattr(snapshot.Store, "put_object", put_and_touch)
    assert "written to while" in take(str(source), store).notes[0]


def test_a_file_that_vanishes_is_told(
    source: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "passing.tmp").touch()
    scan = snapshot.Scan

    def scan_and_remove(*arguments: object) -> object:
        found = scan(*arguments)
        (source / "passing.tmp").unlink()
        return found

    monkeypatch.setattr(snapshot, "Scan", scan_and_remove)
    taken = take(str(source), store)
    assert taken.files == 1
    assert "'passing.tmp' vanished" in taken.notes[0]


# What the job changed


def test_unmodified(source: Path, store: str, tmp_path: Path) -> None:
    for name in ("same", "longer", "same size", "touched", "removed", "replaced", "retimed"):
        (source / name).write_text("abc")
    (source / "link").symlink_to("same")
    (source / "relinked").symlink_to("same")
    digest = take(str(source), store).digest
    work = tmp_path / "work"
    checkout(store, digest, str(work))
    assert all(p.stat().st_mtime == STAMP for p in work.iterdir())
    (work / "longer").write_text("abcd")
    (work / "same size").write_text("xyz")
    os.utime(work / "touched")
    (work / "removed").unlink()
    (work / "replaced").unlink()
    (work / "replaced").mkdir()
    (work / "relinked").unlink()
    (work / "relinked").symlink_to("touched")
    (work / "new").write_text("abc")
    assert unmodified(store, digest, str(work)) == {
        "same", "touched", "retimed", "link", "train.py",
    }  # fmt: skip


def test_unmodified_after_the_times_were_lost(source: Path, store: str, tmp_path: Path) -> None:
    digest = take(str(source), store).digest
    checkout(store, digest, str(tmp_path / "work"))
    subprocess.run(["cp", "-r", str(tmp_path / "work"), str(tmp_path / "copy")], check=True)
    assert unmodified(store, digest, str(tmp_path / "copy")) == {"train.py"}


@pytest.mark.parametrize("good", [True, False])
def test_cloned_content_is_verified_too(
    source: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: bool
) -> None:
    (source / "large.bin").write_bytes(os.urandom(2 << 20))
    digest = take(str(source), store).digest

    def clone(kept: int, copy: int) -> bool:
        data = os.pread(kept, 2 << 20, 0)
        os.pwrite(copy, data if good else data[:-1] + b"\0\0", 0)
        return True

    monkeypatch.setattr(snapshot, "_clone", clone)
    if good:
        checkout(store, digest, str(tmp_path / "work"))
        assert tree(tmp_path / "work") == tree(source)
    else:
        with pytest.raises(SnapshotException, match=r"'large\.bin' is damaged"):
            checkout(store, digest, str(tmp_path / "work"))
