"""Which of several failed ranks is the cause, when their ends are noted in another order."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from rechain.record import host, jsonl
from rechain.supervisor.ranks import Ranks
from rechain.testing import make_run

pytestmark = pytest.mark.fast

# What mpi4py 4.1 prints in a rank whose peer is gone: its compiled frames have relative paths.
LOST_PEER = """\
Traceback (most recent call last):
  File "{work}/script.py", line 6, in <module>
    comm.allreduce(1)
  File "src/mpi4py/MPI.src/Comm.pyx", line 1114, in mpi4py.MPI.Comm.allreduce
  File "src/mpi4py/MPI.src/msgpickle.pxi", line 1233, in mpi4py.MPI.PyMPI_allreduce
mpi4py.MPI.Exception: Other MPI error, error stack:
internal_Allreduce(3861): communication error with rank 1
"""


def outcome(tmp_path: Path, ends: dict[int, tuple[int, str]]) -> tuple[str, str]:
    """Return cause and message of ranks whose exit codes are noted in this order."""
    run, _ = make_run(tmp_path, "")
    attempt = run.attempt(1)
    os.makedirs(attempt.root)
    nothing = SimpleNamespace(write=lambda *_, **__: None, add=lambda *_: None, mpi={})
    job = {"distribution": {"nodes": 1, "processes_per_node": len(ends)}}
    ranks = Ranks(run, attempt, nothing, nothing, job=job, watch=nothing)
    me = host.process(os.getpid())
    quiet = {"asked": False, "orphaned": False, "refused": "", "leftover": 0}
    for moment, (rank, (code, said)) in enumerate(ends.items()):
        started = {"rank": rank, "local_rank": rank, "guard": me, **me}
        jsonl.write_new(attempt.rank(rank, "start"), started)
        end = {"rank": rank, "t": float(moment), "status": code << 8, **quiet}
        jsonl.write_new(attempt.rank(rank, "end"), end)
        stderr = Path(attempt.stderr(rank))
        stderr.parent.mkdir(exist_ok=True, parents=True)
        stderr.write_text(said.format(work=run.work))
    Path(run.work, "script.py").touch()
    found = ranks.outcome(1 << 8, "")
    return found.cause, found.message


def test_a_rank_that_lost_its_peer_is_not_the_cause(tmp_path: Path) -> None:
    ends = {0: (1, LOST_PEER), 1: (5, "")}
    assert outcome(tmp_path, ends) == ("user_error", "exit 5, rank 1")


def test_an_error_of_mpi_alone_is_the_cause_and_names_the_users_line(tmp_path: Path) -> None:
    ends = {0: (1, LOST_PEER), 1: (0, "")}
    assert outcome(tmp_path, ends) == ("user_error", "exit 1, Exception at script.py:6, rank 0")
