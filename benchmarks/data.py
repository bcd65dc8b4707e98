"""What it costs to bring data to runs, against cp, rsync and the client of a web server.

Run with the Python that Rechain is developed in: `.venv/bin/python benchmarks/data.py`.
Needs rsync and curl, and some 10 GB of disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import Command, Lab, Row, main

from rechain.testing.web import WebServer

_FILES = 10_000
_BIG = 2 << 30
_PART = 256 << 20  # of the web: the server is Python's, and reads the file for each answer
_SCRIPT = "import os, sys\nprint(len(os.listdir(sys.argv[1])))\n"


def _small(folder: Path) -> Path:
    for number in range(_FILES):
        path = folder / f"{number % 100:02}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(2048))
    return folder


def _large(folder: Path, size: int) -> Path:
    folder.mkdir(parents=True)
    with open(folder / "large.bin", "wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    return folder


def _copying(lab: Lab, what: str, source: Path, at_most: int) -> Row:
    place = source.parent
    environment = lab.environment(RECHAIN_HOME=str(place / "workspace"))
    copy = place / "copy"

    def clean() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.rmtree(place / "workspace", ignore_errors=True)

    upload = [lab.rechain() / "rechain", "data", "upload", source, "workspaceblobstore/x"]
    ours = Command(upload, environment, place, clean)
    cp = Command(["/bin/cp", "-r", source, copy], environment, place, clean)
    rsync = Command(["/usr/bin/rsync", "-a", f"{source}/", copy], environment, place, clean)
    return Row(
        what, "s", {"cp -r": None, "rsync -a": None},
        lambda: {"ours": ours(), "cp -r": cp(), "rsync -a": rsync()}, at_most,
    )  # fmt: skip


@contextmanager
def small(lab: Lab) -> Iterator[Row]:
    """Ten thousand files into the default datastore."""
    source = _small(lab.work / "small" / "files")
    yield _copying(lab, f"`rechain data upload` of {_FILES} files of 2 KiB", source, 7)


@contextmanager
def large(lab: Lab) -> Iterator[Row]:
    """One large file into the default datastore."""
    source = _large(lab.work / "large" / "files", _BIG)
    yield _copying(lab, "`rechain data upload` of one file of 2 GiB", source, 3)
    shutil.rmtree(source.parent)


@contextmanager
def again(lab: Lab) -> Iterator[Row]:
    """A run with ten thousand mounted files, against the same run without."""
    place = lab.work / "again"
    _small(place / "workspace" / "datastores" / "workspaceblobstore" / "x")
    (place / "code").mkdir()
    (place / "code" / "train.py").write_text(_SCRIPT)
    environment = lab.environment(RECHAIN_HOME=str(place / "workspace"))
    run = [lab.rechain() / "rechain", "run", "-q", "--user-managed"]
    where = place / "workspace" / "datastores" / "workspaceblobstore" / "x"
    data = ["--input", "d=workspaceblobstore/x", "code/train.py", "$AZUREML_DATAREFERENCE_d"]
    ours = Command([*run, *data], environment, place)
    bare = Command([*run, "code/train.py", where], environment, place)
    yield Row(
        f"a run with {_FILES} mounted files, all in the record", "s", {"the run without": None},
        lambda: {"ours": ours(), "the run without": bare()}, 7,
    )  # fmt: skip


@contextmanager
def web(lab: Lab) -> Iterator[Row]:
    """A large file of a web server, fetched and found, against its usual client."""
    place = lab.work / "web"
    served = _large(place / "served", _PART)
    (place / "code").mkdir()
    (place / "code" / "train.py").write_text(_SCRIPT)
    with WebServer(served) as server:
        environment = lab.environment(
            RECHAIN_HOME=str(place / "workspace"), RECHAIN_CACHE=str(place / "cache")
        )
        rechain = lab.rechain("http") / "rechain"
        Command([rechain, "data", "add", "web", server.url], environment, place)()
        run = [rechain, "run", "-q", "--user-managed", "--input", "d=web", "code/train.py",
               "$AZUREML_DATAREFERENCE_d"]  # fmt: skip
        clean = Command(run, environment, place, lambda: _forget(place / "cache"))
        found = Command(run, environment, place)
        curl = Command(
            ["/usr/bin/curl", "-s", "-o", place / "copy", f"{server.url}/large.bin"],
            environment, place,
        )  # fmt: skip
        yield Row(
            "a run that fetches 256 MiB of the web, each part checked", "s",
            {"curl": None, "the second run": None},
            lambda: {"ours": clean(), "curl": curl(), "the second run": found()}, 5,
        )  # fmt: skip


def _forget(cache: Path) -> None:
    for folder, _, _ in os.walk(cache):
        os.chmod(folder, 0o755)
    shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main("data", {"small": small, "large": large, "again": again, "web": web})
