"""Outputs reach their datastore while the script runs, and whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rechain import Workspace
from rechain.data import Dataset, Datastore, OutputFileDatasetConfig
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.supervisor.tree import descendants
from rechain.testing import wait_for

pytestmark = pytest.mark.fast

LONG = 60.0  # seconds


@pytest.fixture
def store(home) -> Datastore:
    return Workspace.local().get_default_datastore()


# Writes a snapshot, waits until its copy is there, writes more, and then does what is asked.
SCRIPT = """
import os, sys, time
place, copies = sys.argv[1:3]
def write(name, text):
    with open(os.path.join(place, name + "~"), "w") as file:
        file.write(text)
    os.rename(os.path.join(place, name + "~"), os.path.join(place, name))
def wait_for(path, text):
    while not os.path.exists(path) or open(path).read() != text:
        time.sleep(0.02)
write("snapshot", "first")
wait_for(os.path.join(copies, "snapshot"), "first")
write("snapshot", "second")
wait_for(os.path.join(copies, "snapshot"), "second")
write("last", "words")
print("up", flush=True)
"""


def is_up(run) -> bool:
    out = Path(run.folder, "attempts/1/0.out")
    return out.exists() and "up\n" in out.read_text()


def sent(store: Datastore, name: str = "kept") -> dict[str, str]:
    folder = Path(store.local_path(name))
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def arguments(store: Datastore, path: str = "kept") -> dict[str, list[object]]:
    return {"": [store.path(path).as_upload("outputs"), store.local_path(path)]}


ALL = {"last": "words", "snapshot": "second"}


def test_outputs_are_there_while_the_script_runs(submit, store) -> None:
    run = submit.done(SCRIPT, script_params=arguments(store))
    assert run.status == "Completed", run.cause
    assert sent(store) == ALL


def test_what_was_there_before_stays_and_what_is_the_runs_own_is_replaced(submit, store) -> None:
    kept = Path(store.local_path("kept"))
    kept.mkdir(parents=True)
    (kept / "last").write_text("of another run")
    run = submit.done(SCRIPT, script_params=arguments(store))
    assert run.status == "Completed", run.cause
    assert sent(store) == {**ALL, "last": "of another run"}


def test_a_script_that_fails(submit, store) -> None:
    run = submit.done(SCRIPT + "raise ValueError('x')", script_params=arguments(store))
    assert run.cause.startswith("user error (exit 1, ValueError")
    assert sent(store) == ALL


def test_the_time_limit(submit, store) -> None:
    script = "import time\nopen('outputs/a', 'w').write('b')\nprint('up', flush=True)\n"
    run = submit.done(
        script + "time.sleep(600)", script_params=arguments(store), max_run_duration_seconds=5
    )
    assert run.cause.startswith("time limit")
    assert sent(store) == {"a": "b"}


def test_a_run_that_is_canceled(submit, store) -> None:
    """What it wrote on being asked to end goes, too."""
    script = """
import signal, time
def on_term(*_):
    with open("outputs/on_term", "w") as file:
        file.write("saved")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, on_term)
