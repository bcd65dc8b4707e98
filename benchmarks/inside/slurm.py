"""Times what is done with Slurm, as `warm.py` does; that is where the loop is."""

import functools
import os
import subprocess
import time
from pathlib import Path

import warm

SUBMITTED = 20
ACTIVE = int(os.environ.get("ACTIVE", "0"))
_HELD = "#!/bin/bash\n#SBATCH --hold\n#SBATCH --output=/dev/null\ntrue\n"


@functools.cache
def _held():
    import rechain

    workspace = rechain.Workspace.local(os.getcwd())
    asked = rechain.SlurmCompute.attach_configuration(options=["--hold"])
    rechain.ComputeTarget.attach(workspace, "held", asked)
    Path("code").mkdir(exist_ok=True)
    Path("code/train.py").write_text("pass\n")
    estimator = rechain.Chainer(
        "code", compute_target="held", entry_script="train.py", user_managed=True,
        use_docker=False,
    )  # fmt: skip
    return rechain.Experiment(workspace, "benchmark"), estimator


def _submit():
    experiment, estimator = _held()
    return experiment.submit(estimator)


def rechain_submit() -> None:
    for _ in range(SUBMITTED):
        _submit()


def sbatch_submit() -> None:
    for _ in range(SUBMITTED):
        subprocess.run(
            ["sbatch", "--parsable"], input=_HELD, text=True, check=True, capture_output=True
        )


@functools.cache
def _active():
    return [_submit() for _ in range(ACTIVE)]


def fill_queue() -> None:
    _active()


def rechain_poll() -> None:
    """The status of each active run, by a fresh answer of Slurm."""
    from rechain.compute.slurm import queue

    runs = _active()
    queue.look(os.getuid(), newer_than=time.time())
    assert {run.get_status() for run in runs} == {"Queued"}


def squeue_poll() -> None:
    command = ["squeue", "--noheader", "--states=all", "--format=%i|%T|%r|%N|%S|%j"]
    said = subprocess.run(command, text=True, check=True, capture_output=True)
    assert said.stdout.count("\n") >= ACTIVE


if __name__ == "__main__":
    warm.main(globals())
