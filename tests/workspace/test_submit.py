"""Submit as v1 users do, wait, and what a failed, canceled or slow run tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rechain import Chainer, Experiment, Run, ScriptRunConfig, Workspace
from rechain.exceptions import (
    ActivityFailedException,
    AzureMLException,
    ExperimentExecutionException,
    UserErrorException,
)
from rechain.testing import wait_for, wait_for_end
from tests.conftest import missing

pytestmark = pytest.mark.fast

UNTIL_TOLD = """
import os, time
print("first line", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
print("last line")
"""


def go(run: Run) -> None:
    Path(run.folder, "work", "go").touch()


def test_all_of_v1s_parameters(source: Path) -> None:
    (source / "train.py").write_text(
        "import os, sys; print(sys.argv[1:], os.environ['COLOR'], os.environ['DEPTH'])"
    )
    estimator = Chainer(
        source_directory=str(source),
        entry_script="train.py",
        script_params={"--epochs": 3, "--flag": "", "--sizes": [1, 2.5]},
        compute_target="local",
        environment_variables={"COLOR": "red", "DEPTH": 3},
        max_run_duration_seconds=60,
        use_docker=False,
        user_managed=True,
    )
    run = Experiment(Workspace.local(), "digits").submit(estimator, tags={"phase": "1"})
    run.wait_for_completion()
    assert run.get_status() == "Completed"
    out = Path(run.folder, "attempts/1/0.out").read_text()
    assert out == "['--epochs', '3', '--flag', '--sizes', '1', '2.5'] red 3\n"
    assert run.tags == {"phase": "1"}


def test_submit_returns_before_the_script_has_ended(submit) -> None:
    run = submit(UNTIL_TOLD)
    assert run.get_status() not in ("Completed", "Failed", "Canceled")
    go(run)
    assert run.wait_for_completion()["status"] == "Completed"


def test_output_is_shown_before_the_script_has_ended(submit, monkeypatch) -> None:
    run = submit(UNTIL_TOLD)
    shown: list[str] = []

    class Screen:
        def write(self, text: str) -> None:
            shown.append(text)
            if "first line" in text:
                go(run)  # without this the script never ends

        def flush(self) -> None:
            pass

    monkeypatch.setattr(sys, "stdout", Screen())
    run.wait_for_completion(show_output=True)
    assert "".join(shown).index("first line") < "".join(shown).index("last line")


def test_show_output_prints_both_streams_and_a_summary(submit, capsys) -> None:
    run = submit("import sys; print('to out'); print('to err', file=sys.stderr)")
    run.wait_for_completion(show_output=True)
    said = capsys.readouterr().out
    assert said.startswith(f"RunId: {run.id}\n")
    assert "to out\n" in said
    assert "to err\n" in said
    assert said.endswith(f"Execution Summary\nRunId: {run.id}\nStatus: completed\n\n")


def test_nothing_is_printed_unless_asked_for(submit, capsys) -> None:
    submit("print('x')").wait_for_completion()
    assert capsys.readouterr() == ("", "")


def test_a_failed_run_raises_with_cause_and_log(submit) -> None:
    run = submit("import sys\nprint('reading', file=sys.stderr)\nraise KeyError('labels')\n")
    with pytest.raises(ActivityFailedException) as failure:
        run.wait_for_completion()
    lines = failure.value.message.splitlines()
    assert lines[0] == "user error (exit 1, KeyError at train.py:3)"
    assert lines[1] == "reading"
    assert lines[-1] == "KeyError: 'labels'"


def test_a_failed_run_need_not_raise(submit) -> None:
    told = submit("raise SystemExit(3)").wait_for_completion(raise_on_error=False)
    assert told["status"] == "Failed"
    assert told["error"]["error"]["code"] == "UserError"
    assert told["error"]["error"]["message"] == "user error (exit 3)"


def test_a_time_limit(submit) -> None:
    run = submit("import time; time.sleep(100)", max_run_duration_seconds=0.2)
    with pytest.raises(ActivityFailedException, match=r"^time limit \(longer than 0.2 s\)"):
        run.wait_for_completion()


def test_a_canceled_run_does_not_raise(submit) -> None:
    run = submit(UNTIL_TOLD)
    run.cancel()
    assert run.get_status() in ("CancelRequested", "Canceled")
    assert run.wait_for_completion()["status"] == "Canceled"
    assert run.cause == "canceled on request"


def test_to_cancel_what_has_ended_changes_nothing(submit) -> None:
    run = submit.done()
    run.cancel()
    assert run.get_status() == "Completed"
    assert os.listdir(f"{run.folder}/requests") == []


def test_ctrl_c_while_waiting_detaches(submit) -> None:
    code = f"""
import sys
from rechain import Workspace
from rechain.exceptions import ExperimentExecutionException
run = Workspace.at({str(submit.experiment.workspace.path)!r}).get_run(sys.argv[1])
try:
    run.wait_for_completion(show_output=True)
except ExperimentExecutionException as error:
    sys.exit("detached: " + error.message)
"""
    run = submit(UNTIL_TOLD)
    waiter = subprocess.Popen(
        [sys.executable, "-c", code, run.id],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "first line" not in waiter.stdout.readline():
        pass
    waiter.send_signal(2)
    _, said = waiter.communicate(timeout=60)
    assert said.startswith(f"detached: interrupted while waiting; the run {run.id} goes on")
    assert run.get_status() == "Running"
    go(run)
    run.wait_for_completion()


def test_ctrl_c_while_submitting_starts_nothing_or_cancels(submit) -> None:
    """Whichever moment it comes at, no run is left that nobody knows of."""
    (submit.source / "train.py").write_text("import time; time.sleep(1000)")
    for number in range(40):  # enough to have an end of its own to hash while we interrupt
        (submit.source / f"data{number}").write_bytes(os.urandom(1 << 16))
    code = """
import sys
from rechain import Chainer, Experiment, Workspace
e = Chainer("code", entry_script="train.py", compute_target="local", user_managed=True)
print("now", flush=True)
sys.stdin.readline()
Experiment(Workspace.local(), "digits").submit(e)
sys.stdin.read()
"""
    for delay in range(0, 100, 10):
        submitter = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        submitter.stdout.readline()
        submitter.stdin.write(b"\n")
        submitter.stdin.flush()
        threading.Event().wait(delay / 1000)  # different moments, none of them expected
        submitter.send_signal(2)
        submitter.wait(60)
        submitter.stdin.close()
        submitter.stdout.close()
    folder = Path(".rechain/experiments/digits")
    runs = list(submit.experiment.get_runs())
    assert sorted(run.id for run in runs) == sorted(os.listdir(folder)) if runs else True
    for run in runs:
        if not os.listdir(f"{run.folder}/requests"):
            run.cancel()  # the signal came after submit() had returned
        assert run.wait_for_completion()["status"] == "Canceled"


def test_a_run_is_found_again_by_another_process(submit) -> None:
    run = submit.done("print('hello')")
    code = (
        "import sys; from rechain import Workspace, Run\n"
        "run = Run.get(Workspace.local(), sys.argv[1])\n"
        "print(run.get_status(), run.experiment.name, run.get_file_names())"
    )
    answer = subprocess.check_output([sys.executable, "-c", code, run.id], text=True)
    assert answer == "Completed digits ['azureml-logs/70_driver_log.txt']\n"


def test_a_run_outlives_a_submitter_that_dies_at_once(submit) -> None:
    submit.estimator("print('made it')")
    code = """
import os
from rechain import Chainer, Experiment, Workspace
e = Chainer("code", entry_script="train.py", compute_target="local", user_managed=True)
Experiment(Workspace.local(), "digits").submit(e)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    (run,) = submit.experiment.get_runs()
    assert run.wait_for_completion()["status"] == "Completed"
    assert submit.output(run) == "made it\n"


def test_a_submitter_killed_at_any_moment_leaves_no_half_run(submit) -> None:
    submit.estimator("print('made it')")
    code = """
from rechain import Chainer, Experiment, Workspace
e = Chainer("code", entry_script="train.py", compute_target="local", user_managed=True)
for _ in range(50):
    Experiment(Workspace.local(), "digits").submit(e)
"""
    for seconds in (0.15, 0.2, 0.25, 0.3):
        submitter = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        threading.Event().wait(seconds)
        submitter.kill()
        submitter.wait()
    for run in submit.experiment.get_runs():
        status = run.wait_for_completion(raise_on_error=False)["status"]
        assert status == "Completed" or "supervisor lost" in run.cause


def test_a_hundred_submits_from_threads(submit) -> None:
    estimator = submit.estimator("print('x')")
    with ThreadPoolExecutor(16) as pool:
        runs = list(pool.map(lambda _: submit.experiment.submit(estimator), range(100)))
    for run in runs:
        assert wait_for_end(run._paths, 120).status == "Completed"
    assert len({run.id for run in runs}) == 100
    assert {run.id for run in runs} == {run.id for run in submit.experiment.get_runs()}


def test_a_hundred_submits_from_processes_into_a_new_workspace(submit) -> None:
    submit.estimator("print('x')")
    code = """
from rechain import Chainer, Experiment, Workspace
for _ in range(10):
    e = Chainer("code", entry_script="train.py", compute_target="local", user_managed=True)
    print(Experiment(Workspace.local(), "digits").submit(e).id)
"""
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(10)]
    ids = [line for process in processes for line in process.communicate()[0].split()]
    assert len(set(ids)) == 100
    assert {run.id for run in submit.experiment.get_runs()} == set(ids)
    for run in submit.experiment.get_runs():
        assert wait_for_end(run._paths, 120).status == "Completed"


