"""Data of the web on its way to runs: fetched once, whole, taken up again, kept while used."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rechain.data import Dataset, Datastore, transfer
from rechain.data.cache import DataCache
from rechain.data.storage import Entry, check_name, kind_of
from rechain.exceptions import UserErrorException
from rechain.testing import make_run
from rechain.testing.web import WebServer
from rechain.workspace import Workspace

pytestmark = pytest.mark.fast


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "served"
    (folder / "set" / "sub").mkdir(parents=True)
    (folder / "set" / "a.txt").write_bytes(b"digits")
    (folder / "set" / "sub" / "b b.bin").write_bytes(os.urandom(100_000))
    with WebServer(folder) as web:
        yield web


@pytest.fixture
def store(home, served) -> Datastore:
    return Datastore.register(Workspace.local(), "web", f"{served.url}/")


@pytest.fixture
def runs(tmp_path):
    """A function that makes a run which has not ended, and returns its folder."""

    def make(name: str) -> str:
        (tmp_path / name).mkdir()
        return make_run(tmp_path / name, "pass")[0].root

    return make


def cache(tmp_path) -> DataCache:
    return DataCache(str(tmp_path / "cache"))


def contents(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def end(run: str, cause: str = "completed") -> None:
    """Write down that a run has ended."""
    from rechain.record.journal import Journal
    from rechain.record.paths import RunPaths

    attempt = RunPaths(run).attempt(1)
    os.makedirs(attempt.root, exist_ok=True)
    Journal(attempt.journal).write("end", cause=cause, message="")


def test_a_folder_of_the_web_is_a_datastore(store, served, home) -> None:
    assert [name for _, name in store.files("")] == ["set/a.txt", "set/sub/b b.bin"]
    assert [name for _, name in store.files("set/a.txt")] == ["set/a.txt"]
    assert store.files("nope") == []
    for pattern, names in {
        "set/*.txt": ["set/a.txt"],
        "set/*/b*": ["set/sub/b b.bin"],
        "**/*b*": ["set/sub/b b.bin"],
        "*.txt": [],
        "nope/*": [],
    }.items():
        found = store.files(pattern)
        assert [name for _, name in found] == names
        assert all(entry.size and entry.version for entry, _ in found)
    assert store.download(home / "out", show_progress=False) == 2
    assert contents(home / "out") == contents(served.folder)
    assert store.download(home / "out", show_progress=False) == 0
    data = Dataset.File.from_files(f"{served.url}/set/a.txt")
    assert data.to_path() == ["/a.txt"]
    assert Path(data.download(home / "one")[0]).read_bytes() == b"digits"
    kept = data.register(Workspace.local(), "one")
    assert Dataset.get_by_name(Workspace.local(), "one").to_path() == kept.to_path() == ["/a.txt"]


def test_what_was_fetched_is_fetched_no_more(store, served, tmp_path, runs) -> None:
    first = cache(tmp_path).tree(store.storage, "set", runs("a"))
    assert contents(first["place"]) == contents(f"{served.folder}/set")
    before = dict(served.gets)
    second = cache(tmp_path).tree(store.storage, "set", runs("b"))
    assert second == first
    assert all(served.gets[name] == before[name] for name in before if name.endswith(("t", "n")))
    assert not os.stat(f"{first['place']}/a.txt").st_mode & 0o222
    assert not os.stat(first["place"]).st_mode & 0o222


def test_what_was_changed_in_the_cache_is_fetched_again(store, served, tmp_path, runs) -> None:
    place = cache(tmp_path).tree(store.storage, "set", runs("a"))["place"]
    os.chmod(f"{place}/a.txt", 0o644)
    Path(place, "a.txt").write_bytes(b"broken")
    again = cache(tmp_path).tree(store.storage, "set", runs("b"))["place"]
    assert Path(again, "a.txt").read_bytes() == b"digits"


def test_what_changed_in_the_store_is_another_tree(store, served, tmp_path, runs) -> None:
    old = cache(tmp_path).tree(store.storage, "set", runs("a"))
    Path(served.folder, "set/a.txt").write_bytes(b"others")
    new = cache(tmp_path).tree(store.storage, "set", runs("b"))
    assert old["key"] != new["key"]
    assert Path(old["place"], "a.txt").read_bytes() == b"digits"
    assert Path(new["place"], "a.txt").read_bytes() == b"others"


def test_a_source_that_changes_while_it_is_read_is_refused(store, served, tmp_path, runs) -> None:
    def change(name: str) -> None:
        if name == "set/sub/b b.bin":
            Path(served.folder, "set/a.txt").write_bytes(b"others")

    served.hook = change
    with pytest.raises(UserErrorException, match="changed while it was read"):
        cache(tmp_path).tree(store.storage, "set", runs("a"))
    served.hook = lambda name: None
    place = cache(tmp_path).tree(store.storage, "set", runs("b"))["place"]
    assert Path(place, "a.txt").read_bytes() == b"others"


def test_answers_that_break_off_are_asked_for_again(
    store, served, tmp_path, runs, monkeypatch
) -> None:
    monkeypatch.setattr(transfer, "_SEGMENT", 10_000)
    monkeypatch.setattr(transfer, "_PAUSE", 0.0)
    served.cuts = 4
    place = cache(tmp_path).tree(store.storage, "set", runs("a"))["place"]
    assert served.cuts == 0
    assert contents(place) == contents(f"{served.folder}/set")
    assert served.gets["set/sub/b b.bin"] >= 10


def test_a_server_without_ranges_will_do(store, served, tmp_path, runs) -> None:
    served.ranges = False
    place = cache(tmp_path).tree(store.storage, "set", runs("a"))["place"]
    assert contents(place) == contents(f"{served.folder}/set")


def test_a_transfer_goes_on_where_it_stopped(store, served, tmp_path, runs, monkeypatch) -> None:
    """A process that fetches is killed; the next one asks for what is missing only."""
    monkeypatch.setattr(transfer, "_SEGMENT", 10_000)
    name, read = "set/sub/b b.bin", store.storage.read
    count = 0

    def die(entry: Entry, start: int | None = None, end: int | None = None) -> bytes:
        nonlocal count
        count += entry.path.endswith("b b.bin")
        if count > 6:
            raise PermissionError("the process is gone")
        return read(entry, start, end)

    monkeypatch.setattr(store.storage, "workers", 1)
    monkeypatch.setattr(store.storage, "read", die)
    with pytest.raises(UserErrorException, match="cannot be read: "):
        cache(tmp_path).tree(store.storage, "set", runs("a"))
    monkeypatch.setattr(store.storage, "read", read)
    before = served.gets[name]
    place = cache(tmp_path).tree(store.storage, "set", runs("b"))["place"]
    assert contents(place) == contents(f"{served.folder}/set")
    assert served.gets[name] - before == 4


KILLED = """
import os, sys
from rechain.data import Datastore, transfer
from rechain.workspace import Workspace
transfer._SEGMENT = 10_000
store = Datastore(Workspace.local(), "web")
store.storage.workers = 1
read, count = store.storage.read, 0
def die(entry, start=None, end=None):
    global count
    count += 1
    if count > 5:
        os.kill(os.getpid(), 9)
    return read(entry, start, end)
