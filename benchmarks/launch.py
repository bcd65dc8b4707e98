"""How much time and memory Rechain itself takes, from `import rechain` to the end of a run.

Run with the Python that Rechain is developed in: `.venv/bin/python benchmarks/launch.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common import INSIDE, REPOSITORY, BrokenError, Command, Lab, Row, Worker, main

_NOTHING = "pass\n"
# What Rechain's processes are compared with: nothing can be less and be Python.
_IDLE = ("-I", "-S", "-c", "import time; time.sleep(600)")


def _script(folder: Path, text: str = _NOTHING) -> Path:
    """Write a `train.py` in a folder of its own, since its whole folder is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train.py"
    path.write_text(text)
    return path


def _ours(lab: Lab, script: Path, *options: str) -> Command:
    """Return the command that runs a script as it is, recorded in a workspace of its own."""
    argv = [lab.rechain() / "rechain", "run", "-q", "--user-managed", *options, script.name]
    home = script.parent.parent / f"workspace-{script.parent.name}"
    return Command(argv, lab.environment(RECHAIN_HOME=str(home)), script.parent)


# Import.


@contextmanager
def importing(lab: Lab) -> Iterator[Row]:
    """`import rechain` and a `Chainer(...)`, against the SDK's."""
    sdk = lab.peer("azureml")
    if sdk is None:
        raise BrokenError("the SDK is not installed")
    script = _script(lab.work / "import" / "here")
    call = "Chainer('.', compute_target='local', entry_script='train.py', use_gpu=False)"

    def command(python: Path, module: str) -> Command:
        argv = [python, "-c", f"from {module} import Chainer; {call}"]
        return Command(argv, lab.environment(), script.parent)

    ours = command(lab.rechain() / "python", "rechain")
    theirs = command(sdk / "python", "azureml.train.dnn")
    yield Row(
        "`import`, and one `Chainer(...)`", "ms", {"azureml-train-core": 1 / 80},
        lambda: {"ours": ours(), "azureml-train-core": theirs()}, at_most=7,
    )  # fmt: skip


@contextmanager
def dropin(lab: Lab) -> Iterator[Row]:
    """The same by v1's own names, and the run configuration asked for, against the SDK's."""
    sdk = lab.peer("azureml")
    if sdk is None:
        raise BrokenError("the SDK is not installed")
    script = _script(lab.work / "dropin" / "here")
    code = (
        "from azureml.train.dnn import Chainer\n"
        "Chainer('.', compute_target='local', entry_script='train.py').run_config"
    )
    argv = ["-c", code]
    path = str(REPOSITORY / "dropin" / "src")
    ours = Command(
        [lab.rechain() / "python", *argv],
        {**lab.environment(), "PYTHONPATH": path},
        script.parent,
    )
    theirs = Command([sdk / "python", *argv], lab.environment(), script.parent)
    yield Row(
        "the same as `azureml`, with its `run_config`", "ms", {"azureml-train-core": 1 / 40},
        lambda: {"ours": ours(), "azureml-train-core": theirs()}, at_most=7,
    )  # fmt: skip


# One run, from the command line.


@contextmanager
def running(lab: Lab) -> Iterator[Row]:
    """`rechain run` of a script that does nothing, against its bare interpreter."""
    script = _script(lab.work / "run" / "here")
    ours = _ours(lab, script)
    bare = Command([lab.python(), "train.py"], lab.environment(), script.parent)
    yield Row(
        "`rechain run` of a script that does nothing", "ms", {"bare python": 8},
        lambda: {"ours": ours(), "bare python": bare()}, at_most=60,
    )  # fmt: skip


@contextmanager
def running_like_peers(lab: Lab) -> Iterator[Row]:
    """The same, against tools that do something of the kind."""
    script = _script(lab.work / "peers" / "here")
    commands = {"ours": _ours(lab, script)}
    for name, make in _LAUNCHERS.items():
        bin_folder = lab.peer(name.split()[0])
        if bin_folder is None:
            continue
        try:
            commands[name] = _proven(make(lab, bin_folder, lab.work / "peers" / name))
        except BrokenError as error:
            lab.give_up(name, str(error))
    yield Row(
        "`rechain run` of a script that does nothing", "ms",
        {name: None for name in commands if name != "ours"},
        lambda: {name: command() for name, command in commands.items()}, at_most=7,
    )  # fmt: skip


