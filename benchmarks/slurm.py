"""What Rechain costs on Slurm, against Slurm's own commands, on a cluster made for it.

Run with the Python that Rechain is developed in: `.venv/bin/python benchmarks/slurm.py`.
Needs Slurm's daemons and munge (`apt-get install slurm-wlm munge`), and root. The cluster has two
nodes that are this machine; nothing but Slurm's own work is in their way.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import BrokenError, Lab, Row, Worker, main

from rechain.testing.slurm import SlurmCluster, SlurmClusterError

_ACTIVE = 1000
_PATIENCE = 120.0
_STAMP = "import time\nopen('{path}', 'w').write(str(time.time()))\n"


@contextmanager
def _cluster() -> Iterator[SlurmCluster]:
    try:
        with SlurmCluster(2) as cluster:
            yield cluster
    except SlurmClusterError as error:
        raise BrokenError(str(error)) from error


@contextmanager
def starting(lab: Lab) -> Iterator[Row]:
    """From the command to the script's first line, against sbatch."""
    with _cluster() as cluster:
        place = lab.work / "starting"
        (place / "code").mkdir(parents=True)
        stamp = place / "stamp"
        script = place / "code" / "train.py"
        script.write_text(_STAMP.format(path=stamp))
        batch = place / "bare.sh"
        batch.write_text(f"#!/bin/bash\n#SBATCH --output=/dev/null\nexec python {script}\n")
        environment = lab.environment(**cluster.environment, RECHAIN_HOME=str(place / "workspace"))
        rechain = lab.rechain() / "rechain"
        _run([rechain, "target", "add", "cluster", "--slurm"], environment, place)

        def time_of(*command: object) -> float:
            stamp.unlink(missing_ok=True)
            begun = time.time()
            _run(list(command), environment, place)
            until = time.monotonic() + _PATIENCE
            while not (stamp.exists() and stamp.read_text()):
                if time.monotonic() > until:
                    raise BrokenError(f"the script did not start\n{cluster.logs()}")
                time.sleep(0.001)
            seconds = float(stamp.read_text()) - begun
            while cluster.run("squeue", "--noheader").strip():
                time.sleep(0.05)
            return seconds

        options = ("--user-managed", "--target", "cluster")
        yield Row(
            "`rechain run -d` to the script's first line", "s", {"sbatch": 1.5},
            lambda: {
                "ours": time_of(rechain, "run", "-q", "-d", *options, "code/train.py"),
                "sbatch": time_of("sbatch", batch),
            },
        )  # fmt: skip


def _run(command: list[object], environment: dict[str, str], folder: Path) -> None:
    done = subprocess.run(
        list(map(str, command)), env=environment, cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise BrokenError(done.stderr or f"{command[0]} ended with {done.returncode}")


@contextmanager
def _worker(lab: Lab, cluster: SlurmCluster, name: str, **extra: str) -> Iterator[Worker]:
    place = lab.work / name
    place.mkdir()
    environment = lab.environment(**cluster.environment, **extra)
    with Worker(lab.rechain() / "python", environment, place, "slurm.py") as worker:
        yield worker


@contextmanager
def submitting(lab: Lab) -> Iterator[Row]:
    """Twenty submissions one after the other in a warm process, against sbatch."""
    with _cluster() as cluster, _worker(lab, cluster, "submitting") as worker:
        yield Row(
            "20 submissions to Slurm, in a warm process", "ms", {"sbatch": 3.0},
            lambda: {
                "ours": worker.time("rechain_submit"), "sbatch": worker.time("sbatch_submit"),
            },
        )  # fmt: skip


@contextmanager
def polling(lab: Lab) -> Iterator[Row]:
    """The status of 1000 waiting runs, against one squeue."""
    with (
        _cluster() as cluster,
        _worker(lab, cluster, "polling", ACTIVE=str(_ACTIVE)) as worker,
    ):
        worker.time("fill_queue")
        yield Row(
            f"the status of {_ACTIVE} waiting runs", "ms", {"squeue": 40.0},
            lambda: {
                "ours": worker.time("rechain_poll"), "squeue": worker.time("squeue_poll"),
            },
        )  # fmt: skip


if __name__ == "__main__":
    main("slurm", {"starting": starting, "submitting": submitting, "polling": polling})