store.storage.read = die
store.download(sys.argv[1], show_progress=False)
"""


def test_a_download_that_was_killed_goes_on_where_it_stopped(
    store, served, home, monkeypatch
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(home / "out")], check=False)
    assert done.returncode == -9
    before, name = dict(served.gets), "set/sub/b b.bin"
    monkeypatch.setattr(transfer, "_SEGMENT", 10_000)
    monkeypatch.setattr(transfer, "_PAUSE", 0.0)
    served.cuts = 2
    assert store.download(home / "out", show_progress=False) == 2
    assert contents(home / "out") == contents(served.folder)
    assert os.listdir(home / "out") == ["set"]
    # Five parts had come, of the small file and the ten of the large one; two were cut.
    assert sum(served.gets[one] - before.get(one, 0) for one in ("set/a.txt", name)) == 6 + 2


def test_what_came_of_another_state_of_a_file_is_not_used(store, served, home) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(home / "out")], check=False)
    assert done.returncode == -9
    Path(served.folder, "set/sub/b b.bin").write_bytes(os.urandom(100_000))
    assert store.download(home / "out", show_progress=False) == 2
    assert contents(home / "out") == contents(served.folder)


PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from rechain.data import Datastore
from rechain.data.cache import DataCache
from rechain.workspace import Workspace
storage = Datastore(Workspace.local(), "web").storage
def one(number):
    return DataCache(sys.argv[1]).tree(storage, "set", sys.argv[2])["place"]
with ThreadPoolExecutor(50) as pool:
    print(len(set(pool.map(one, range(50)))))
"""


