"""`rechain run`: output, exit codes, options, what it says at the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

COMMAND = os.path.join(sysconfig.get_path("scripts"), "rechain")

pytestmark = pytest.mark.fast

BOTH = "import sys; print('to out'); print('to err', file=sys.stderr); sys.exit(3)"
UNTIL_TOLD = """
import os, time
print("first", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
print("last")
"""


def test_output_and_exit_code_are_the_scripts(train, run) -> None:
    train(BOTH)
    done = run("-q", "code/train.py")
    assert (done.stdout, done.stderr, done.returncode) == ("to out\n", "to err\n", 3)


def test_what_it_says_beside(train, run, latest) -> None:
    train(BOTH)
    done = run()
    assert done.stdout == "to out\n"
    first, *said = done.stderr.splitlines()
    assert first == f"{latest().id} · python as it is · local"
    assert said[0] == "to err"
    assert re.fullmatch(r"user error \(exit 3\) after [\d.]+ s", said[1])
    assert said[2:] == [f"  .rechain/experiments/code/{latest().id}"]


@pytest.mark.parametrize("code", [0, 1, 2, 42, 123])
def test_the_scripts_own_exit_codes(train, run, code) -> None:
    train(f"raise SystemExit({code})")
    assert run().returncode == code


def test_a_time_limit_is_124(train, run) -> None:
    train("import time; time.sleep(1000)")
    done = run("--time-limit", "0.2", "--grace", "0.1", "code/train.py")
    assert done.returncode == 124
    assert "time limit (longer than 0.2 s) after" in done.stderr


@pytest.mark.parametrize("number", [6, 9, 11, 15])
def test_a_signal_is_128_and_its_number(train, run, number) -> None:
    train(f"import os; os.kill(os.getpid(), {number})")
    assert run().returncode == 128 + number


DIES_IN_C = "import ctypes\ndef read():\n    ctypes.string_at(0)\nread()"


def test_a_script_that_dies_in_c_leaves_its_stack(train, run) -> None:
    train(DIES_IN_C)
    done = run()
    assert done.returncode == 128 + 11
    assert 'train.py", line 3 in read\n' in done.stderr
    assert "user error (signal 11, SIGSEGV)" in done.stderr
    done = run("--env", "PYTHONFAULTHANDLER=", "code/train.py")
    assert done.returncode == 128 + 11
    assert "line 3 in read" not in done.stderr


def test_an_environment_that_is_not_there_is_125(run) -> None:
    done = run("--python", "python9.9", "code/train.py")
    assert done.returncode == 125
    assert "environment (there is no interpreter 'python9.9' on PATH)" in done.stderr


def test_without_the_gpu_that_a_fake_nvidia_smi_does_not_find_it_is_125(
    train, run, fake_gpu
) -> None:
    fake_gpu("No devices were found", status=6)
    train("print('trained')")
    done = run("--gpu", "required", "code/train.py")
    assert (done.returncode, done.stdout) == (125, "")
    assert "no gpu (nvidia-smi finds none: No devices were found)" in done.stderr
    assert "RECHAIN_GPU=optional (--gpu optional)" in done.stderr
    done = run("--gpu", "optional", "code/train.py")
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr.count("No devices were found; the script runs without one") == 1


def test_python_m_rechain_does_the_same(train, python) -> None:
    train("print('x')")
    command = [python, "-m", "rechain", "run", "-q", "--user-managed", "code/train.py"]
    assert subprocess.check_output(command, text=True) == "x\n"


def test_a_script_in_a_folder_of_its_own(train, run) -> None:
    train("import os, sys; print(sys.argv, sorted(os.listdir()))", "code/deep.py")
    done = run("-q", "code", "deep.py", "--a", "1")
    assert done.stdout == "['deep.py', '--a', '1'] ['deep.py', 'logs', 'outputs', 'train.py']\n"


def test_options_after_the_script_are_the_scripts_own(train, run) -> None:
    train("import sys; print(sys.argv[1:])")
    arguments = ["-q", "--help", "--json", "--", "-x", "a b", ""]
    assert run("-q", "code/train.py", *arguments).stdout == f"{arguments}\n"


def test_two_dashes_end_the_options(train, run, home) -> None:
    train("import sys; print(sys.argv)", "-odd.py")
    assert run("-q", "--", "-odd.py", "--", "-q").stdout == "['./-odd.py', '--', '-q']\n"


def test_stdin_is_not_the_scripts(train, run) -> None:
    train("import sys; print(repr(sys.stdin.read()))")
    done = run("-q", "code/train.py", stdin=None, input="for nobody")
    assert done.stdout == "''\n"


def test_json_is_one_object_on_stdout(train, run, latest) -> None:
    train(BOTH)
    done = run("--json", "code/train.py")
    told = json.loads(done.stdout)
    assert sorted(done.stderr.splitlines()) == ["to err", "to out"]
    assert told.pop("seconds") >= 0
    assert told == {
        "run_id": latest().id,
        "status": "Failed",
        "cause": "user_error",
        "message": "exit 3",
        "detail": "to err",
        "hint": "",
        "exit_code": 3,
        "folder": latest().folder,
        "metrics": {},
    }


def test_json_has_the_metrics(train, run) -> None:
    train("from azureml.core.run import Run; Run.get_context().log('loss', 0.5)")
    assert json.loads(run("--json", "code/train.py").stdout)["metrics"] == {"loss": 0.5}


def test_the_experiment_is_named_after_the_folder(train, run, latest) -> None:
    train("", "my exp. (ü)/train.py")
    run("my exp. (ü)/train.py")
    assert latest().experiment.name == "my-exp---ü-"
    run("-e", "other", "code/train.py")
    assert latest().experiment.name == "other"


@pytest.mark.parametrize("name", ["手" * 70, "---", "é" * 100, "...", "_x"])
def test_every_folder_makes_an_experiment(train, run, name) -> None:
    train("", f"{name}/train.py")
    assert run(f"./{name}/train.py").returncode == 0


def test_variables_and_tags(train, run, latest, monkeypatch) -> None:
    monkeypatch.setenv("KEPT", "from here")
    train("import os; print(os.environ['A'], os.environ['KEPT'])")
    options = ["--env", "A=b=c", "--env", "KEPT", "--tag", "phase=1", "--tag", "empty="]
    assert run("-q", *options, "code/train.py").stdout == "b=c from here\n"
    assert latest().tags == {"phase": "1", "empty": ""}
    assert latest()._job["variables"] == {"A": "b=c", "KEPT": "from here"}


def test_a_secret_is_in_no_file(train, run, monkeypatch) -> None:
    monkeypatch.setenv("API_TOKEN", "hunter2")
    train("import os; print(len(os.environ['API_TOKEN']))")
    assert run("-q", "--env", "API_TOKEN", "code/train.py").stdout == "7\n"
    assert subprocess.run(["grep", "-r", "hunter2", ".rechain"]).returncode == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800),
     ("1H 5M", 3900)],
)  # fmt: skip
def test_times(run, latest, text, seconds) -> None:
    run("--time-limit", text, "code/train.py")
    assert latest()._job["limits"]["seconds"] == seconds


@pytest.mark.parametrize("text", ["", "x", "m", "5x", "-3", "0", "1..2", "1h x", "nan", "inf"])
def test_what_is_no_time(run, text) -> None:
    done = run("--time-limit", text, "code/train.py")
    assert done.returncode == 2
    assert "Invalid value for '--time-limit'" in done.stderr
    assert not os.path.exists(".rechain")


def test_the_first_line_is_seen_before_the_script_has_ended(train, start, latest) -> None:
    train(UNTIL_TOLD)
    process = start("run", "-q", "--user-managed", "code/train.py")
    assert process.stdout.readline() == "first\n"
    Path(latest().folder, "work", "go").touch()
    assert process.communicate(timeout=60)[0] == "last\n"


def test_a_note_is_said_before_the_script_of_a_fake_gpu_speaks_and_once(
    train, start, latest, fake_gpu
) -> None:
    fake_gpu("No devices were found", status=6)
    train(f"import sys; sys.stdout = sys.stderr\n{UNTIL_TOLD}")
    process = start("run", "--user-managed", "--gpu", "optional", "code/train.py")
    assert " · python as it is" in process.stderr.readline()
    assert process.stderr.readline().startswith("note: no GPU is used: ")
    assert process.stderr.readline() == "first\n"
    Path(latest().folder, "work", "go").touch()
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert err.startswith("last\ncompleted after ")
    assert "note" not in err


def test_an_image_is_fetched_anew_for_a_container_only(run) -> None:
    done = run("--pull", "code/train.py")
    assert done.returncode == 2
    assert "Error: --pull fetches the image of a container: add --docker" in done.stderr
    assert not os.path.exists(".rechain")


def test_detach(train, run, latest) -> None:
    train(UNTIL_TOLD)
    done = run("-d", "code/train.py")
    assert done.returncode == 0
    assert done.stdout == f"{latest().id}\n"
    assert f"rechain logs -f {latest().id}" in done.stderr
    assert latest().get_status() in ("Starting", "Running")
    Path(latest().folder, "work", "go").touch()
    assert latest().wait_for_completion()["status"] == "Completed"


def test_detach_for_programs(run, latest) -> None:
    done = run("-d", "-q", "code/train.py")
    assert (done.stdout, done.stderr) == (f"{latest().id}\n", "")
    done = run("-d", "--json", "code/train.py")
    assert json.loads(done.stdout)["run_id"] == latest().id
    for one in list(latest().experiment.get_runs()):
        one.wait_for_completion()


def test_fifty_megabytes(train, run) -> None:
    train("import sys\nfor _ in range(500): sys.stdout.write(('x' * 99 + '\\n') * 1000)")
    assert len(run("-q", "code/train.py").stdout) == 50_000_000


def test_output_that_is_no_text(train, run) -> None:
    train("import os; os.write(1, b'\\xff\\x00\\xe9')")
    assert run("-q", "code/train.py", text=False).stdout == b"\xff\x00\xe9"


def test_nobody_reads_the_output(train, home) -> None:
    """The run goes on to its end, and its output is in its folder."""
    train("for n in range(100_000): print(n)")
    command = f"{COMMAND} run -q --user-managed code/train.py | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n0\n", "")
    (output,) = home.glob(".rechain/experiments/code/*/attempts/1/0.out")
    assert len(output.read_text().splitlines()) == 100_000


def test_closed_standard_streams(train, home) -> None:
    train("print('x')")
    command = f"{COMMAND} run --user-managed code/train.py >&- 2>&- <&-"
    assert subprocess.run(["bash", "-c", command]).returncode == 0
    (output,) = home.glob(".rechain/experiments/code/*/attempts/1/0.out")
    assert output.read_text() == "x\n"


def test_a_terminal_that_takes_ascii_only(train, run, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    train("raise ValueError('\\u2713')")
    done = run(text=False)
    assert done.returncode == 1
    assert b"\\u2713" in done.stderr