def _proven(command: Command) -> Command:
    """Return a command after seeing it run the script it is meant to run."""
    script = command.folder / "train.py"
    proof = command.folder.parent / f"{command.folder.name}.proof"
    script.write_text(f"open({str(proof)!r}, 'w').close()\n")
    command()
    script.write_text(_NOTHING)
    if not proof.exists():
        raise BrokenError("it says that all is well, and did not run the script")
    return command


def _job(lab: Lab, folder: Path, **extra: str) -> dict[str, str]:
    script = str(folder / "train.py")
    return lab.environment(JOB_PYTHON=str(lab.python()), JOB_SCRIPT=script, **extra)


def _once(program: str, *arguments: str, **extra: str) -> Callable[[Lab, Path, Path], Command]:
    def make(lab: Lab, bin_folder: Path, folder: Path) -> Command:
        _script(folder)
        argv = [bin_folder / "python", INSIDE / program, *arguments]
        return Command(argv, _job(lab, folder, **extra), folder)

    return make


def _dvc(lab: Lab, bin_folder: Path, folder: Path) -> Command:
    _script(folder)
    (folder / "params.yaml").write_text("n: 0\n")
    own = str(folder.parent / "dvc-site")
    environment = lab.environment(DVC_NO_ANALYTICS="1", DVC_SITE_CACHE_DIR=own)
    environment["PATH"] = f"{environment['PATH']}:{bin_folder}"
    stage = ("dvc", "stage", "add", "-q", "-n", "train", "-d", "train.py", "-p", "n")
    steps: tuple[tuple[str, ...], ...] = (
        ("git", "init", "-q"),
        ("git", "config", "user.name", "somebody"),
        ("git", "config", "user.email", "somebody@example.org"),
        ("dvc", "init", "-q"),
        (*stage, "python train.py"),
        ("git", "add", "."),
        ("git", "commit", "-q", "-m", "begin"),
    )
    for argv in steps:
        done = subprocess.run(
            argv, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BrokenError(done.stderr)
    # Another parameter each time, or there would be nothing to do.
    command = ["/bin/sh", "-c", "exec dvc exp run -q -S n=$$"]
    return Command(command, environment, folder)


def _guild(lab: Lab, bin_folder: Path, folder: Path) -> Command:
    _script(folder)
    home = folder.parent / "guild-home"
    home.mkdir()
    argv = [bin_folder / "guild", "run", "-y", "train.py"]
    return Command(argv, lab.environment(GUILD_HOME=str(home)), folder)


def _mlflow(lab: Lab, bin_folder: Path, folder: Path, **extra: str) -> Command:
    _script(folder)
    entry = "entry_points:\n  main:\n    command: python train.py\n"
    (folder / "MLproject").write_text(f"name: benchmark\n{entry}")
    argv = [bin_folder / "mlflow", "run", "--env-manager", "local", "."]
    return Command(argv, lab.environment(**extra), folder)


def _mlflow_sqlite(lab: Lab, bin_folder: Path, folder: Path) -> Command:
    store = f"sqlite:///{folder.parent}/mlflow.db"
    return _mlflow(lab, bin_folder, folder, MLFLOW_TRACKING_URI=store)


def _mlflow_files(lab: Lab, bin_folder: Path, folder: Path) -> Command:
    store = f"file://{folder.parent}/mlflow-files"
    return _mlflow(
        lab, bin_folder, folder, MLFLOW_TRACKING_URI=store, MLFLOW_ALLOW_FILE_STORE="true"
    )


def _metaflow(lab: Lab, bin_folder: Path, folder: Path) -> Command:
    _script(folder)
    argv = [bin_folder / "python", INSIDE / "metaflow_once.py", "run"]
    places = {"METAFLOW_HOME": str(folder), "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder)}
    return Command(argv, _job(lab, folder, **places), folder)


def _sagemaker(lab: Lab, bin_folder: Path, folder: Path) -> Command:
    _script(folder)
    base = folder.parent / "sagemaker-base"
    settings = base / "input" / "config"
    settings.mkdir(parents=True)
    hosts = {
        "current_host": "localhost", "hosts": ["localhost"], "network_interface_name": "lo",
        "instance_groups": [], "current_instance_type": "local",
    }  # fmt: skip
    program = {"sagemaker_program": "train.py", "sagemaker_submit_directory": str(folder)}
    (settings / "inputdataconfig.json").write_text("{}")
    (settings / "resourceconfig.json").write_text(json.dumps(hosts))
    (settings / "hyperparameters.json").write_text(json.dumps(program))
    for name in ("output", "model", "code"):
        (base / name).mkdir()

    def empty_code() -> None:  # it would use the old one again
        for path in (base / "code").iterdir():
            path.unlink()

    environment = lab.environment(SAGEMAKER_BASE_DIR=str(base), SM_STUDIO_LOCAL_MODE="true")
    return Command([bin_folder / "train"], environment, folder, empty_code)


def _torchx(lab: Lab, bin_folder: Path, folder: Path) -> Command:
    _script(folder)
    argv = [bin_folder / "torchx", "run", "-s", "local_cwd", "--wait", "utils.sh",
            lab.python(), "train.py"]  # fmt: skip
    return Command(argv, lab.environment(), folder)


_LAUNCHERS: dict[str, Callable[[Lab, Path, Path], Command]] = {
    "submitit (in the same process)": _once("submitit_once.py", "DebugExecutor"),
    "submitit": _once("submitit_once.py", "LocalExecutor"),
    "sacred": _once("sacred_once.py"),
    "hydra": _once("hydra_once.py"),
    "sagemaker": _sagemaker,
    "metaflow": _metaflow,
    "guild": _guild,
    "torchx": _torchx,
    "mlflow-skinny": _mlflow_files,
    "mlflow": _mlflow_sqlite,
    "dvc": _dvc,
}


# One run and many, from a process that is warm.


@contextmanager
def submitting(lab: Lab) -> Iterator[Row]:
    """Submit and wait in a process that has done so before."""
    folder = lab.work / "submit"
    script = _script(folder / "here")
    with ExitStack() as stack:
        own = _start(stack, lab, lab.rechain(), script, "rechain-submit")
        rivals = {"subprocess.run": (own, "bare")}
        for name, peer, function in (
            ("submitit", "submitit", "submitit_run"),
            ("torchx, asking every 0.05 s", "torchx", "torchx_run"),
        ):
            worker = _start_peer(stack, lab, peer, script, function)
            if worker is not None:
                rivals[name] = (worker, function)

        def once() -> dict[str, float]:
            ours = {"ours": own.time("rechain_run")}
            return ours | {name: at.time(function) for name, (at, function) in rivals.items()}

        budgets = {name: 3.5 if name == "subprocess.run" else None for name in rivals}
        yield Row("submit and wait, in a warm process", "ms", budgets, once)


def _start(stack: ExitStack, lab: Lab, bin_folder: Path, script: Path, name: str) -> Worker:
    folder = lab.work / "workers" / name
    folder.mkdir(parents=True, exist_ok=True)
    environment = lab.environment(
        JOB_PYTHON=str(lab.python()),
        JOB_SCRIPT=str(script),
        MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db",
    )
    return stack.enter_context(Worker(bin_folder / "python", environment, folder))


def _start_peer(
    stack: ExitStack, lab: Lab, peer: str, script: Path, function: str
) -> Worker | None:
    """Start a peer's worker and see its function work; None, and a note, if it does not."""
    bin_folder = lab.peer(peer)
    if bin_folder is None:
        return None
    worker = _start(stack, lab, bin_folder, script, peer)
    try:
        worker.time(function)
    except BrokenError as error:
        lab.give_up(f"{peer}, warm", str(error))
        return None
    return worker


@contextmanager
def sweeping(lab: Lab) -> Iterator[Row]:
    """Twenty runs, two at a time."""
    script = _script(lab.work / "sweep" / "here")
    with ExitStack() as stack:
        own = _start(stack, lab, lab.rechain(), script, "sweep")

        def once() -> dict[str, float]:
            return {"ours": own.time("rechain_sweep"), "bare loop": own.time("bare_sweep")}

        what = "20 runs of a script that does nothing, two at a time"
        yield Row(what, "s", {"bare loop": 3}, once, at_most=10)


@contextmanager
def listing(lab: Lab) -> Iterator[Row]:
    """The newest 50 of 100 000 runs."""
    script = _script(lab.work / "list" / "here")
    with ExitStack() as stack:
        own = _start(stack, lab, lab.rechain(), script, "list")
        own.time("fill_index")

        def once() -> dict[str, float]:
            ours, floor = own.time("rechain_list"), own.time("scandir")
            return {"ours": ours, "os.scandir of the index": floor}

        what = "the newest 50 of 100 000 runs, with their states"
        yield Row(what, "ms", {"os.scandir of the index": 3}, once)


# In the job, and beside it.


@contextmanager
def logging(lab: Lab) -> Iterator[Row]:
    """`run.log` in a job of Python 3.11."""
    with _logging(lab, "3.11", with_mlflow=True) as row:
        yield row


@contextmanager
def logging_on_3_6(lab: Lab) -> Iterator[Row]:
    """`run.log` in a job of Python 3.6, Chainer's own."""
    with _logging(lab, "3.6") as row:
        yield row


@contextmanager
def _logging(lab: Lab, minor: str, with_mlflow: bool = False) -> Iterator[Row]:
    script = _script(lab.work / f"log-{minor}" / "here", (INSIDE / "log_in_job.py").read_text())
    job = _ours(lab, script, "--python", str(lab.python(minor)))
    floor, write = "json.dumps, write, flush", "write, flush of a ready line"
    budgets: dict[str, float | None] = {floor: 4, write: None}
    with ExitStack() as stack:
        worker = _start_peer(stack, lab, "mlflow", script, "mlflow_log") if with_mlflow else None
        if worker is not None:
            budgets["mlflow, sqlite"] = None

        def once() -> dict[str, float]:
            done = subprocess.run(
                list(map(str, job.argv)), env=dict(job.environment), cwd=job.folder,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                raise BrokenError(done.stderr)
            times = dict(zip(("ours", floor, write), json.loads(done.stdout), strict=True))
            if worker is not None:
                times["mlflow, sqlite"] = worker.time("mlflow_log") / 200  # lines a call
            return times

        yield Row(f"`run.log`, per line, Python {minor}", "µs", budgets, once, at_most=20)


@contextmanager
def resting(lab: Lab) -> Iterator[Row]:
    """The memory of a waiting run's guard and supervisor together."""
    script = _script(lab.work / "memory" / "here", "import time; time.sleep(600)\n")
    start = _ours(lab, script, "-d")
    folder = Path(start.environment["RECHAIN_HOME"])
    rechain = lab.rechain()

    def once() -> dict[str, float]:
        idle = subprocess.Popen([str(rechain / "python"), *_IDLE], env=lab.environment())
        try:
            start()
            journal = _journal(folder)
            time.sleep(0.2)  # until all of them sleep
            pair = sum(_memory(journal[who]["pid"]) for who in ("guard", "supervisor"))
            return {"ours": pair, "python -I -S": _memory(idle.pid)}
        finally:
            idle.kill()
            idle.wait()
            cancel = [str(rechain / "rechain"), "cancel"]
            subprocess.run(cancel, env=dict(start.environment), check=False, capture_output=True)

    what = "memory (PSS) of guard and supervisor while a run runs"
    yield Row(what, "MiB", {"python -I -S": 3}, once, at_most=5)


def _journal(workspace: Path) -> dict[str, dict[str, int]]:
    """Return the `attempt` event of the newest run."""
    journals = workspace.glob("experiments/*/*/attempts/1/journal.jsonl")
    newest = max(journals, key=os.path.getmtime)
    event: dict[str, dict[str, int]] = json.loads(newest.read_text().splitlines()[0])
    return event


def _memory(pid: int) -> float:
    """Return the bytes a process has for itself, and its share of those it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024.0
    raise BrokenError("the kernel does not say how much memory a process has")


ROWS = {
    "import": importing,
    "dropin": dropin,
    "run": running,
    "run-peers": running_like_peers,
    "submit": submitting,
    "sweep": sweeping,
    "list": listing,
    "log": logging,
    "log-3.6": logging_on_3_6,
    "memory": resting,
}

if __name__ == "__main__":
    main("launch", ROWS)