def test_more_runs_at_once_than_there_are_inotify_instances(submit) -> None:
    """inotify(7) gives a user 128 instances where nobody changed that; here there is none."""
    submit.estimator("print('x')")
    code = """
from rechain import Chainer, Experiment, Workspace
e = Chainer("code", entry_script="train.py", compute_target="local", user_managed=True)
run = Experiment(Workspace.local(), "digits").submit(e)
run.wait_for_completion(show_output=True)
run = Experiment(Workspace.local(), "digits").submit(e)
run.wait_for_completion()
"""
    limit = "/proc/sys/user/max_inotify_instances"
    shell = f'echo 0 > {limit} && [ "$(cat {limit})" = 0 ] || exit 99; exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", shell, sys.executable, code],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if done.returncode == 99 or "unshare:" in done.stderr:
        missing("user namespace of one's own")
    assert done.returncode == 0, done.stderr
    assert "\nx\n" in done.stdout
    assert [run.get_status() for run in submit.experiment.get_runs()] == ["Completed"] * 2


def test_a_submitter_with_its_standard_streams_closed(submit) -> None:
    """As a daemon has them: pipes then get their numbers."""
    submit.estimator("print('made it')")
    code = """
from rechain import Chainer, Experiment, Workspace
e = Chainer("code", entry_script="train.py", compute_target="local", user_managed=True)
Experiment(Workspace.local(), "digits").submit(e).wait_for_completion()
"""
    shell = '"$0" -c "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", shell, sys.executable, code]).returncode == 0
    (run,) = submit.experiment.get_runs()
    assert submit.output(run) == "made it\n"


