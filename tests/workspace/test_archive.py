"""Runs as one file and back: nothing is lost, nothing half-done, nothing written elsewhere."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rechain import Run, Workspace
from rechain.exceptions import UserErrorException
from rechain.testing import wait_for
from rechain.workspace.archive import export_runs, import_runs
from rechain.workspace.archive.form import CONTENTS

pytestmark = pytest.mark.fast

SCRIPT = """
import os
from azureml.core.run import Run
run = Run.get_context()
run.log("loss", 0.5)
with run.child_run("fold 1") as child:
    child.log("loss", 0.25)
open("outputs/model", "wb").write(bytes(range(256)) * 40)
os.symlink("model", "outputs/newest")
"""


@pytest.fixture
def run(submit) -> Run:
    (submit.source / "helper.py").write_text("X = 1")
    made: Run = submit.done(SCRIPT)
    assert made.get_status() == "Completed", Path(made.folder, "attempts/1/0.err").read_text()
    return made


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Workspace]:
    """A function that goes over to another workspace."""

    def go(name: str = "other") -> Workspace:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        return Workspace.local()

    return go


def tree(folder: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            facts = path.stat()
            found[name] = (path.read_bytes(), int(facts.st_mtime), facts.st_mode)
        else:
            found[name] = None
    return found


def untouched(workspace: Workspace) -> bool:
    """Return whether a workspace has nothing but what every new one has."""
    found = {name: held for name, held in tree(workspace.path).items() if held is not None}
    return set(found) == {".gitignore", "workspace.json"}


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tar.xz"])
def test_a_run_comes_out_as_it_went_in(run, elsewhere, tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"runs{ending}")
    assert export_runs([run], path) == []
    first = Path(path).read_bytes()
    export_runs([run, run], path)
    assert Path(path).read_bytes() == first  # the same runs, the same archive
    other = elsewhere()
    children = [child.id for child in run.get_children()]
    assert import_runs(other, path) == (sorted([run.id, *children]), [])
    copy = other.get_run(run.id)
    assert tree(copy.folder) == tree(run.folder)
    assert [one.id for one in other.get_runs()] == [run.id]  # children are listed by parents
    assert [child.id for child in copy.get_children()] == children
    assert copy.get_metrics() == {"loss": 0.5}
    assert copy.get_file_names() == run.get_file_names()
    assert not [name for name in os.listdir(other.path) if name.startswith(".import-")]
    again = copy.replay()  # from the snapshot that came along
    again.wait_for_completion()
    assert copy.differences(again)["same"]


def test_what_is_there_already_is_left_as_it_is(run, elsewhere, tmp_path: Path) -> None:
    path = str(tmp_path / "runs.tar")
    export_runs([run], path)
    other = elsewhere()
    import_runs(other, path)
    copy = other.get_run(run.id)
    Path(copy.folder, "mine").touch()
    (child,) = copy.get_children()
    child.delete()
    assert import_runs(other, path) == ([child.id], [run.id])  # the one that is missing
    assert Path(copy.folder, "mine").exists()
    before = tree(other.path)
    assert import_runs(other, path) == ([], sorted([run.id, child.id]))
    assert tree(other.path) == before


def test_a_running_run_is_refused(submit, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    running = submit(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)")
    with pytest.raises(UserErrorException, match="has not ended"):
        export_runs([running], str(tmp_path / "runs.tar"))
    assert not list(tmp_path.glob("runs*"))
    gate.touch()
    running.wait_for_completion()


def test_what_leads_out_of_the_run_is_left_out_and_said(submit, tmp_path: Path) -> None:
    run = submit.done(
        "import os; os.symlink('/etc', 'etc'); os.symlink('../../..', 'up'); os.mkfifo('pipe');"
        "os.symlink('nowhere', 'broken')"
    )
    path = str(tmp_path / "runs.tar")
    assert sorted(export_runs([run], path)) == [
        f"{run.id}/work/{name}" for name in ("etc", "pipe", "up")
    ]
    with tarfile.open(path) as archive:
        names = [name.rpartition("/work/")[2] for name in archive.getnames() if "/work/" in name]
    assert "broken" in names
    assert not {"etc", "up", "pipe"} & set(names)


@pytest.mark.parametrize("name", ["runs.zip", "runs", "runs.tar.bz2"])
def test_a_name_without_a_form_is_refused(run, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserErrorException, match="no ending that says its form"):
        export_runs([run], str(tmp_path / name))
    assert not (tmp_path / name).exists()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Zstandard comes with it")
def test_zstandard_needs_a_python_that_has_it(run, tmp_path: Path) -> None:
    with pytest.raises(UserErrorException, match=r"Python 3\.14"):
        export_runs([run], str(tmp_path / "runs.tar.zst"))
    (tmp_path / "x.tar").write_bytes(b"\x28\xb5\x2f\xfd rest")
    with pytest.raises(UserErrorException, match=r"Python 3\.14"):
        import_runs(Workspace.local(), str(tmp_path / "x.tar"))


# Archives that nobody wrote in good faith.


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    row = tarfile.TarInfo(name)
    row.type, row.linkname = kind, target
    return row


def file(name: str, size: int = 3) -> tarfile.TarInfo:
    row = tarfile.TarInfo(name)
    row.size = size
    return row


def device(name: str, kind: bytes = tarfile.CHRTYPE) -> tarfile.TarInfo:
    row = tarfile.TarInfo(name)
    row.type, row.devmajor, row.devminor = kind, 1, 3
    return row


def evil(run: Run, path: Path, target: Path, *more: tarfile.TarInfo, **changed: object) -> None:
    """Write an archive with more in it than `export_runs` wrote."""
    with tarfile.open(path) as archive:
        rows = [(row, archive.extractfile(row).read() if row.isreg() else b"") for row in archive]
    contents = json.loads(rows[0][1])
    contents["members"] += len(more)
    contents["bytes"] += sum(row.size for row in more)
    contents.update(changed)
    data = json.dumps(contents).encode()
    rows[0][0].size = len(data)
    with tarfile.open(target, "w") as archive:
        archive.addfile(rows[0][0], io.BytesIO(data))
        for row, held in rows[1:]:
            archive.addfile(row, io.BytesIO(held))
        for row in more:
            archive.addfile(row, io.BytesIO(b"x" * row.size))


BASE = "experiments/digits/{run}/work"
EVIL = [
    ([file(BASE + "/../../../../../evil")], "leads elsewhere"),
    ([file("/tmp/evil")], "leads elsewhere"),
    ([file(BASE + "//evil")], "leads elsewhere"),
    ([file("evil")], "belongs to none of its runs"),
    ([file("workspace.json")], "belongs to none of its runs"),
    ([file("experiments/digits/other_1_00000000/x")], "belongs to none of its runs"),
    ([file("store/objects/ab/evil")], "belongs to none of its runs"),
    ([link(BASE + "/l", "/etc")], "leads out of its run"),
    ([link(BASE + "/l", "../../../../..")], "leads out of its run"),
    ([link("store/objects/ab/" + "0" * 62, "x")], "leads out of its run"),
    ([link(BASE + "/l", "outputs"), file(BASE + "/l/evil")], "which is no folder"),
    ([link(BASE + "/l", "/etc/passwd", tarfile.LNKTYPE)], "neither a file"),
    ([link(BASE + "/l", BASE + "/outputs/model", tarfile.LNKTYPE)], "neither a file"),
    ([device(BASE + "/null")], "neither a file"),
    ([device(BASE + "/pipe", tarfile.FIFOTYPE)], "neither a file"),
    ([file(BASE + "/twice"), file(BASE + "/twice")], "twice"),
    ([file(BASE + "/outputs/model")], "twice"),
]


@pytest.mark.parametrize(("rows", "words"), EVIL, ids=range(len(EVIL)))
def test_tricks_are_refused_before_anything_is_written(
    run, elsewhere, tmp_path: Path, rows, words: str
) -> None:
    for row in rows:
        row.name, row.linkname = (text.format(run=run.id) for text in (row.name, row.linkname))
    export_runs([run], str(tmp_path / "runs.tar"))
    evil(run, tmp_path / "runs.tar", tmp_path / "evil.tar", *rows)
    other = elsewhere()
    with pytest.raises(UserErrorException, match=words) as caught:
        import_runs(other, str(tmp_path / "evil.tar"))
    assert "nothing was written" in str(caught.value)
    assert not os.path.exists(other.path) or tree(other.path) == {}
    assert not (tmp_path / "evil").exists()


MORE = [
    ({"bytes": 100}, "more than it says"),
    ({"members": 2}, "more than it says"),
    ({"members": 4000}, "less than it says"),
    ({"bytes": 1 << 60}, "less than it says"),
    ({"runs": ["../../x_1_00000000"]}, "cannot be read"),
    ({"runs": []}, "cannot be read"),
    ({"runs": [".x_1_00000000"]}, "cannot be read"),
    ({"runs": ["x_1_00000000"]}, "belongs to none of its runs"),
    ({"schema": 2}, "newer Rechain"),
]


@pytest.mark.parametrize(("changed", "words"), MORE, ids=range(len(MORE)))
def test_what_it_says_of_itself_must_be_so(
    run, elsewhere, tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    export_runs([run], str(tmp_path / "runs.tar"))
    evil(run, tmp_path / "runs.tar", tmp_path / "evil.tar", **changed)
    with pytest.raises(UserErrorException, match=words):
        import_runs(elsewhere(), str(tmp_path / "evil.tar"))


def test_a_bomb_ends_where_it_says_less_than_it_holds(run, elsewhere, tmp_path: Path) -> None:
    """A file of 1 TB of zeros, which gzip makes small: only its head is ever written here."""
    export_runs([run], str(tmp_path / "runs.tar"))
    large = file(BASE.format(run=run.id) + "/zeros", 1 << 40)
    with tarfile.open(tmp_path / "runs.tar") as archive:
        begin = archive.extractfile(archive.next()).read()
        contents = archive.getmember(CONTENTS)
    import gzip

    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as packed:
        packed.write(contents.tobuf() + begin.ljust(-(-len(begin) // 512) * 512, b"\0"))
        packed.write(large.tobuf())
    with pytest.raises(UserErrorException, match="more than it says"):
        import_runs(elsewhere(), str(tmp_path / "bomb.tar.gz"))


def test_a_changed_object_is_found_and_nothing_is_there(run, elsewhere, tmp_path: Path) -> None:
    export_runs([run], str(tmp_path / "runs.tar"))
    data = (tmp_path / "runs.tar").read_bytes()
    assert data.count(b"X = 1\0") == 2  # in the run's folder, and in the store
    (tmp_path / "runs.tar").write_bytes(data.replace(b"X = 1\0", b"X = 2\0"))
    other = elsewhere()
    with pytest.raises(UserErrorException, match="is not what its name says"):
        import_runs(other, str(tmp_path / "runs.tar"))
    assert list(other.get_runs()) == []
    assert untouched(other)


def test_a_run_that_has_no_end_or_no_job_is_refused(run, elsewhere, tmp_path: Path) -> None:
    path = tmp_path / "runs.tar"
    export_runs([run], str(path))
    whole = path.read_bytes()
    other = elsewhere()
    for old, new, words in [
        ('"event": "end"', '"event": "enx"', "has not ended"),
        ('"submitted":', '"submittex":', "is not that of this run"),
        (f'"run_id": "{run.id}"', f'"run_id": "{run.id[:-1]}x"', "is not that of this run"),
    ]:
        assert old.encode() in whole
        path.write_bytes(whole.replace(old.encode(), new.encode()))
        with pytest.raises(UserErrorException, match=words):
            import_runs(other, str(path))
    assert list(other.get_runs()) == []


def test_two_imports_at_once_bring_it_in_once(run, elsewhere, tmp_path: Path) -> None:
    path = str(tmp_path / "runs.tar")
    export_runs([run], path)
    other = elsewhere()
    command = [sys.executable, "-m", "rechain", "import", path]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [one.wait() for one in both] == [0] * 4
    assert [one.id for one in other.get_runs()] == [run.id]
    assert tree(other.get_run(run.id).folder) == tree(run.folder)
    assert not [name for name in os.listdir(other.path) if name.startswith(".import-")]


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b torn", b"\0" * 10240])
def test_what_is_no_archive_is_refused(home, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(UserErrorException, match="no archive of runs") as caught:
        import_runs(Workspace.local(), str(tmp_path / "x.tar"))
    assert "\n" not in str(caught.value)


def test_an_archive_that_was_cut_off_is_refused(run, elsewhere, tmp_path: Path) -> None:
    export_runs([run], str(tmp_path / "runs.tar.gz"))
    data = (tmp_path / "runs.tar.gz").read_bytes()
    other = elsewhere()
    for size in (len(data) // 4, len(data) // 2, len(data) - 20):
        (tmp_path / "cut.tar.gz").write_bytes(data[:size])
        with pytest.raises(UserErrorException):
            import_runs(other, str(tmp_path / "cut.tar.gz"))
    assert list(other.get_runs()) == []


# Ends that nobody asked for.


def fill(disk: Path) -> None:
    with open(disk / "fill", "wb", buffering=0) as target:
        for size in (1 << 16, 1 << 12):
            try:
                while target.write(bytes(size)):
                    pass
            except OSError:
                continue


def test_on_a_full_disk_neither_export_nor_import_leaves_anything(
    run, elsewhere, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_runs([run], str(tmp_path / "runs.tar"))
    monkeypatch.setenv("RECHAIN_HOME", str(small_disk / "w"))
    other = Workspace.local()
    other._make()
    fill(small_disk)
    with pytest.raises(UserErrorException, match="No space left"):
        export_runs([run], str(small_disk / "runs.tar"))
    with pytest.raises(UserErrorException, match=r"bytes, and there are|No space left"):
        import_runs(other, str(tmp_path / "runs.tar"))
    assert sorted(os.listdir(small_disk)) == ["fill", "w"]
    assert untouched(other)
    # As if others took the room that there was at first.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Free())
    with pytest.raises(UserErrorException, match="No space left"):
        import_runs(other, str(tmp_path / "runs.tar"))
    assert untouched(other)
    assert list(other.get_runs()) == []


class Free:
    free = 1 << 60


def test_an_import_that_is_killed_leaves_nothing_half_done(run, elsewhere, tmp_path: Path) -> None:
    Path(run.folder, "work/outputs/large").write_bytes(os.urandom(1 << 20))
    export_runs([run], str(tmp_path / "runs.tar"))
    pipe = tmp_path / "held"
    # It stops itself in the middle of the largest file: an event, whatever the machine's pace.
    code = f"""
