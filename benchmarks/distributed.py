"""What Rechain costs a training of several ranks, against bare mpiexec.

Run with the Python that Rechain is developed in: `.venv/bin/python benchmarks/distributed.py`.
Needs Open MPI (`apt-get install openmpi-bin`), and the package index.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from common import INSIDE, BrokenError, Command, Lab, Row, main

_RANKS = "2"
# What Rechain tells Open MPI too; without, it would bind the ranks to cores of their own, and
# refuse to start more ranks than there are cores.
_OPTIONS = ("--oversubscribe", "--bind-to", "none")
_AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


@contextmanager
def training(lab: Lab) -> Iterator[Row]:
    """`rechain run` of a training of two ranks, against mpiexec."""
    mpiexec = shutil.which("mpiexec.openmpi")
    chainer = lab.peer("chainermn")
    if mpiexec is None or chainer is None:
        raise BrokenError("there is no mpiexec.openmpi, or no Chainer")
    folder = lab.work / "ranks" / "here"
    folder.mkdir(parents=True)
    script = shutil.copy(INSIDE / "train_ranks.py", folder / "train.py")
    environment = lab.environment(
        OMP_NUM_THREADS="1", PATH=f"{chainer}:/usr/local/bin:/usr/bin:/bin", **_AS_ROOT
    )
    bare = Command([mpiexec, *_OPTIONS, "-n", _RANKS, "python", script], environment, folder)
    ours = Command(
        [
            lab.rechain() / "rechain", "run", "-q", "--user-managed",
            "--mpi", mpiexec, "-n", _RANKS, "train.py",
        ],
        {**environment, "RECHAIN_HOME": str(lab.work / "ranks" / "workspace")},
        folder,
    )  # fmt: skip
    yield Row(
        f"a ChainerMN training of {_RANKS} ranks, Open MPI", "s", {"bare mpiexec": 1.03},
        lambda: {"ours": ours(), "bare mpiexec": bare()}, at_most=9,
    )  # fmt: skip


if __name__ == "__main__":
    main("distributed", {"training": training})