def test_two_hundred_at_once_fetch_it_once(store, served, tmp_path, runs) -> None:
    """Four processes with fifty takers each, all at the same moment."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "cache"), runs("a")]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: subprocess.check_output(command, text=True), range(4)))
    assert said == ["1\n"] * 4
    assert served.gets["set/a.txt"] == 1
    assert served.gets["set/sub/b b.bin"] == 1


def test_eviction_removes_the_longest_unused_and_nothing_in_use(
    store, served, tmp_path, runs, monkeypatch
) -> None:
    for name in ("one", "two", "three"):
        Path(served.folder, name).write_bytes(os.urandom(1 << 20))
    monkeypatch.setenv("RECHAIN_DATA_LIMIT", "2.5MiB")
    used, old, new = runs("used"), runs("old"), runs("new")
    held = cache(tmp_path)
    first = held.tree(store.storage, "one", used)["place"]
    second = held.tree(store.storage, "two", old)["place"]
    with pytest.raises(UserErrorException, match=r"limited to 0\.00 GB.*RECHAIN_DATA_LIMIT"):
        held.tree(store.storage, "three", new)
    assert os.path.exists(first)
    assert os.path.exists(second)
    end(old)
    third = held.tree(store.storage, "three", new)["place"]
    assert os.path.exists(first)
    assert not os.path.exists(second)
    assert os.path.exists(third)
    monkeypatch.setenv("RECHAIN_DATA_LIMIT", "lots")
    Path(served.folder, "four").write_bytes(b"4")
    with pytest.raises(UserErrorException, match="a size such as 50GiB"):
        held.tree(store.storage, "four", new)


def test_a_full_disk_is_said_and_leaves_nothing_that_looks_whole(
    store, served, small_disk, runs, monkeypatch
) -> None:
    monkeypatch.setenv("RECHAIN_DATA_LIMIT", "1G")
    Path(served.folder, "big").write_bytes(os.urandom(8 << 20))
    with pytest.raises(UserErrorException, match="has no room"):
        DataCache(str(small_disk)).tree(store.storage, "big", runs("a"))
    assert not (small_disk / "data" / "trees").exists()


def test_names_that_lead_elsewhere_are_refused(store) -> None:
    for name in ("../x", "/etc/passwd", "a/../../x", "a//b", "", "a\0b", "."):
        with pytest.raises(UserErrorException, match="no path below a folder"):
            check_name(name, "the store")
    with pytest.raises(UserErrorException, match="leads out of the datastore"):
        store.files("../x")


def test_bad_addresses(home, served) -> None:
    workspace = Workspace.local()
    for url, words in {
        "ftp://host/x": "no datastores at ftp://",
        "sftp://me:word@host/x": "holds a password",
        "https://host/x?sig=abc": "holds a password",
        "s3://": "names no place",
        "/nowhere/at/all": "is no folder",
    }.items():
        with pytest.raises(UserErrorException, match=words) as caught:
            Datastore.register(workspace, "x", url)
        assert "word@" not in str(caught.value)
    for name in ("a-b", "", "a/b", 3):
        with pytest.raises(UserErrorException, match="letters, digits and underscores"):
            Datastore.register(workspace, name, home)
    with pytest.raises(UserErrorException, match="take another name"):
        Datastore.register(workspace, "workspacefilestore", home)
    with pytest.raises(UserErrorException, match="account_name is missing"):
        Datastore.register(workspace, "x", "az://box")
    with pytest.raises(UserErrorException, match="no setting of S3"):
        Datastore.register(workspace, "x", "s3://box", options={"account_name": "a"})
    with pytest.raises(UserErrorException, match="SMB"):
        Datastore.register_azure_file_share(workspace, "x", "share", "account")
    assert not (home / ".rechain").exists()
    assert kind_of("/a/folder") is None


def test_a_folder_gets_a_name_and_loses_it(home) -> None:
    workspace = Workspace.local()
    (home / "big").mkdir()
    made = Datastore.register(workspace, "big", "big")
    assert (made.folder, made.datastore_type) == (str(home / "big"), "Local")
    with pytest.raises(UserErrorException, match="there is a datastore 'big' already"):
        Datastore.register(workspace, "big", home)
    made.set_as_default()
    assert workspace.get_default_datastore().name == "big"
    made.unregister()
    assert (home / "big").exists()
    assert Workspace.local().get_default_datastore().name == "workspaceblobstore"


def test_a_missing_package_is_named(home, monkeypatch) -> None:
    from importlib import import_module

    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(
        import_module("fsspec.registry")._registry, "s3", raising=False
    )  # of an earlier test
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    made = Datastore.register(Workspace.local(), "x", "s3://box", skip_validation=True)
    with pytest.raises(UserErrorException, match=r"pip install 'rechain\[s3\]'"):
        made.files("")