print("up", flush=True)
time.sleep(600)
"""
    run = submit(script, script_params=arguments(store))
    wait_for(lambda: is_up(run), "the script", LONG)
    run.cancel()
    run.wait_for_completion(raise_on_error=False)
    assert run.status == "Canceled"
    assert sent(store) == {"on_term": "saved"}


def is_mirror(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"mirror" in words


def killed(submit, store, *who: str):
    """Submit a run, kill what sends as it goes on, let it write more, and kill the others."""
    script = SCRIPT + "wait_for('go', '')\nwrite('more', 'words')\nprint('more', flush=True)\n"
    run = submit(script + "time.sleep(600)", script_params=arguments(store))
    wait_for(lambda: is_up(run), "the script", LONG)
    attempt = fold(RunPaths(run.folder)).last.attempt
    mirrors = [pid for pid in descendants(attempt["supervisor"]["pid"]) if is_mirror(pid)]
    assert len(mirrors) == 1
    os.kill(mirrors[0], signal.SIGKILL)
    wait_for(lambda: not is_mirror(mirrors[0]), "its end", LONG)
    Path(run.folder, "work", "go").touch()
    wait_for(lambda: "more" in submit.output(run), "the script", LONG)
    assert "more" not in sent(store)
    for name in who:  # none of them acts on the death of the other before both are gone
        os.kill(attempt[name]["pid"], signal.SIGSTOP)
    for name in who:
        os.kill(attempt[name]["pid"], signal.SIGKILL)
    run.wait_for_completion(raise_on_error=False)
    assert run.status == "Failed"
    wait_for(lambda: sent(store) == {**ALL, "more": "words"}, "what was not sent yet", LONG)


@pytest.mark.parametrize("who", [["supervisor"], ["guard"], ["guard", "supervisor"]])
def test_guard_or_supervisor_is_killed(submit, store, who) -> None:
    killed(submit, store, *who)


def test_what_a_killed_run_left_unsent_is_shown_and_can_be_sent(submit, store) -> None:
    def rechain(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "rechain", *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    script = SCRIPT + "wait_for('go', '')\nwrite('more', 'words')\nprint('more', flush=True)\n"
    run = submit(script + "time.sleep(600)", script_params=arguments(store))
    wait_for(lambda: is_up(run), "the script", LONG)
    wait_for(lambda: sent(store) == ALL, "what it has written so far", LONG)
    assert "has not ended" in rechain("files", "--send", run.id, code=1)
    supervisor = fold(RunPaths(run.folder)).last.attempt["supervisor"]["pid"]
    (mirror,) = [pid for pid in descendants(supervisor) if is_mirror(pid)]
    os.kill(mirror, signal.SIGKILL)
    wait_for(lambda: not is_mirror(mirror), "its end", LONG)
    Path(run.folder, "work", "go").touch()
    wait_for(lambda: "more" in submit.output(run), "the script", LONG)
    rechain("cancel", "--kill", run.id)
    assert f"1 file in work/outputs not sent: rechain files --send {run.id}" in rechain("show")
    assert "more" not in sent(store)
    assert "all outputs" in rechain("files", "--send")
    assert sent(store) == {**ALL, "more": "words"}
    assert "not sent: rechain" not in rechain("show")


def test_an_output_to_a_web_server_is_refused_before_there_is_a_run(submit, store) -> None:
    web = Datastore.register(Workspace.local(), "web", "http://127.0.0.1:9/x")
    for output in (OutputFileDatasetConfig("o", (web, "o")), web.path("o").as_upload("outputs")):
        with pytest.raises(UserErrorException, match="is a web server, and read only"):
            submit("", script_params={"": [output]})
    assert list(submit.experiment.get_runs()) == []


def test_a_second_attempt_sends_what_is_new_only(submit, store) -> None:
    """What the first has sent is known by what it was, not by what is in the store."""
    run = submit.done(SCRIPT, script_params=arguments(store))
    noted = jsonl.read(f"{run.folder}/sent.json")["sent"]
    [files] = noted.values()
    assert {"snapshot", "last"} <= files.keys()
    found = os.stat(f"{run.folder}/outputs/last")
    assert files["last"] == [found.st_size, found.st_mtime_ns]


@pytest.mark.parametrize("way", ["as_mount", "as_upload"])
def test_an_output_is_registered_when_the_run_completes(submit, store, way) -> None:
    out = getattr(OutputFileDatasetConfig("o", (store, "o/{run-id}")), way)()
    out = out.register_on_complete("models", "of digits", {"by": "me"})
    script = """
        import os, sys
        open(os.path.join(sys.argv[1], "model.npz"), "w").write(sys.argv[2])
        sys.exit(sys.argv[2] == "fails")
    """
    for word in ("one", "fails", "two"):
        run = submit.done(script, script_params={"": [out, word]})
        assert (run.status == "Completed") == (word != "fails"), run.cause
    data = Dataset.get_by_name(Workspace.local(), "models")
    assert (data.version, data.description, data.tags) == (2, "of digits", {"by": "me"})
    assert Path(data.download()[0]).read_text() == "two"
    first = Dataset.get_by_name(Workspace.local(), "models", version=1)
    assert Path(first.download()[0]).read_text() == "one"
    assert "the output o is the dataset models, version 2" in fold(RunPaths(run.folder)).last.notes
    with pytest.raises(UserErrorException, match="has no version '3'"):
        Dataset.get_by_name(Workspace.local(), "models", version=3)
    again = submit.done(
        "import sys; print(open(sys.argv[1] + '/model.npz').read())",
        script_params={"": [data.as_named_input("m").as_mount()]},
    )
    assert submit.output(again) == "two\n"