SAY_ARGUMENTS = "import sys; print(sys.argv[1:])"


def test_script_params_at_submit_replace_those_of_their_name(submit) -> None:
    given = {"--a": 1, "--flag": "", "--b": [2, 3]}
    estimator = submit.estimator(SAY_ARGUMENTS, script_params=given)
    changed = submit.experiment.submit(
        estimator, tags={"phase": "2"}, script_params={"--a": 5, "--c": 9}
    )
    again = submit.experiment.submit(estimator)
    for run in (changed, again):
        run.wait_for_completion()
    assert submit.output(changed) == "['--a', '5', '--flag', '--b', '2', '3', '--c', '9']\n"
    assert changed.tags == {"phase": "2"}
    assert submit.output(again) == "['--a', '1', '--flag', '--b', '2', '3']\n"


def test_data_at_submit(submit) -> None:
    store = submit.experiment.workspace.get_default_datastore()
    for name in ("old", "other", "there"):
        os.makedirs(store.path(name).local_path)
    estimator = submit.estimator(
        "import os, sys\n"
        "names = 'old', 'new', 'workspaceblobstore'\n"
        "print([os.path.basename(os.environ['AZUREML_DATAREFERENCE_' + n]) for n in names])\n"
        "print(os.path.basename(sys.argv[1]))",
        script_params={"": store.path("old").as_mount()},
    )
    estimator.run_config.arguments = ["$AZUREML_DATAREFERENCE_new"]
    run = submit.experiment.submit(
        estimator,
        inputs=[
            store.path("other", data_reference_name="old").as_mount(),
            store.path("there", data_reference_name="new").as_mount(),
        ],
        source_directory_data_store=store,
    )
    run.wait_for_completion()
    assert submit.output(run) == "['other', 'there', 'workspaceblobstore']\nthere\n"


