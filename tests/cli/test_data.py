"""`rechain data` and `rechain run --input`, as a user types them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rechain.testing.web import WebServer

pytestmark = pytest.mark.fast

RECHAIN = Path(sys.executable).with_name("rechain")


def rechain(*arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        [RECHAIN, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_folder_is_named_filled_and_forgotten(home) -> None:
    (home / "in").mkdir()
    (home / "in" / "a.txt").write_text("digits")
    (home / "disk").mkdir()
    rechain("data", "add", "disk", "disk", "--default")
    assert f"* disk                     Local      {home / 'disk'}" in rechain(
        "data", "datastores"
    )
    assert rechain("data", "upload", "in", "disk/x") == "Uploaded 1 of 1 files to disk\n"
    assert rechain("data", "upload", "in/a.txt", "disk/y") == "Uploaded 1 of 1 files to disk\n"
    assert rechain("data", "upload", "in", "disk/x") == "Uploaded 0 of 1 files to disk\n"
    assert rechain("data", "ls", "disk").split() == ["6", "x/a.txt", "6", "y/a.txt"]
    assert rechain("data", "ls", "disk/*/a.txt").count("a.txt") == 2
    rechain("data", "download", "disk/x", "out")
    assert (home / "out/x/a.txt").read_text() == "digits"
    rechain("data", "rm", "disk")
    assert (home / "disk/x/a.txt").exists()
    assert "disk" not in rechain("data", "datastores")


def test_what_cannot_be_is_said_in_a_line(home) -> None:
    for arguments, words in {
        ("ls", "nope"): "no datastore 'nope'",
        ("ls", "workspaceblobstore/../x"): "leads out of the datastore",
        ("rm", "workspaceblobstore"): "yourself",
        ("add", "x", "nowhere"): "is no folder",
        ("add", "x", "ftp://x/y"): "no datastores at ftp://",
        ("add", "x", "sftp://a:b@c/d"): "holds a password",
        ("add", "x", "http://h/p", "--option", "region=1"): "no setting of HTTP",
        ("download", "workspaceblobstore/x", "out"): "no such files",
        ("chainer", "imagenet", "--from", "."): "there are mnist, fashion-mnist",
        ("chainer", "mnist", "--from", "."): "there is no train-images",
    }.items():
        said = rechain("data", *arguments, code=1)
        assert words in said
        assert said.count("\n") == 1
    (home / "train.py").touch()
    for given, words in {
        "workspaceblobstore": "not NAME=STORE",
        "d=nope": "no datastore 'nope'",
        "9=workspaceblobstore": "letters, digits and underscores",
    }.items():
        assert words in rechain("run", "--user-managed", "--input", given, "train.py", code=125)


def test_a_run_reads_what_lies_on_the_web(home, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    (home / "web").mkdir()
    (home / "web" / "a.txt").write_text("digits")
    (home / "train.py").write_text("import sys\nprint(open(sys.argv[2] + '/a.txt').read())")
    run = ("run", "--user-managed", "--input", "d=web", "train.py", "--data",
           "$AZUREML_DATAREFERENCE_d")  # fmt: skip
    with WebServer(home / "web") as web:
        rechain("data", "add", "web", web.url)
        assert rechain(*run) == "digits\n"
        assert rechain(*run) == "digits\n"
        assert web.gets["a.txt"] == 1
        assert "d: web/, mount, 1 file, 0.0 MB, sha256 " in rechain("show")
        (home / "web" / "a.txt").unlink()
        assert "has no files at '/'" in rechain(*run, code=125)
