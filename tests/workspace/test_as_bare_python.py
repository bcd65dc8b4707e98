"""Law 7: the script sees what it would see under bare python, in the same folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rechain.workspace.submit import prepare
from tests.conftest import interpreter

pytestmark = pytest.mark.fast

LOOK = """
import json, os, sys
import helper

class Odd(Exception):
    pass

with open("seen.json", "w") as file:
    json.dump({
        "argv": sys.argv,
        "path": sys.path[0],
        "path_of_helper": helper.__file__,
        "file": sys.modules["__main__"].__file__,
        "name": __name__,
        "spec": str(__spec__),
        "main": sorted(n for n in vars(sys.modules["__main__"]) if n.startswith("__")),
        "cwd": os.getcwd(),
        "here": sorted(os.listdir(".")),
        "data": open("data/numbers.txt").read(),
        "flags": list(sys.flags),
        "prefix": sys.prefix,
        "executable": os.path.realpath(sys.executable),
        "stdin": sys.stdin.read(),
        "encoding": [sys.stdout.encoding, sys.stderr.encoding, sys.getfilesystemencoding()],
    }, file)

def inner():
    raise Odd("\\u00fc \\u2713")

def outer():
    try:
        helper.fail()
    except ValueError:
        inner()

print("out")
outer()
"""


def bare(python: str, folder: Path, *arguments: str) -> tuple[dict, str]:
    variables = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH",)}
    done = subprocess.run(
        [python, "train.py", *arguments],
        cwd=folder, capture_output=True, stdin=subprocess.DEVNULL,
        env={**variables, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    return json.loads((folder / "seen.json").read_text()), done.stderr.decode()


@pytest.mark.parametrize("minor", ["3.6", "3.8", "3.11", "3.13"])
def test_the_script_cannot_tell_the_difference(submit, tmp_path, minor) -> None:
    python = interpreter(minor)
    estimator = submit.estimator(LOOK)
    (submit.source / "helper.py").write_text("def fail():\n    raise ValueError('no')\n")
    (submit.source / "data").mkdir()
    (submit.source / "data" / "numbers.txt").write_text("1 2 3")
    arguments = ["--epochs", "3", "", "a b", "*", "$HOME"]
    run = prepare(submit.experiment, estimator, python=python, arguments=arguments).start()
    run.wait_for_completion(raise_on_error=False)
    work = Path(run.folder, "work")
    seen = json.loads((work / "seen.json").read_text())
    traceback = submit.output(run, "err")

    folder = tmp_path / "bare"
    subprocess.run(["cp", "-r", submit.source, folder], check=True)
    for made in ("outputs", "logs"):  # v1's folders, there from the start
        (folder / made).mkdir()
    expected, expected_traceback = bare(python, folder, *arguments)

    text = json.dumps(seen).replace(str(work), "FOLDER")
    assert json.loads(text) == json.loads(json.dumps(expected).replace(str(folder), "FOLDER"))
    assert traceback.replace(str(work), "FOLDER") == expected_traceback.replace(
        str(folder), "FOLDER"
    )
    assert run.cause.startswith("user error (exit 1, Odd at train.py:")


def test_a_script_in_a_subfolder_runs_from_the_source_folder(submit) -> None:
    (submit.source / "deep").mkdir()
    (submit.source / "deep" / "it.py").write_text(
        "import os, sys; print(sys.argv[0], os.path.relpath(sys.path[0]))"
    )
    run = submit.done(entry_script="deep/it.py")
    assert submit.output(run) == "deep/it.py deep\n"


def test_stdin_is_empty(submit) -> None:
    run = submit.done("import sys; print(repr(sys.stdin.read()))")
    assert submit.output(run) == "''\n"


def test_signals_are_as_after_a_login(submit) -> None:
    """Also where the submitter ignores or blocks some, as under nohup."""
    ignored = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGPIPE]
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        run = submit.done(
            "import subprocess\n"
            "grep = ['grep', '-E', 'Sig(Blk|Ign)', '/proc/self/status']\n"
            "print(subprocess.check_output(grep, restore_signals=True).decode())"
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        for number, handler in before.items():
            signal.signal(number, handler)
    _, blocked, _, ignored_by_script = submit.output(run).split()
    libc_own = 0b11 << 31  # 32 and 33, which no program can set
    assert int(blocked, 16) == 0
    assert int(ignored_by_script, 16) & ~libc_own == 0


def test_sigpipe_ends_a_program_that_the_script_starts(submit) -> None:
    """As in a shell: `yes | head -1` comes to an end."""
    run = submit.done("import os; os.execvp('sh', ['sh', '-c', 'yes | head -1'])")
    assert submit.output(run) == "y\n"
    assert run.get_status() == "Completed"


def test_no_descriptor_of_the_submitter_is_inherited(submit) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        run = submit.done("import os; print(sorted(os.listdir('/proc/self/fd')))")
    finally:
        os.close(reader)
        os.close(writer)
    # 0, 1, 2 and the one that lists the folder.
    assert submit.output(run) == "['0', '1', '2', '3']\n"


def test_the_umask_is_kept(submit) -> None:
    before = os.umask(0o027)
    try:
        run = submit.done("open('made', 'w')")
    finally:
        os.umask(before)
    assert os.stat(f"{run.folder}/work/made").st_mode & 0o777 == 0o640


def test_limits_and_niceness_are_kept(submit) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    try:
        run = submit.done("import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert submit.output(run) == f"{soft - 1}\n"


def test_a_user_managed_script_inherits_every_variable(submit, monkeypatch) -> None:
    monkeypatch.setenv("ANYTHING", "at all")
    monkeypatch.setenv("PYTHONPATH", "/from/me")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/lib/mine")
    run = submit.done(
        "import os, sys\n"
        "e = os.environ\n"
        "print(e['ANYTHING'], e['LD_LIBRARY_PATH'], '/from/me' in sys.path, e['PATH'])"
    )
    assert submit.output(run) == f"at all /lib/mine True {os.environ['PATH']}\n"


def test_a_variable_set_for_the_script_wins(submit, monkeypatch) -> None:
    monkeypatch.setenv("COLOR", "red")
    run = submit.done(
        "import os; print(os.environ['COLOR'])", environment_variables={"COLOR": "blue"}
    )
    assert submit.output(run) == "blue\n"


def test_the_guest_comes_first_on_the_path_and_only_once(submit, monkeypatch) -> None:
    """Also in a script that is submitted by a script."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    run = submit.done(
        f"""
        import os, sys
        sys.path.append({str(Path(__file__).parents[2] / "src")!r})
        open("inner.py", "w").write("import os; print(os.environ['PYTHONPATH'])")
        from rechain import Chainer, Experiment, Workspace
        e = Chainer(".", entry_script="inner.py", compute_target="local", user_managed=True)
        Experiment(Workspace.local(), "inner").submit(e).wait_for_completion(show_output=True)
        print(os.environ["PYTHONPATH"])
        """
    )
    assert run.get_status() == "Completed", submit.output(run, "err")
    out = submit.output(run)
    guest = str(Path(__file__).parents[2] / "src/rechain/guest")
    assert [line for line in out.splitlines() if line.startswith(guest)] == [guest, guest]


def test_the_interpreter_on_the_path_given_to_the_script_is_taken(submit, tmp_path) -> None:
    """`python` means what it would mean to the script."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "python").symlink_to(sys.executable)
    run = submit.done(
        "import os; print(os.readlink('/proc/self/exe'))",
        environment_variables={"PATH": f"{own}:/usr/bin:/bin"},
    )
    lock = json.loads(Path(run.folder, "lock.json").read_text())
    assert lock["interpreter"]["path"] == str(own / "python")