def test_the_datastore_of_the_source_by_its_name(submit) -> None:
    config = ScriptRunConfig(str(submit.source), script="train.py")
    config.run_config = submit.estimator("print('there')").run_config
    config.run_config.source_directory_data_store = "workspaceblobstore"
    run = submit.experiment.submit(config)
    run.wait_for_completion()
    assert submit.output(run) == "there\n"
    copy = json.loads(Path(run.folder, "job.json").read_text())["source"]["copy"]
    assert copy["store"]["name"] == "workspaceblobstore"
    store = submit.experiment.workspace.get_default_datastore()
    assert os.path.exists(store.path(copy["path"]).local_path)
    config.run_config.source_directory_data_store = "elsewhere"
    with pytest.raises(UserErrorException, match="elsewhere"):
        submit.experiment.submit(config)


def test_what_cannot_be_overridden_is_named(submit) -> None:
    estimator = submit.estimator()
    with pytest.raises(UserErrorException, match="node_count= cannot be overridden at submit"):
        submit.experiment.submit(estimator, node_count=2)
    with pytest.raises(UserErrorException, match=r"script_params is \[1\], a list"):
        submit.experiment.submit(estimator, script_params=[1])
    with pytest.raises(UserErrorException, match=r"inputs has 'x', a str"):
        submit.experiment.submit(estimator, inputs=["x"])
    estimator.run_config.arguments = ["--a", 1]
    with pytest.raises(UserErrorException, match=r"run_config\.arguments was changed too"):
        submit.experiment.submit(estimator, script_params={"--a": 2})
    config = ScriptRunConfig(str(submit.source), script="train.py")
    with pytest.raises(UserErrorException, match="only an estimator takes overrides"):
        submit.experiment.submit(config, inputs=[])
    assert list(submit.experiment.get_runs()) == []


def test_what_cannot_be_submitted_is_named(submit) -> None:
    with pytest.raises(AzureMLException, match="42 is a int; what can be submitted is"):
        submit.experiment.submit(42)


def test_the_exceptions_are_siblings() -> None:
    """Code that catches a failed run does not catch an interrupted wait."""
    assert not issubclass(ActivityFailedException, ExperimentExecutionException)
    assert not issubclass(ExperimentExecutionException, ActivityFailedException)


def test_submission_json_holds_the_plan(submit) -> None:
    run = submit.done("", environment_variables={"A": "b"})
    plan = json.loads(wait_for(Path(run.folder, "submission.json").read_text, "it is written"))
    assert plan["target"] == "local"
    assert plan["command"] == ["python", "train.py"]
    assert plan["environment"] == {"A": "b"}
    assert plan["argv"][-1] == run.folder
