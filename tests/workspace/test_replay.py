"""Runs once more: what is the same, what is not, and which of what went in has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rechain import AmlCompute, ComputeTarget, Run, Secret, Workspace
from rechain.cli.diff import in_words
from rechain.exceptions import ComputeTargetException, UserErrorException
from rechain.record import jsonl
from rechain.record.paths import RunPaths

pytestmark = pytest.mark.fast

# It trains nothing, but its result depends on all that a training's does.
SCRIPT = """
import json, os, random, sys, time
sys.path.insert(0, "code")
import part
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
random.seed(int(given.get("--seed", 0)))
value = random.random() + part.ADDED + float(os.environ.get("OMP_NUM_THREADS", 0))
if "--data" in given:
    value += float(open(given["--data"]).read())
os.makedirs("result", exist_ok=True)
with open("result/log", "w") as file:
    row = {"epoch": 1, "iteration": 1, "main/loss": value, "elapsed_time": time.time()}
    json.dump([row], file)
with open("outputs/text", "w") as file:
    file.write(str(value))
"""


@pytest.fixture
def first(submit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that makes the first run."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (submit.source / "part.py").write_text("ADDED = 0")

    def make(*arguments: str, **parameters: object) -> Run:
        given = dict(zip(arguments[::2], arguments[1::2], strict=True))
        run: Run = submit.done(SCRIPT, script_params=given, **parameters)
        assert run.get_status() == "Completed", Path(run.folder, "attempts/1/0.err").read_text()
        return run

    return make


def again(run: Run, **variables: str) -> Run:
    second = run.replay(variables)
    second.wait_for_completion()
    return second


def test_a_replay_is_a_new_run_with_the_same_result(submit, first) -> None:
    run = first("--seed", "3", tags={"phase": "1"})
    shutil.rmtree(submit.source)  # the snapshot is what counts
    second = again(run)
    assert second.id != run.id
    assert jsonl.read(RunPaths(second.folder).job)["replayed"] == run.id
    assert second.tags == {"phase": "1"}
    found = run.differences(second)
    assert found == {"same": True, "compared": 2, "outputs": [], "changes": []}


def test_a_changed_seed_is_found(submit, first) -> None:
    found = first("--seed", "3").differences(first("--seed", "4"))
    assert not found["same"]
    assert [row["file"] for row in found["outputs"]] == ["outputs/text", "result/log", "metrics"]
    assert "[0].main/loss: " in found["outputs"][1]["text"]
    whats = {row["what"]: row["text"] for row in found["changes"]}
    assert whats["seed"] == "--seed: 3 and 4"
    assert set(whats) == {"seed", "arguments"}


def test_what_went_in_is_said_first_and_many_places_are_cut(first) -> None:
    one, other = first("--seed", "3"), first("--seed", "4")
    command = [sys.executable, "-m", "rechain", "diff", one.id, other.id]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    assert said.index("what went in") < said.index("--seed: 3 and 4") < said.index("what came out")
    usage = subprocess.run(command[:4], capture_output=True, text=True).stderr
    assert "diff [OPTIONS] RUN OTHER" in usage

    rows = [{"file": "a.npz", "text": f"l{n}/W: differs"} for n in range(8)]
    found = {"same": False, "compared": 9, "changes": [], "outputs": rows}
    lines = in_words(found, one, other)[3:]
    assert len(lines) == 5
    assert lines[-1] == "  a.npz: l4/W: differs, and 3 more"
    rows += [{"file": name, "text": text} for name in "bcd" for text in ("x", "... 9 in all")]
    assert in_words(found, one, other)[3:] == [
        "  a.npz: l0/W: differs, and 7 more", "  b: x, ... 9 in all", "  c: x, ... 9 in all",
        "  d: x, ... 9 in all",
    ]  # fmt: skip


def test_a_changed_number_of_threads_is_found(first) -> None:
    run = first()
    second = again(run, OMP_NUM_THREADS="3")
    found = run.differences(second)
    assert not found["same"]
    texts = {row["text"] for row in found["changes"] if row["what"] == "threads"}
    assert "OMP_NUM_THREADS: not there and 3" in texts
    assert {row["what"] for row in found["changes"]} == {"threads"}
    assert any("OMP_NUM_THREADS has another value" in note for note in second._job["notes"])
    # And it stays with what it was, whatever the caller has.
    assert second.differences(again(second))["same"]


def test_what_changes_results_is_as_it_was_whatever_the_caller_has(first, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    run = first()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert run.differences(again(run))["same"]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert run.differences(again(run))["same"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_changed_data_file_is_found(first, tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "data" / "numbers"
    path.parent.mkdir()
    path.write_text("1.5")
    more = ("--root", str(path.parent)) if folder else ()
    run = first("--data", str(path), *more)
    assert run.differences(again(run))["same"]
    path.write_text("2.5")
    found = run.differences(again(run))
    assert not found["same"]
    assert {row["what"] for row in found["changes"]} == {"data"}
    assert found["changes"][-1]["text"] == f"{path} changed"
    path.unlink()
    with pytest.raises(UserErrorException, match=r"numbers.*put it back"):
        run.replay()


def test_a_changed_input_is_found_and_outputs_are_kept_in_a_datastore_too(submit) -> None:
    store = Workspace.local().get_default_datastore()
    Path("digits").mkdir()
    Path("digits/a").write_text("1")
    store.upload("digits", "digits", show_progress=False)
    given = [store.path("digits").as_download("in"), store.path("kept").as_upload("outputs")]
    script = "open('outputs/b', 'w').write(open('in/a').read())"
    run = submit.done(script, inputs=given)
    assert run.get_status() == "Completed", Path(run.folder, "attempts/1/0.err").read_text()
    assert Path(store.folder, "kept/b").read_text() == "1"
    assert Path(run.folder, "outputs/b").read_text() == "1"
    Path("digits/a").write_text("2")
    store.upload("digits", "digits", overwrite=True, show_progress=False)
    second = run.replay()
    second.wait_for_completion(raise_on_error=False)
    found = run.differences(second)
    assert "outputs/b" in {row["file"] for row in found["outputs"]}
    assert [row["what"] for row in found["changes"]] == ["data"]
    assert found["changes"][0]["text"].endswith("changed: a changed")


def test_inputs_are_compared_by_what_was_recorded_when_they_were_brought(first) -> None:
    run, second = first(), first()

    def record(of: Run, version: str, digest: str | None) -> None:
        files = [["a", 3, "1", digest and "same"], ["b", 3, version, digest]]
        entry = {"name": "digits", "version": version, "digest": digest, "files": files}
        jsonl.write_atomic(f"{of.folder}/inputs.json", {"schema": 1, "inputs": [entry]})

    record(run, "1", "x")
    record(second, "2", "x")  # fetched again, and the same
    assert run.differences(second)["changes"] == []
    for version, digest in (("2", "y"), ("2", None)):
        record(run, "1", digest and "x")
        record(second, version, digest)
        (found,) = run.differences(second)["changes"]
        assert found == {"what": "data", "text": "the input digits changed: b changed"}
    os.unlink(f"{second.folder}/inputs.json")
    (found,) = run.differences(second)["changes"]
    assert found["text"] == "the input digits removed"


def test_changed_code_is_found(submit, first) -> None:
    run = first()
    (submit.source / "part.py").write_text("ADDED = 1")
    (submit.source / "new.py").write_text("")
    found = run.differences(first())
    assert [(row["what"], row["text"]) for row in found["changes"]] == [
        ("code", "new.py added"), ("code", "part.py changed"),
    ]  # fmt: skip


def test_files_that_only_one_made_and_another_end(submit, tmp_path: Path) -> None:
    script = f"import os, pathlib\nif os.path.exists({str(tmp_path / 'flag')!r}):\n"
    run = submit.done(script + "    pathlib.Path('a').touch(); raise SystemExit(3)")
    (tmp_path / "flag").touch()
    second = run.replay()
    second.wait_for_completion(raise_on_error=False)
    found = run.differences(second)["outputs"]
    assert [(row["file"], row["text"]) for row in found] == [
        ("a", f"only in {second.id}"), ("end", "completed and user_error"),
    ]  # fmt: skip


def test_secrets_must_be_there_again_and_are_written_nowhere(submit, monkeypatch) -> None:
    script = "import os; print(len(os.environ['MY_TOKEN']))"
    run = submit.done(script, environment_variables={"MY_TOKEN": Secret("abcdef")})
    with pytest.raises(UserErrorException, match="secret variables MY_TOKEN"):
        run.replay()
    monkeypatch.setenv("MY_TOKEN", "hush-hush")
    second = again(run)
    assert Path(second.folder, "attempts/1/0.out").read_text() == "9\n"
    for path in Path(second.folder).rglob("*"):
        assert not path.is_file() or b"hush-hush" not in path.read_bytes()


IMAGE = {
    "schema": 1, "id": f"sha256:{'1' * 64}", "reference": "localhost/rechain:1",
    "engine": "podman 4.3.1", "mpi": None, "asked": "lab:1",
    "base": {"reference": "localhost/lab:1", "id": f"sha256:{'2' * 64}", "digest": None},
}  # fmt: skip


def in_a_fake_container(run: Run, image: dict[str, object]) -> None:
    """Let a run's record say that it ran in a container: no engine is needed."""
    paths = RunPaths(run.folder)
    job, lock = jsonl.read(paths.job), jsonl.read(paths.lock)
    job["environment"]["image"] = {"reference": "localhost/lab:1", "built": False, "pull": True}
    job["container"] = {"shm_size": "2g", "arguments": [], "mounts": []}
    jsonl.write_atomic(paths.job, job)
    jsonl.write_atomic(paths.lock, {**lock, "image": image})