import os, shutil, sys, time
from rechain import Workspace
from rechain.workspace import archive
copy = shutil.copyfileobj
def held(source, target, length):
    if "large" in os.readlink("/proc/self/fd/%d" % target.fileno()):
        target.write(source.read(1000)); target.flush()
        open({str(pipe)!r}, "w").close()
        time.sleep(600)
    copy(source, target, length)
shutil.copyfileobj = held
archive.import_runs(Workspace.local(), {str(tmp_path / "runs.tar")!r})
"""
    other = elsewhere()
    importing = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for(pipe.exists, "it is in the middle")
    finally:
        importing.send_signal(signal.SIGKILL)
        importing.wait()
    assert list(other.get_runs()) == []
    assert list(other.experiments) == []
    (left,) = [name for name in os.listdir(other.path) if name.startswith(".import-")]
    new, there = import_runs(other, str(tmp_path / "runs.tar"))
    assert run.id in new
    assert there == []
    assert tree(other.get_run(run.id).folder) == tree(run.folder)
    assert left not in os.listdir(other.path)


def test_the_command_line(run, tmp_path: Path, elsewhere) -> None:
    def rechain(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rechain", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    path = str(tmp_path / "runs.tar.gz")
    assert rechain("export", run.id[:-4], "-o", path).stdout == f"{path}\n"
    said = rechain("import", path)
    assert said.returncode == 0
    assert f"{run.id} is there already and was left as it is" in said.stderr
    elsewhere()
    said = rechain("import", path)
    assert run.id in said.stdout.splitlines()
    assert "cannot be imported: No such file" in rechain("import", "nope.tar").stderr
    assert rechain("export", "-o", path).returncode == 2
