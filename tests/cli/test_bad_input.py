"""Bad input to `rechain run`: exit 125, or 2 for wrong usage; one clear error, no workspace."""

from __future__ import annotations

import os

import pytest

from rechain.cli.options import _OPTIONS, in_options
from rechain.cli.run import command

pytestmark = pytest.mark.fast

BAD = {
    "no script": (["nope.py"], "the script is 'nope.py', and there is no such file in"),
    "no folder": (["nope/train.py"], "nope', which is not a folder."),
    "folder alone": (["code"], "code is a folder: name the script in it as well"),
    "script outside": (["code", "../x.py"], "'../x.py', which is not inside the source folder (/"),
    "nothing": ([], "Missing argument 'SCRIPT | FOLDER SCRIPT'"),
    "empty": ([""], "the script is missing; it names the script"),
    "option": (["--user-mangaed", "code/train.py"], "Did you mean '--user-managed'?"),
    "version": (["--framework-version", "9.9", "code/train.py"], "--framework-version is '9.9'"),
    "version with a date": (
        ["--framework-version", "4.4.0", "--as-of", "2018-09-07", "code/train.py"],
        "packages of its day: `rechain run --as-of DATE --pip chainer==VERSION`",
    ),
    "target": (
        ["--user-managed", "--target", "moon", "code/train.py"],
        "there is no compute target 'moon'",
    ),
    "experiment": (
        ["--user-managed", "-e", "a b", "code/train.py"],
        "name='a b': an experiment's",
    ),
    "env": (["--env", "=x", "code/train.py"], "'=x' is not NAME=VALUE"),
    "env not set": (["--env", "NOT_SET", "code/train.py"], "'NOT_SET' has no value (use NOT_SET="),
    "env ours": (["--env", "RECHAIN_X=1", "code/train.py"], "sets RECHAIN_X"),
    "tag": (["--tag", "x", "code/train.py"], "'x' has no value (use x=VALUE)"),
    "pip": (["--user-managed", "--pip", "numpy", "code/train.py"], "Error: --user-managed means"),
    "version of another's": (
        ["--user-managed", "--framework-version", "7.0.0", "code/train.py"],
        "--framework-version means nothing with --user-managed",
    ),
    "version of a conda file's": (
        ["--conda-file", "ok.yml", "--framework-version", "7.0.0", "code/train.py"],
        "--framework-version means nothing with --conda-file, which has its own",
    ),
    "conda file with more": (
        ["--conda-file", "ok.yml", "--pip", "numpy", "code/train.py"],
        "Error: --conda-file says the whole of what --pip says",
    ),
    "no conda file": (["--conda-file", "gone.yml", "code/train.py"], "gone.yml, which does not"),
    "conda": (["--conda", "=1", "code/train.py"], "conda package '=1' cannot be read"),
    "conda of user": (
        ["--user-managed", "--conda", "numpy", "code/train.py"],
        "--user-managed means that nothing is installed, but --conda",
    ),
    "channel": (
        ["--conda", "numpy", "--channel", "https://u:p@conda.example/x", "code/train.py"],
        "channel 'https://conda.example/x': its address holds a password",
    ),
    "channel alone": (
        ["--channel", "conda-forge", "code/train.py"],
        "--channel is where packages of conda come from: add --conda",
    ),
    "notebook": (
        ["--user-managed", "-n", "2", "code/x.ipynb"],
        "a notebook in several processes is not built yet",
    ),
    "index": (["--requirements", "bad.txt", "code/train.py"], "'--index-url' is an option that"),
    "image empty": (["--image", "", "code/train.py"], "--image is empty"),
    "image without docker": (
        ["--image", "lab:1", "--no-docker", "code/train.py"],
        "--image runs in a container, and --no-docker in none",
    ),
    "python": (
        ["--framework-version", "7.0.0", "--python", "9", "code/train.py"],
        "Error: --python '9' is",
    ),
}
# What is wrong whatever there is on the machine.
USAGE = {
    "folder alone", "nothing", "option", "env", "env not set", "tag", "version of another's",
    "image empty", "image without docker", "version of a conda file's", "channel alone",
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_one_clear_error(rechain, train, home, case) -> None:
    (home / "code" / "x.ipynb").write_text("{}")
    (home / "code" / "bad.txt").write_text("--index-url https://u:p@example.org/simple\n")
    (home / "code" / "ok.yml").write_text("dependencies: [python=3.6]\n")
    arguments, says = BAD[case]
    done = rechain("run", *arguments)
    assert done.returncode == (2 if done.stderr.startswith("Usage: rechain run ") else 125)
    assert (done.returncode == 2) == (case in USAGE)
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert says in errors[0]
    assert "Traceback" not in done.stderr
    assert not os.path.exists(".rechain")


def test_parameters_are_options_and_what_is_the_users_stays() -> None:
    text = "vm_size='vm_size' in x/vm_size.py; mpi is y, use_docker=False, use_gpu=True."
    said = "--vm-size 'vm_size' in x/vm_size.py; mpi is y, --no-docker, --gpu."
    assert in_options(text) == said
    assert in_options("mpi is 'x'") == "--mpi is 'x'"


def test_every_option_in_words_is_one_of_run() -> None:
    known = {text for option in command.params for text in (*option.opts, *option.secondary_opts)}
    words = {"the script", "the source folder"}
    assert set(_OPTIONS.values()) <= known | words


def test_a_workspace_that_cannot_be_written(run, small_disk, monkeypatch) -> None:
    import subprocess

    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    monkeypatch.setenv("RECHAIN_HOME", str(small_disk / "ws"))
    done = run()
    assert done.returncode == 125
    assert done.stderr.startswith(
        f"Error: the workspace {small_disk}/ws cannot be made: Read-only"
    )
    assert "RECHAIN_HOME" in done.stderr


def test_a_workspace_that_is_a_file(run, home, monkeypatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("RECHAIN_HOME", str(home / "file"))
    done = run()
    assert done.returncode == 125
    assert done.stderr.startswith(f"Error: the workspace {home}/file cannot be made: ")


def test_a_full_disk(run, small_disk, monkeypatch) -> None:
    monkeypatch.setenv("RECHAIN_HOME", str(small_disk / "ws"))
    with open("code/data.bin", "wb") as file:
        file.write(os.urandom(5 << 20))
    done = run()
    assert done.returncode == 125
    assert "data.bin cannot be stored in" in done.stderr
    assert "No space left on device" in done.stderr


def test_a_folder_that_is_too_large(run, monkeypatch) -> None:
    monkeypatch.setenv("RECHAIN_SNAPSHOT_MAX_FILES", "1")
    with open("code/more.txt", "w"):
        pass
    done = run()
    assert done.returncode == 125
    assert done.stderr.startswith("Error: The source folder ")
    assert "is too large for a snapshot" in done.stderr


def test_a_current_folder_that_is_gone(home) -> None:
    import subprocess
    import sysconfig

    command = f"mkdir d && cd d && rmdir ../d && {sysconfig.get_path('scripts')}/rechain runs"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: the current folder")
