"""Bad input: one clear error that names what is wrong, and nothing half-done is left."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rechain import Chainer, Experiment, Workspace
from rechain.compute.target import StartError
from rechain.exceptions import AzureMLException, NotBuiltError, SnapshotException
from rechain.job.variables import Secret
from rechain.workspace.submit import prepare

pytestmark = pytest.mark.fast


def left(root: str = ".rechain") -> list[str]:
    """Return what is in a workspace beside its own folders and the store's contents."""
    own = {"experiments", "index", "store", "workspace.json", ".gitignore"}
    found = []
    for folder, folders, names in os.walk(root):
        inside = os.path.relpath(folder, root)
        if inside.startswith("store"):
            found += [name for name in names if name.endswith(".tmp")]
        elif inside == ".":
            found += [name for name in folders + names if name not in own]
        elif inside != "experiments":  # an experiment may be left, without a run
            found += folders + names
    return found


BAD = {
    "no folder": ({"source_directory": "nope"}, "source_directory is '.*nope', which is not a f"),
    "a file as folder": ({"source_directory": "code/train.py"}, "which is not a folder"),
    "no script": ({"entry_script": "nope.py"}, "entry_script is 'nope.py', and there is no such"),
    "script missing": ({"entry_script": None}, "entry_script is missing"),
    "script outside": ({"entry_script": "../x.py"}, "'../x.py', which is not inside source_dir"),
    "script elsewhere": ({"entry_script": "/bin/ls"}, "'/bin/ls', which is not inside"),
    "script is a folder": ({"entry_script": "sub"}, "entry_script is 'sub', and there is no such"),
    "version": (
        {"framework_version": "9.9", "user_managed": False},
        "framework_version is '9.9'; Rechain knows Chainer .*7.0.0",
    ),
    "version type": (
        {"framework_version": 7, "user_managed": False},
        "framework_version is 7; .* Give it as a str",
    ),
    "target": ({"compute_target": "moon"}, "there is no compute target 'moon'"),
    "no target": ({"compute_target": None}, "compute_target is missing"),
    "empty name": ({"environment_variables": {"": "x"}}, "the name ''"),
    "equals": ({"environment_variables": {"A=B": "x"}}, "the name 'A=B'"),
    "nul": ({"environment_variables": {"A": "x\0"}}, r"environment_variables\['A'\] has a NUL"),
    "ours": (
        {"environment_variables": {"RECHAIN_X": "x"}},
        "environment_variables sets RECHAIN_X",
    ),
    "value": ({"environment_variables": {"A": []}}, r"environment_variables\['A'\] is a list"),
    "params nul": ({"script_params": {"--a": "x\0"}}, r"script_params\['--a'\] has a NUL"),
    "params bytes": ({"script_params": {"--a": b"x"}}, r"script_params\['--a'\] is b'x'"),
    "params dict": ({"script_params": {"--a": {"b": 1}}}, r"script_params\['--a'\] is the dict"),
    "params secret": ({"script_params": {"--a": Secret("s")}}, r"script_params\['--a'\] is a Sec"),
    "zero time": ({"max_run_duration_seconds": 0}, "max_run_duration_seconds is 0; it must be m"),
    "nan time": ({"max_run_duration_seconds": float("nan")}, "max_run_duration_seconds is nan"),
    "packages": ({"pip_packages": ["numpy"]}, "user_managed=True means that nothing is installed"),
    "tags": ({"tags": "x"}, "tags='x': tags are a dict"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_error_and_nothing_left(submit, case) -> None:
    submit.estimator()
    (submit.source / "sub").mkdir()
    parameters, says = BAD[case]
    with pytest.raises(AzureMLException, match=says) as error:
        _submit(submit, **parameters)
    assert "\n" not in error.value.message
    assert not os.path.exists(".rechain")


def _submit(submit, tags: Any = None, **parameters: Any) -> None:
    given = {
        "source_directory": "code",
        "entry_script": "train.py",
        "compute_target": "local",
        "user_managed": True,
        **parameters,
    }
    submit.experiment.submit(Chainer(**given), tags=tags)


TEXTS = (
    "source_directory", "vm_size", "vm_priority", "entry_script", "distributed_backend",
    "custom_docker_base_image", "custom_docker_image", "conda_dependencies_file_path",
    "pip_requirements_file_path", "conda_dependencies_file", "pip_requirements_file", "shm_size",
    "compute_target", "framework_version",
)  # fmt: skip
LISTS = ("conda_packages", "pip_packages", "inputs")
DICTS = ("script_params", "environment_variables")
COUNTS = ("node_count", "process_count_per_node")
FLAGS = ("use_gpu", "use_docker", "user_managed", "_enable_optimized_mode", "_disable_validation")
WRONG: list[tuple[str, Any]] = [
    *((name, value) for name in TEXTS for value in (3, ["x"], b"x", object())),
    *((name, value) for name in LISTS for value in ("x", 3, {"a": 1})),
    *((name, value) for name in DICTS for value in ("x", 3, ["--a", 1])),
    *((name, value) for name in COUNTS for value in ("2", 1.5, None, True)),
    *((name, value) for name in FLAGS for value in ("yes", 2, [])),
    *(("max_run_duration_seconds", value) for value in ("60", True, [1])),
    *((name, [3]) for name in ("conda_packages", "pip_packages")),
    ("distributed_training", "mpi"),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: repr(value)[:12])
def test_a_value_of_the_wrong_type_is_named(submit, name, value) -> None:
    submit.estimator()
    with pytest.raises(AzureMLException, match=name.removesuffix("_path")) as error:
        _submit(submit, **{"user_managed": False, name: value})
    assert not isinstance(error.value, NotBuiltError)
    assert not os.path.exists(".rechain")


# Hostile but possible names.

NASTY = [
    "a b", " ", "quo'te\"", "new\nline", "-dash", "--help", "ü手書き✓", "$HOME", "`x`", "*", "\\",
    "%s", "\x1b[31m", "x" * 200, "{0}", "\udcff",
]  # fmt: skip


@pytest.mark.parametrize("name", NASTY, ids=lambda name: ascii(name)[:12])
def test_hostile_folder_and_script(home, name) -> None:
    folder = home / f"{name}"
    folder.mkdir()
    (folder / f"{name}.py").write_text("import sys; print(ascii(sys.argv[0]))")
    estimator = Chainer(
        str(folder), entry_script=f"{name}.py", compute_target="local", user_managed=True
    )
    run = Experiment(Workspace.local(), "nasty").submit(estimator)
    run.wait_for_completion()
    out = Path(run.folder, "attempts/1/0.out").read_text()
    assert out.strip() in (ascii(f"{name}.py"), ascii(f"./{name}.py"))
    assert run.get_file_names() == ["azureml-logs/70_driver_log.txt"]
    assert run.get_details()["runDefinition"]["script"].endswith(f"{name}.py")


@pytest.mark.parametrize("name", NASTY, ids=lambda name: ascii(name)[:12])
def test_hostile_arguments_variables_and_tags(submit, name) -> None:
    run = submit.done(
        "import os, sys; print(ascii(sys.argv[1:])); print(ascii(os.environ[sys.argv[1]]))",
        script_params={"": [name, "-x"]},
        environment_variables={name: name},
        tags={name: name},
    )
    assert submit.output(run) == f"{[name, '-x']!a}\n{name!a}\n"
    assert run.tags == {name: name}
    assert Workspace.local().get_run(run.id).get_details()["tags"] == {name: name}


def test_a_hundred_kilobytes_of_argument(submit) -> None:
    run = submit.done("import sys; print(len(sys.argv[1]))", script_params={"": "x" * 100_000})
    assert submit.output(run) == "100000\n"


def test_an_argument_that_the_system_refuses(submit) -> None:
    """exec(2) takes 128 KiB for one argument."""
    run = submit.done("", script_params={"": "x" * 200_000})
    assert run.get_status() == "Failed"
    assert "Argument list too long" in run.cause


# Too large, and no room.


def test_a_folder_that_is_too_large(submit, monkeypatch) -> None:
    monkeypatch.setenv("RECHAIN_SNAPSHOT_MAX_MB", "0.1")
    estimator = submit.estimator()
    (submit.source / "data.bin").write_bytes(bytes(200_000))
    with pytest.raises(SnapshotException, match="too large for a snapshot: 195 KiB in 2") as error:
        submit.experiment.submit(estimator)
    assert "data.bin" in error.value.message
    assert "RECHAIN_SNAPSHOT_MAX_MB" in error.value.message
    assert left() == []


def test_a_file_that_cannot_be_stored_because_the_disk_is_full(submit, small_disk) -> None:
    experiment = Experiment(Workspace.at(small_disk / "ws"), "digits")
    estimator = submit.estimator()
    (submit.source / "data.bin").write_bytes(os.urandom(5 << 20))
    with pytest.raises(AzureMLException, match=r"data.bin cannot be stored in .*: No space left"):
        experiment.submit(estimator)
    assert left(str(small_disk / "ws")) == []
    assert list(Workspace.at(small_disk / "ws").get_runs()) == []


@pytest.mark.parametrize("room", [0, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64])
def test_a_disk_with_little_room(submit, small_disk, room) -> None:
    """Wherever it gets full: no run, or one with an end."""
    experiment = Experiment(Workspace.at(small_disk / "ws"), "digits")
    experiment.workspace._make()
    estimator = submit.estimator("print('x')")
    with open(small_disk / "filler", "wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            filler.truncate(filler.tell() - room * 1024)
    try:
        run = experiment.submit(estimator)
    except AzureMLException as error:
        said = error.message
    else:
        assert run.wait_for_completion(raise_on_error=False)["status"] in ("Completed", "Failed")
        return
    assert re.search("No space left|disk is full", said)
    entered = list(Workspace.at(small_disk / "ws").get_runs())
    assert bool(entered) == ("cannot be started" in said)
    assert entered or left(str(small_disk / "ws")) == []


FILLS = """
with open("big", "wb", buffering=0) as file:
    while True:
        file.write(bytes(1 << 16))
"""


def test_a_script_that_fills_the_disk(submit, small_disk) -> None:
    """Its end is recorded, and its traceback with it."""
    experiment = Experiment(Workspace.at(small_disk / "ws"), "digits")
    run = experiment.submit(submit.estimator(FILLS))
    error = run.wait_for_completion(raise_on_error=False)["error"]["error"]
    assert error["message"] == "user error (exit 1, OSError at train.py:4)"
    assert error["detail"] == "OSError: [Errno 28] No space left on device"


def test_the_room_kept_for_a_traceback_is_given_back(submit) -> None:
    run = submit.done("print('x')")
    assert os.stat(f"{run.folder}/attempts/1/0.err").st_blocks == 0


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines())


def test_a_run_on_a_full_disk_can_be_canceled(submit, small_disk) -> None:
    experiment = Experiment(Workspace.at(small_disk / "ws"), "digits")
    script = f"import time\ntry:\n{_indent(FILLS)}\nexcept OSError:\n    time.sleep(1000)"
    run = experiment.submit(submit.estimator(script))
    usage = shutil.disk_usage(small_disk)
    while usage.free:
        usage = shutil.disk_usage(small_disk)
    run.cancel()
    assert run.wait_for_completion()["status"] == "Canceled"


def test_a_script_that_an_ignore_file_leaves_out(submit) -> None:
    estimator = submit.estimator()
    (submit.source / ".amlignore").write_text("*.py\n")
    with pytest.raises(SnapshotException, match=r"train.py would not be part of the run: .aml"):
        submit.experiment.submit(estimator)
    assert left() == []


def test_a_folder_that_cannot_be_read(submit) -> None:
    """Root reads everything: so a link to a folder outside stands for it."""
    estimator = submit.estimator()
    (submit.source / "data").symlink_to("/usr")
    with pytest.raises(SnapshotException, match=re.escape("data is a link to a folder outside")):
        submit.experiment.submit(estimator)
    assert left() == []


def test_with_no_file_descriptor_left_nothing_is_started(submit) -> None:
    prepared = prepare(submit.experiment, submit.estimator())
    submit.experiment.workspace._make()
    held = []
    with pytest.raises(OSError):
        while True:
            held.append(os.open("/", os.O_RDONLY))
    for descriptor in held[-3:]:  # three are too few for two pipes
        os.close(descriptor)
    try:
        with pytest.raises(AzureMLException, match=r"started: .*Too many open files"):
            prepared.start()
    finally:
        for descriptor in held[:-3]:
            os.close(descriptor)
    assert left() == []


def test_a_fake_target_that_fails_after_the_run_was_entered(submit, monkeypatch) -> None:
    """The run says why it never ran."""

    def start(_: object, __: object, payload: Callable[[], object]) -> None:
        payload()
        raise StartError("the cluster is on fire")

    prepared = prepare(submit.experiment, submit.estimator())
    monkeypatch.setattr(prepared._target, "start", start)
    with pytest.raises(AzureMLException, match=r"cannot be started: the cluster is on fire"):
        prepared.start()
    (run,) = submit.experiment.get_runs()
    assert run.get_status() == "Failed"


def test_a_python_that_is_not_there(submit) -> None:
    run = prepare(submit.experiment, submit.estimator(), python="python9.9").start()
    told = run.wait_for_completion(raise_on_error=False)["error"]["error"]
    assert told["message"] == "environment (there is no interpreter 'python9.9' on PATH)"
    assert "--python" in told["hint"]


def test_a_fake_git_that_hangs_does_not_hold_up_a_run(submit, tmp_path) -> None:
    """As one does on a dead file server."""
    subprocess.run(["git", "init", "-q"], check=True)
    slow = tmp_path / "bin" / "git"
    slow.write_text("#!/bin/sh\nexec sleep 1000\n")
    slow.chmod(0o755)
    run = submit.done("print('x')")
    assert run.get_status() == "Completed"
