"""`rechain data` and `rechain run --input`, as a user types them."""

from __future__ import annotations

import socket
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
    assert rechain("data", "upload", "in", "disk/x") == (
        "Uploaded 0 of 1 files to disk: 1 was there already, and stayed (no overwrite)\n"
    )
    assert rechain("data", "ls", "disk").split() == ["6", "x/a.txt", "6", "y/a.txt"]
    assert rechain("data", "ls", "disk/*/a.txt").count("a.txt") == 2
    rechain("data", "download", "disk/x", "out")
    assert (home / "out/x/a.txt").read_text() == "digits"
    assert rechain("data", "download", "disk/x", "out").endswith(
        ": 1 was there already, and stayed (no overwrite)\n"
    )
    rechain("data", "rm", "disk")
    assert (home / "disk/x/a.txt").exists()
    assert "disk" not in rechain("data", "datastores")


def test_a_web_server_is_read_only_and_is_not_asked(home) -> None:
    (home / "a.txt").write_text("digits")
    (home / "served").mkdir()
    with WebServer(home / "served") as web:
        rechain("data", "add", "web", web.url)
        web.gets.clear()
        assert "is a web server, and read only" in rechain(
            "data", "upload", "a.txt", "web/x", code=1
        )
        assert web.gets == {}


def test_what_cannot_be_is_said_in_a_line(home, monkeypatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    for arguments, words in {
        ("ls", "nope"): "no datastore 'nope'",
        ("ls", "workspaceblobstore/../x"): "leads out of the datastore",
        ("ls", "workspaceblobstore/x"): "workspaceblobstore/x: there are no such files",
        ("rm", "workspaceblobstore"): "yourself",
        ("add", "x", "nowhere"): "is no folder",
        ("add", "x", "ftp://x/y"): "no datastores at ftp://",
        ("add", "x", "sftp://a:b@c/d"): "holds a password",
        ("add", "x", "http://h/p", "--option", "region=1"): "no setting of HTTP",
        ("download", "workspaceblobstore/x", "out"): "no such files",
        ("chainer", "imagenet", "--from", "."): "there are mnist, fashion-mnist",
        ("chainer", "mnist", "--from", "."): "there is no train-images",
        ("chainer", "mnist", "--from", "nope/"): "no file or folder nope/, nor a datastore",
        ("add", "x", "s3://a/b", "--secret", "key"): "no keyring here; leave out --secret and set",
    }.items():
        said = rechain("data", *arguments, code=1)
        assert words in said
        assert said.count("\n") == 1
    (home / "train.py").touch()
    for given, words, code in (
        ("workspaceblobstore", "not NAME=STORE", 2),
        ("d=nope", "no datastore 'nope'", 125),
        ("9=workspaceblobstore", "letters, digits and underscores", 125),
    ):
        assert words in rechain("run", "--user-managed", "--input", given, "train.py", code=code)


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
        said = rechain(*run, code=125)
        assert said.count("has no files at '/'") == 1  # as it comes, and not at the end again
        assert "input (as said above) after " in said


def test_a_web_server_that_does_not_answer_is_not_an_empty_one(
    home, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    (home / "train.py").touch()
    with socket.socket() as taken:  # it is bound and does not listen: nobody answers there
        taken.bind(("127.0.0.1", 0))
        rechain("data", "add", "web", f"http://127.0.0.1:{taken.getsockname()[1]}/x")
        for place in ("web", "web/a.txt", "web/*.txt"):
            assert "cannot be reached" in rechain("data", "ls", place, code=1)
        assert "cannot be reached" in rechain("data", "download", "web/a", "out", code=1)
        said = rechain("run", "--user-managed", "--input", "d=web/a", "train.py", code=125)
        assert "cannot be reached" in said


def test_an_input_that_is_not_there_is_an_error_and_nothing_is_made(home) -> None:
    (home / "train.py").touch()
    place = "workspaceblobstore/nope"
    said = rechain("run", "--user-managed", "--input", f"d={place}", "train.py", code=125)
    assert "has no 'nope'" in said
    assert "input" in rechain("runs")
    assert not list((home / ".rechain").rglob("nope"))


def test_a_secret_is_read_from_stdin_without_a_word(home, monkeypatch) -> None:
    (home / "memory.py").write_text(KEYRING)
    monkeypatch.setenv("PYTHONPATH", str(home))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "memory.Memory")
    add = [RECHAIN, "data", "add", "x", "https://127.0.0.1/x", "--secret", "password"]
    for given, code, words in (("word\n", 0, ""), ("", 1, "stdin has no line for the secret")):
        done = subprocess.run(
            [*add, "--overwrite"], input=given, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert done.stderr.count("\n") == code
    assert (home / "kept").read_text() == "https://127.0.0.1/x#password word\n"


# It writes down what it keeps; what Rechain tries it with aside.
KEYRING = """
from keyring.backend import KeyringBackend

class Memory(KeyringBackend):
    priority = 1

    def set_password(self, service, name, value):
        if "test" not in name:
            with open("kept", "a") as file:
                print(name, value, file=file)

    def get_password(self, service, name):
        return None
"""


def test_a_cache_of_chainers_stays_unless_told_otherwise(home) -> None:
    (home / "ptb").mkdir()
    for part in ("train", "valid", "test"):
        (home / "ptb" / f"ptb.{part}.txt").write_text("a b\n")
    make = ("data", "chainer", "ptb", "--from", "ptb")
    vocabulary = "workspaceblobstore/chainer/pfnet/chainer/ptb/vocab.txt"
    assert vocabulary in rechain(*make)
    (home / "ptb" / "ptb.train.txt").write_text("b a\n")
    done = subprocess.run([RECHAIN, *make], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout == ""
    assert f"{vocabulary} was there already, and stays" in done.stderr
    (kept,) = (home / ".rechain").rglob("vocab.txt")
    assert kept.read_text().split() == ["a", "b", "<eos>"]
    assert vocabulary in rechain(*make, "--overwrite")
    assert kept.read_text().split() == ["b", "a", "<eos>"]
