"""Times one function again and again: its name on stdin, seconds on stdout.

Runs in the environment of the tool that the function is about.
"""

import functools
import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PYTHON = os.environ.get("JOB_PYTHON", "")
SCRIPT = os.environ.get("JOB_SCRIPT", "")
RUNS = 20
LISTED = 50
INDEXED = 100_000
LOGGED = 200


# One do-nothing script, to its end.


def bare() -> None:
    subprocess.run([PYTHON, SCRIPT], check=True, stdin=subprocess.DEVNULL)


@functools.cache
def _experiment():
    import rechain

    return rechain.Experiment(rechain.Workspace.local(os.getcwd()), "benchmark")


def rechain_run() -> None:
    import rechain

    folder, script = os.path.split(SCRIPT)
    estimator = rechain.Chainer(
        folder, compute_target="local", entry_script=script, user_managed=True, use_docker=False
    )
    _experiment().submit(estimator).wait_for_completion()


def submitit_run() -> None:
    import submitit

    executor = submitit.LocalExecutor(folder=os.getcwd())
    executor.submit(submitit.helpers.CommandFunction([PYTHON, SCRIPT])).result()


@functools.cache
def _torchx_runner():
    from torchx.runner import get_runner

    return get_runner()


def torchx_run() -> None:
    app = _torchx_runner().run_component(
        "utils.sh", [PYTHON, SCRIPT], scheduler="local_cwd", cfg={"log_dir": os.getcwd()}
    )
    _torchx_runner().wait(app, wait_interval=0.05)  # by default 10 s


# Twenty of them, two at a time.


def _twenty(one) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(one) for _ in range(RUNS)]:
            done.result()


def bare_sweep() -> None:
    _twenty(bare)


def rechain_sweep() -> None:
    _experiment()
    _twenty(rechain_run)


# The newest of many runs.


@functools.cache
def _full_index() -> str:
    """Fill the workspace: real runs, and before them entries that stand for older ones."""
    from rechain.record import index

    paths = _experiment().workspace._paths
    now = time.time_ns()
    for number in range(INDEXED - LISTED):
        moment = now - (INDEXED - number) * 1_000_000
        index.add(paths, f"benchmark_{moment // 10**9}_{number:08x}", moment)
    for _ in range(LISTED):
        rechain_run()
    month = max(os.listdir(paths.index))
    return os.path.join(paths.index, month)


def fill_index() -> None:
    _full_index()


def rechain_list() -> None:
    runs = itertools.islice(_experiment().workspace.get_runs(), LISTED)
    assert [run.get_status() for run in runs] == ["Completed"] * LISTED


def scandir() -> None:
    with os.scandir(_full_index()) as entries:
        assert sum(1 for entry in entries if entry.name) == INDEXED


# Metrics.


def mlflow_log() -> None:
    import mlflow

    if mlflow.active_run() is None:
        mlflow.start_run()
    for step in range(LOGGED):
        mlflow.log_metric("loss", 0.5, step=step)


def main(functions) -> None:
    """Serve until stdin ends.

    Args:
        functions: what can be timed, by name.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # tools that print must not be taken for us
    for line in sys.stdin:
        function = functions[line.strip()]
        begun = time.perf_counter()
        try:
            function()
        except Exception as error:
            answer = json.dumps(f"{type(error).__name__}: {error}")
        else:
            answer = repr(time.perf_counter() - begun)
        answers.write(answer + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    main(globals())