def test_a_run_in_a_fake_container_is_never_replayed_without_one(first, monkeypatch) -> None:
    run = first()
    in_a_fake_container(run, IMAGE)
    run = Workspace.local().get_run(run.id)
    monkeypatch.setenv("PATH", "/nowhere")  # where no engine is
    second = run.replay()
    second.wait_for_completion(raise_on_error=False)
    end = second._state().end
    assert end is not None
    assert end["cause"] == "environment"
    assert "no container engine" in end["message"]
    image = second._job["environment"]["image"]
    assert image["pinned"] == IMAGE
    assert not image["pull"]


def test_that_runs_had_other_fake_containers_is_found(first) -> None:
    run, other = first(), first()
    in_a_fake_container(other, IMAGE)
    found = run.differences(other)["changes"]
    assert found == [
        {"what": "container", "text": "image: none and localhost/lab:1 (222222222222)"}
    ]
    base = {**IMAGE["base"], "id": f"sha256:{'3' * 64}"}
    in_a_fake_container(run, {**IMAGE, "base": base, "engine": "docker 28.2.2"})
    assert [row["text"] for row in run.differences(other)["changes"]] == [
        "image: localhost/lab:1 (333333333333) and localhost/lab:1 (222222222222)",
        "engine: docker 28.2.2 and podman 4.3.1",
    ]
    in_a_fake_container(run, {**IMAGE, "id": f"sha256:{'4' * 64}"})  # only built anew
    assert run.differences(other)["changes"] == []


