"""The verbs beside `run`."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from rechain.record import jsonl

pytestmark = pytest.mark.fast

COMMAND = os.path.join(sysconfig.get_path("scripts"), "rechain")
VERBS = (
    "run",
    "runs",
    "show",
    "logs",
    "metrics",
    "files",
    "cancel",
    "rm",
    "replay",
    "diff",
    "export",
    "import",
    "models",
    "data",
    "env",
    "targets",
    "target",
    "doctor",
    "reindex",
)
MAKES = """
import sys
from azureml.core.run import Run
run = Run.get_context()
for step in range(3):
    run.log("loss", 0.5 ** step)
run.log("name", "mlp")
run.tag("phase", "1")
open("outputs/model.txt", "w").write("made")
print("to out")
print("to err", file=sys.stderr)
"""


def in_terminal(*arguments: str, columns: int = 80, **variables: str) -> str:
    """Return what the command prints into a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **variables}
    environment.pop("NO_COLOR", None) if "NO_COLOR" not in variables else None
    process = subprocess.Popen(
        [COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait()
    return said.decode().replace("\r\n", "\n")


def test_runs(train, run, rechain, latest) -> None:
    run()
    train("raise ValueError('x')")
    run("code/train.py", "--epochs", "3")
    lines = rechain("runs").stdout.splitlines()
    assert lines[0].split() == ["run", "submitted", "took", "outcome", "command"]
    assert re.fullmatch(
        rf"{latest().id}  just now +[\d.]+ s  ValueError at train.py:1  "
        r"train.py --epochs 3",
        lines[1],
    )
    assert re.search(r"  completed +train.py$", lines[2])
    assert lines == [line.rstrip() for line in lines]


def test_runs_for_programs(run, rechain, latest) -> None:
    run()
    (row,) = json.loads(rechain("runs", "--json").stdout)
    assert row["run_id"] == latest().id
    assert (row["status"], row["cause"], row["script"]) == ("Completed", "completed", "train.py")


def test_runs_of_one_experiment_and_the_newest_of_them(run, rechain) -> None:
    for name in ("a", "b", "a"):
        run("-e", name, "code/train.py")
    assert len(rechain("runs", "-e", "a").stdout.splitlines()) == 3
    assert len(rechain("runs", "-n", "1").stdout.splitlines()) == 2
    assert rechain("runs", "-n", "0").returncode == 2


def test_no_runs_yet(rechain) -> None:
    done = rechain("runs")
    assert (done.stdout, done.returncode) == ("", 0)
    assert done.stderr == "no runs yet; start one with: rechain run SCRIPT\n"
    assert not os.path.exists(".rechain")


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_runs_fits_a_terminal(train, run, columns) -> None:
    train("raise ValueError('a long text')")
    run("code/train.py", *(f"--option-{n}" for n in range(30)))
    train("", "手書き数字/train.py")
    run("手書き数字/train.py")
    plain = in_terminal("runs", columns=columns, NO_COLOR="1")
    from rechain.cli.shared import width

    assert all(width(line) <= columns for line in plain.splitlines()), plain
    assert len(plain.splitlines()) == 3


def test_a_long_outcome_is_cut(train, run, rechain) -> None:
    run("code/train.py", "first")
    train(f"class {'V' * 150}(Exception): pass\nraise {'V' * 150}")
    run("code/train.py", "second")
    longest, short = rechain("runs").stdout.splitlines()[1:]
    assert "VVV…  train.py second" in longest
    assert longest.index("train.py") == short.index("train.py")
    assert "V" * 150 in rechain("runs", "--json").stdout
    assert "V" * 150 in rechain("show").stdout
    assert short.endswith("first")
    assert len(short) < 120
    _, cut, _ = in_terminal("runs", columns=120, NO_COLOR="1").splitlines()
    assert "VVV…" in cut
    assert "train.py" in cut


def test_show(train, run, rechain, latest) -> None:
    train(MAKES)
    run("--env", "A=b", "--env", "API_KEY=hunter2", "--time-limit", "1h", "code/train.py", "x y")
    done = rechain("show")
    shown = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert shown["run"] == latest().id
    assert shown["status"] == "Completed"
    assert shown["command"] == "train.py 'x y'"
    assert shown["tag"] == "phase=1"
    assert shown["time"] == "limit   1 h"
    assert "A=b" in done.stdout
    assert "API_KEY (not recorded)" in done.stdout
    assert "hunter2" not in done.stdout


def test_show_says_which_image_a_run_in_a_fake_container_had(run, rechain, latest) -> None:
    run()
    assert "\nimage " not in rechain("show").stdout
    lock = f"{latest().folder}/lock.json"
    base = {"reference": "ubuntu:24.04", "id": f"sha256:{'2' * 64}", "digest": None}
    image = {"reference": "localhost/rechain:1", "id": f"sha256:{'1' * 64}", "base": base}
    known = jsonl.read(lock)
    jsonl.write_atomic(lock, {**known, "image": {**image, "engine": "podman 4.3.1"}})
    assert (
        "\nimage        localhost/rechain:1 (111111111111), built on ubuntu:24.04 "
        "(222222222222), podman 4.3.1\n"
    ) in rechain("show").stdout


def test_facts_of_git_are_shown_once(train, run, rechain) -> None:
    train("")
    subprocess.run(["git", "init", "-q", "-b", "trunk", "code"], check=True)
    run()
    said = rechain("show").stdout
    assert said.count("trunk") == 1
    assert "azureml.git.branch=trunk" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["env", "show", "6.7.0"], "Error: v1 documents no image of Chainer 6.7.0, only of "
                                   "5.1.0 and 7.0.0;"),
        (["target", "show", "local"], "Error: 'local' is this machine; it has no settings"),
        (["target", "show", "moon"], "Error: there is no compute target 'moon'"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown(rechain, home, arguments, says) -> None:
    done = rechain(*arguments)
    assert done.returncode == 1
    assert says in done.stderr


def test_show_a_failure(train, run, rechain) -> None:
    train("import sys; print('reading', file=sys.stderr)\nraise KeyError('labels')")
    run()
    said = rechain("show").stdout
    assert "cause        user error (exit 1, KeyError at train.py:2)\n" in said
    assert "\n             KeyError: 'labels'\n" in said
    assert "\n  | reading\n" in said


def test_show_for_programs(run, rechain, latest) -> None:
    run()
    said = json.loads(rechain("show", "--json").stdout)
    assert said.pop("folder") == latest().folder
    assert said.pop("cause") == "completed"
    assert said == latest().get_details()


def test_what_a_terminal_would_act_upon_is_escaped(train, run, rechain) -> None:
    train("raise ValueError('\\x1b[2J')")
    run("--tag", "a=\x1b[31mred\n", "code/train.py", "\x1b[2J")
    said = rechain("show").stdout + rechain("runs").stdout
    assert "\x1b" not in said
    assert "tag          a=\\x1b[31mred\\n\n" in said


@pytest.mark.parametrize("name", ["latest", "id", "last part", "beginning"])
def test_ways_to_name_a_run(run, rechain, latest, name) -> None:
    run()
    run_id = latest().id
    tail = run_id.rpartition("_")[2]
    given = {"latest": "latest", "id": run_id, "last part": tail, "beginning": tail[:4]}[name]
    assert rechain("show", given).stdout.split()[1] == run_id


def test_an_ambiguous_beginning(run, rechain) -> None:
    run()
    run()
    done = rechain("show", "code")
    assert done.returncode == 1
    assert re.match(
        r"Error: 'code' is the beginning of 2 runs: code_\S+, code_\S+; give", done.stderr
    )


@pytest.mark.parametrize("verb", ["show", "logs", "metrics", "files", "cancel", "rm"])
def test_a_run_that_is_not_there(rechain, run, verb) -> None:
    run()
    done = rechain(verb, "nope")
    assert done.returncode == 1
    assert re.fullmatch(
        r"Error: there is no run 'nope' in the workspace \S+; `rechain runs` lists those there "
        r"are\n",
        done.stderr,
    )


@pytest.mark.parametrize("verb", ["show", "logs", "metrics", "files"])
def test_no_run_yet(rechain, verb) -> None:
    done = rechain(verb)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: there is no run yet in the workspace ")


def test_logs(train, run, rechain) -> None:
    train(MAKES)
    run()
    done = rechain("logs")
    assert (done.stdout, done.stderr) == ("to out\n", "to err\n")


def test_logs_follow_an_ended_run(train, run, rechain) -> None:
    train(MAKES)
    run()
    done = rechain("logs", "-f")
    assert (done.stdout, done.stderr, done.returncode) == ("to out\n", "to err\n", 0)


def test_logs_follow_a_run_under_way(train, run, start, latest) -> None:
    train(
        "import os, time\nprint('a')\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('b')"
    )
    run("-d", "code/train.py")
    process = start("logs", "-f", "latest")
    assert process.stdout.readline() == "a\n"
    Path(latest().folder, "work", "go").touch()
    assert process.communicate(timeout=60)[0] == "b\n"


def test_logs_of_what_is_not_there(run, rechain) -> None:
    run()
    for arguments, message in (
        (["--rank", "4"], "the run has no rank 4, only 0"),
        (["--attempt", "2"], "the run has no attempt 2, only 1"),
        (["-f", "--rank", "4"], "the run has no rank 4, only 0"),
        (["-f", "--attempt", "1"], "--follow shows all attempts"),
        (["-f", "--prepare"], "--follow shows all attempts"),
    ):
        done = rechain("logs", *arguments)
        assert (done.returncode, done.stdout) == (2 if "follow" in message else 1, "")
        assert f"Error: {message}" in done.stderr


def test_metrics(train, run, rechain) -> None:
    train(MAKES)
    run()
    assert rechain("metrics").stdout == "loss  0.25  (3 values, 0.25 to 1)\nname  mlp\n"
    assert rechain("metrics", "latest", "loss").stdout == "1.0\n0.5\n0.25\n"
    told = json.loads(rechain("metrics", "--json").stdout)
    assert told == {"loss": [1.0, 0.5, 0.25], "name": "mlp"}
    done = rechain("metrics", "latest", "nope")
    assert done.returncode == 1
    assert "'nope' is no metric of code_" in done.stderr
    assert done.stderr.endswith("; there is: loss, name\n")


def test_files(train, run, rechain, latest) -> None:
    train(MAKES)
    run()
    lines = rechain("files").stdout.splitlines()
    assert lines[0].split() == ["log", "14", "B", "azureml-logs/70_driver_log.txt"]
    assert lines[1].split()[1:] == ["4", "B", "outputs/model.txt"]
    assert lines[-1] == f"in {latest().folder}"
    assert json.loads(rechain("files", "--json").stdout)[1]["name"] == "outputs/model.txt"


def test_files_are_copied(train, run, rechain) -> None:
    train(MAKES)
    run()
    rechain("files", "latest", "outputs/model.txt", "-o", "copy")
    assert Path("copy").read_text() == "made"
    log = "azureml-logs/70_driver_log.txt"
    done = rechain("files", "latest", "outputs/model.txt", log, "-o", "copy")
    assert done.returncode == 1
    assert "copy is no folder: several files need one" in done.stderr
    done = rechain("files", "latest", "nope")
    assert (done.returncode, "has no such file" in done.stderr) == (1, True)


def test_cancel(train, run, rechain, latest) -> None:
    train("import time; time.sleep(1000)")
    run("-d", "code/train.py")
    done = rechain("cancel", "latest")
    assert done.stdout == f"{latest().id}  canceled on request\n"
    assert rechain("cancel", "latest").stdout == (
        f"{latest().id}  canceled on request (had ended already)\n"
    )


def test_cancel_without_waiting(train, run, rechain, latest) -> None:
    train("import time; time.sleep(1000)")
    run("-d", "code/train.py")
    rechain("cancel", "--kill", "--no-wait", "latest")
    assert latest().wait_for_completion()["status"] == "Canceled"


def test_rm(run, rechain, latest) -> None:
    run()
    run_id = latest().id
    assert rechain("rm", "-y", "latest").stdout == f"deleted {run_id}\n"
    assert rechain("runs").stdout == ""


def test_rm_asks(run, rechain, latest) -> None:
    run()
    done = rechain("rm", "latest", stdin=None, input="n\n")
    assert done.returncode == 1
    assert "Aborted." in done.stderr
    assert latest().get_status() == "Completed"
    assert rechain("rm", "latest", stdin=None, input="y\n").returncode == 0


def test_rm_of_a_run_under_way(train, run, rechain, latest) -> None:
    train("import time; time.sleep(1000)")
    run("-d", "code/train.py")
    done = rechain("rm", "-y", "latest")
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {latest().id} has not ended: first end it with: rechain cancel {latest().id}\n"
    )
    rechain("cancel", "latest")


def test_rm_of_the_same_run_twice(run, rechain, latest) -> None:
    run()
    assert rechain("rm", "-y", "latest", latest().id).returncode == 0


def test_reindex(run, rechain) -> None:
    run()
    subprocess.run(["rm", "-r", ".rechain/index"], check=True)
    assert rechain("runs").stdout == ""
    assert rechain("reindex").stdout == "1 run\n"
    assert len(rechain("runs").stdout.splitlines()) == 2


def test_colors_in_a_terminal_only(train, run, rechain) -> None:
    run()
    assert "\x1b[32mcompleted" in in_terminal("runs")
    assert "\x1b" not in in_terminal("runs", NO_COLOR="1")
    assert "\x1b" not in in_terminal("runs", TERM="dumb")
    assert "\x1b" not in rechain("runs").stdout
    assert "\x1b[31muser error (exit 3)\x1b[0m after" in in_terminal(
        "run", "--user-managed", str(train("raise SystemExit(3)"))
    )


def test_a_last_line_without_its_end_is_not_glued_to_ours(train) -> None:
    said = in_terminal("run", "--user-managed", str(train("print('50 %', end='')")), NO_COLOR="1")
    assert "50 %\ncompleted after" in said


def test_a_reader_that_leaves_early(train, run) -> None:
    train("for n in range(100_000): print(n)")
    run("-q", "code/train.py")
    for verb in ("logs", "logs -f"):
        pipe = f"{COMMAND} {verb} | head -1"
        done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_help(rechain, verb) -> None:
    said = rechain(verb, "--help").stdout
    assert said.startswith(f"Usage: rechain {verb} [OPTIONS]")
    assert max(map(len, said.splitlines())) <= 80
    assert rechain(verb, "-h").stdout == said
    # Every option and every verb has a word of explanation.
    assert not re.search(r"^  (-[-\w, ]+)( [A-Z=\[\]]+)?$(?!\n {10})", said, re.MULTILINE)


def test_the_list_of_verbs(rechain) -> None:
    said = rechain("--help").stdout
    listed = re.findall(r"^  (\w+) {2,}\S", said.partition("Commands:")[2], re.MULTILINE)
    assert tuple(listed) == VERBS
    assert rechain().returncode == 2
    assert rechain("--version").stdout.startswith("rechain ")


def test_wrong_usage(rechain) -> None:
    done = rechain("runz")
    assert done.returncode == 2
    assert "No such command 'runz'. Did you mean 'run'?" in done.stderr
    assert "Did you mean" not in rechain("xyzzy").stderr
    assert rechain("data", "lss").stderr.count("Did you mean 'ls'?") == 1
    for verb in VERBS:
        done = rechain(verb, "--nope")
        assert done.returncode == 2
        assert "No such option" in done.stderr
    assert rechain("files", "--send", "latest", "x").returncode == 2