def test_what_rechain_did_not_start_is_not_replayed(submit) -> None:
    with submit.experiment.start_logging(snapshot_directory=None) as run:
        pass
    interactive = Workspace.local().get_run(run.id)
    with pytest.raises(UserErrorException, match="did not start"):
        interactive.replay()


def test_a_run_that_goes_on_from_another_is_replayed_when_that_one_is_gone(submit) -> None:
    from tests.supervisor.test_resume import RESUME, save

    old = submit.done("")
    save(Path(old.folder, "work/result/snapshot_iter_200"), 200)
    script = RESUME + "import os; os.rename('result/snapshot_iter_200', 'taken')\n"
    run = submit.done(script, resume_from=old)
    old.delete()
    second = again(run)
    assert run.differences(second)["same"]
    assert Path(second.folder, "work/taken").exists()


def test_texts_and_logs_that_the_script_wrote_are_compared(submit) -> None:
    names = ["outputs/score.txt", "outputs/own.log", "logs/more.txt", "pred.out"]
    one, other = (
        submit.done(f"for name in {names}: open(name, 'w').write({value!r})") for value in "ab"
    )
    found = one.differences(other)
    assert found["compared"] == len(names)
    assert [row["file"] for row in found["outputs"]] == sorted(names)
    assert found["outputs"][0]["text"] == "line 1: 'a' and 'b'"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", ["nothing to compare: "]),
        ("raise SystemExit(3)", ["nothing to compare: ", "neither got to its end: user error"]),
    ],
)
def test_runs_that_made_nothing_are_not_called_the_same(submit, script: str, said) -> None:
    runs = [submit.done(script).id for _ in range(2)]
    command = [sys.executable, "-m", "rechain", "diff", *runs]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(said)
    for line, begins in zip(lines, said, strict=True):
        assert line.startswith(begins)


def test_a_running_run_is_not_compared(submit, tmp_path: Path) -> None:
    script = (
        f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)"
    )
    done, running = submit.done(""), submit(script)
    with pytest.raises(UserErrorException, match="has not ended"):
        done.differences(running)
    command = [sys.executable, "-m", "rechain", "replay", "--verify", running.id]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 125
    assert "has not ended" in said.stderr
    assert len(list(Workspace.local().get_runs())) == 2  # it was not started
    (tmp_path / "go").touch()
    running.wait_for_completion()


def test_a_replay_on_a_full_disk_says_so_and_leaves_no_run(first, small_disk: Path) -> None:
    run = first()
    os.environ["RECHAIN_HOME"] = str(small_disk / "w")
    try:
        shutil.copytree(Path(run.folder).parents[2], small_disk / "w")
        there = Workspace.local().get_run(run.id)
        with open(small_disk / "fill", "wb") as file:
            try:
                while file.write(bytes(1 << 16)):
                    file.flush()
            except OSError:
                pass
        command = [sys.executable, "-m", "rechain", "replay", there.id]
        said = subprocess.run(command, capture_output=True, text=True)
        assert said.returncode == 125, said
        assert "No space left on device" in said.stderr
        assert [one.id for one in Workspace.local().get_runs()] == [run.id]
    finally:
        del os.environ["RECHAIN_HOME"]


def test_a_replay_on_another_target(first, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(tmp_path / "queue"))
    config = AmlCompute.provisioning_configuration(vm_size="STANDARD_D1_V2", max_nodes=1)
    ComputeTarget.create(Workspace.local(), "small", config)
    run = first()
    with pytest.raises(ComputeTargetException, match="nowhere"):
        run.replay(target="nowhere")
    there = run.replay(target="small")
    there.wait_for_completion()
    job = jsonl.read(RunPaths(there.folder).job)
    assert (job["target"], job["pool"]["name"]) == ("small", "small")
    assert "on small, and not on local" in job["notes"]
    back = there.replay(target="local")
    back.wait_for_completion()
    job = jsonl.read(RunPaths(back.folder).job)
    assert (job["target"], job["pool"], job["slurm"]) == ("local", None, None)
