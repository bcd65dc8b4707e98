"""Scripts of several ranks under real MPIs: they talk, and they end when they should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.record.requests import ask_to_stop
from rechain.testing import processes_of, wait_for, wait_for_end
from tests.supervisor.mpi import LAUNCHERS, make_ranks, read, start, variables

pytestmark = pytest.mark.engines

TALK = """
from mpi4py import MPI
comm = MPI.COMM_WORLD
rank = comm.Get_rank()
"""
WAIT = "comm.allreduce(1)\nprint('never')\n"


@pytest.fixture(params=LAUNCHERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ended(workspace: Path, family: str, script: str, count: int = 2, **settings: Any) -> Any:
    """Run a script of ranks to its end; return the run and its end."""
    run = start(*make_ranks(workspace, family, script, count, **settings))
    state = wait_for_end(run)
    wait_for(lambda: not processes_of(run), "no process is left")
    assert state.end is not None
    return run, state.end


def said(run: RunPaths, rank: int) -> str:
    return read(run.attempt(1).stderr(rank))


def test_ranks_talk(tmp_path: Path, family: str) -> None:
    script = TALK + "print(rank, comm.Get_size(), comm.allreduce(rank))"
    run, end = ended(tmp_path, family, script, 3)
    assert (end["cause"], end["message"], end["leftover"]) == ("completed", "exit 0", 0)
    for rank in range(3):
        assert read(run.attempt(1).stdout(rank)) == f"{rank} 3 3\n"
        assert said(run, rank) == ""
    assert sorted(fold(run).last.ranks) == [0, 1, 2]
    found = jsonl.read(run.attempt(1).rank(0, "mpi"))
    assert found["library"].lower().replace(" ", "").startswith(family.replace("mpich", "mpich"))
    assert jsonl.read(run.lock)["mpi"]["family"] == family


@pytest.mark.parametrize("guilty", [0, 1])
def test_an_exception_in_one_rank_ends_all(tmp_path: Path, family: str, guilty: int) -> None:
    """The death of ChainerMN jobs (chainer/chainermn#236): it must not hang."""
    script = TALK + f"if rank == {guilty}:\n    raise RuntimeError('no more')\n" + WAIT
    run, end = ended(tmp_path, family, script)
    assert end["cause"] == "user_error"
    assert end["message"] == f"exit 1, RuntimeError at script.py:6, rank {guilty}"
    assert (end["rank"], end["exit_code"]) == (guilty, 1)
    assert end["tail"][-1] == "RuntimeError: no more"
    bare = subprocess.run(
        [sys.executable, "script.py"], cwd=run.work, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=False,
    )  # fmt: skip
    if guilty == 0:
        assert said(run, guilty) == bare.stderr
    for rank in range(2):
        assert "never" not in read(run.attempt(1).stdout(rank))


@pytest.mark.parametrize(
    ("how", "cause", "message"),
    [
        ("sys.exit(3)", "user_error", "exit 3, rank 1"),
        ("sys.exit('no more')", "user_error", "exit 1, rank 1"),
        ("raise SystemExit(4)", "user_error", "exit 4, rank 1"),
        ("quit(5)", "user_error", "exit 5, rank 1"),
        ("os._exit(3)", "user_error", "exit 3, rank 1"),
        ("os.abort()", "user_error", "signal 6, SIGABRT, rank 1"),
        ("os.kill(os.getpid(), 9)", "killed", "signal 9, SIGKILL, rank 1"),
        ("sys.excepthook = print; 1 / 0", "user_error", "exit 1, rank 1"),
    ],
)
def test_other_ways_to_leave_end_all(
    tmp_path: Path, family: str, how: str, cause: str, message: str
) -> None:
    script = "import os, sys\n" + TALK + f"if rank == 1:\n    {how}\n" + WAIT
    _, end = ended(tmp_path, family, script)
    assert (end["cause"], end["message"]) == (cause, message)


def test_an_abort_ends_all(tmp_path: Path, family: str) -> None:
    script = TALK + "if rank == 1:\n    comm.Abort(7)\n" + WAIT
    _, end = ended(tmp_path, family, script)
    assert (end["cause"], end["message"]) == ("user_error", "exit 7, rank 1")
    assert (end["rank"], end["exit_code"]) == (1, 7)


def test_an_error_that_is_fatal_to_mpi_is_the_ranks(tmp_path: Path, family: str) -> None:
    script = TALK + (
        "comm.Set_errhandler(MPI.ERRORS_ARE_FATAL)\ncomm.barrier()\n"
        "if rank == 1:\n    comm.Send(b'x', dest=99)\n"
    )
    _, end = ended(tmp_path, family, script + WAIT)
    assert (end["cause"], end["rank"]) == ("user_error", 1), end
    assert "guard" not in end["message"]
    if family == "mpich":
        assert "Invalid rank" in end["message"], end


def test_the_first_failure_is_the_cause(tmp_path: Path, family: str) -> None:
    noted = "../attempts/1/ranks/2.end.json"  # the others fail when the end of rank 2 is known
    script = (
        "import os, time\n" + TALK + "comm.barrier()\n"
        f"while rank != 2 and not os.path.exists({noted!r}): time.sleep(0.01)\n"
        "raise ValueError(rank)"
    )
    run, end = ended(tmp_path, family, script, 3)
    assert run.attempt(1).rank(2, "end").endswith(noted.removeprefix(".."))
    assert end["message"] == "exit 1, ValueError at script.py:8, rank 2"
    assert "ValueError: 0" in said(run, 0)


def test_an_exception_that_is_caught_is_none(tmp_path: Path, family: str) -> None:
    script = TALK + (
        "import sys\n"
        "if rank == 1:\n    try:\n        sys.exit(3)\n    except SystemExit:\n        pass\n"
        "    try:\n        1 / 0\n    except ZeroDivisionError:\n        pass\n"
        "print(comm.allreduce(1))"
    )
    run, end = ended(tmp_path, family, script)
    assert end["cause"] == "completed"
    assert read(run.attempt(1).stdout(0)) == "2\n"


def test_what_a_failing_rank_registered_at_exit_is_done(tmp_path: Path, family: str) -> None:
    script = (
        "import atexit\n" + TALK + "atexit.register(lambda: open(f'bye{rank}', 'w').close())\n"
        "if rank == 1:\n    raise RuntimeError('no more')\n" + WAIT
    )
    run, _ = ended(tmp_path, family, script)
    assert os.path.exists(f"{run.work}/bye1")


def test_a_script_without_mpi_runs_as_often_as_was_asked(tmp_path: Path, family: str) -> None:
    run, end = ended(tmp_path, family, "import os; print(os.environ['RECHAIN_RANK'])", 3)
    assert end["cause"] == "completed"
    assert [read(run.attempt(1).stdout(rank)) for rank in range(3)] == ["0\n", "1\n", "2\n"]


def test_the_script_sees_what_it_would_see_without_us(tmp_path: Path, family: str) -> None:
    script = TALK + (
        "import json, os, sys\n"
        "json.dump([sys.argv, sys.path[0], __name__, os.getcwd(), sys.stdin.read(),\n"
        "           os.environ['OMP_NUM_THREADS']], open(f'seen{rank}', 'w'))"
    )
    nasty = ("a b", "", ":", "$HOME", "ü\n", "-n", "--")
    run, _ = ended(tmp_path, family, script, arguments=nasty)
    for rank in range(2):
        argv, path, name, folder, stdin, threads = jsonl.read(f"{run.work}/seen{rank}")
        assert argv == ["script.py", *nasty]
        assert (path, name, folder) == (run.work, "__main__", run.work)
        assert stdin == ""
        assert int(threads) >= 1


def test_a_sitecustomize_of_the_users_own_is_still_imported(tmp_path: Path, family: str) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins; builtins.mine = 'mine'")
    run, end = ended(
        tmp_path, family, "print(mine)", variables={"PYTHONPATH": str(own)}
    )  # fmt: skip
    assert end["cause"] == "completed"
    assert read(run.attempt(1).stdout(1)) == "mine\n"


def test_a_program_that_a_rank_starts_is_left_alone(tmp_path: Path, family: str) -> None:
    script = TALK + (
        "import subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-c', 'raise SystemExit(5)'])\n"
        "print(comm.allreduce(done.returncode))"
    )
    run, end = ended(tmp_path, family, script)
    assert end["cause"] == "completed"
    assert read(run.attempt(1).stdout(0)) == "10\n"


TIDY = """
import signal, sys, time
def tidy(*_):
    open(f"tidy{rank}", "w").close()
    sys.exit(5)
signal.signal(signal.SIGTERM, tidy)
open(f"ready{rank}", "w").close()
while True:
    time.sleep(0.01)
"""


@pytest.mark.parametrize("how", ["cancel", "time limit"])
def test_all_ranks_may_use_their_grace(tmp_path: Path, family: str, how: str) -> None:
    def up(run: RunPaths) -> bool:
        return all(os.path.exists(f"{run.work}/ready{rank}") for rank in range(2))

    # Until the time limit both must be up: on a busy machine that takes a longer one.
    for seconds in (4, 16, 64) if how == "time limit" else (None,):
        given = {"seconds": seconds, "grace_seconds": 30}
        run = start(*make_ranks(tmp_path, family, TALK + TIDY, **given))
        wait_for(lambda run=run: up(run) or fold(run).end, "up")
        if up(run):
            break
    if how == "cancel":
        ask_to_stop(run)
    end = wait_for_end(run).end
    assert end is not None
    assert end["cause"] == ("canceled" if how == "cancel" else "time_limit")
    assert all(os.path.exists(f"{run.work}/tidy{rank}") for rank in range(2))
    wait_for(lambda: not processes_of(run), "no process is left")


def test_deaf_ranks_are_killed(tmp_path: Path, family: str) -> None:
    script = TALK + (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(f'ready{rank}', 'w').close()\ntime.sleep(1000)"
    )
    run = start(*make_ranks(tmp_path, family, script, grace_seconds=0.2))
    wait_for(lambda: all(os.path.exists(f"{run.work}/ready{r}") for r in range(2)), "up")
    ask_to_stop(run)
    assert wait_for_end(run).end["cause"] == "canceled"
    wait_for(lambda: not processes_of(run), "no process is left")


def test_an_mpi4py_of_another_mpi_is_found_out(tmp_path: Path, family: str) -> None:
    """Else there would be several worlds of one rank each, and wrong results."""
    other = {"openmpi": "mpich", "mpich": "openmpi"}[family]
    _, end = ended(tmp_path, family, TALK + WAIT, variables=variables(other))
    assert end["cause"] == "environment"
    assert "found a world of 1, not of 2" in end["message"]
    assert "--mpi" in end["hint"]


def test_what_a_rank_leaves_behind_ends_with_it(tmp_path: Path, family: str) -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    _, end = ended(tmp_path, family, script)
    assert (end["cause"], end["leftover"]) == ("completed", 2)


@pytest.mark.parametrize("launcher", ["/bin/false", "/nonexistent/mpiexec"])
def test_a_launcher_that_is_none(tmp_path: Path, launcher: str) -> None:
    run, job = make_ranks(tmp_path, "openmpi", "pass", launcher=launcher)
    end = wait_for_end(start(run, job)).end
    assert end is not None
    assert end["cause"] == "environment"
    assert launcher in end["message"]


def test_signals_that_end_a_rank_have_names(tmp_path: Path, family: str) -> None:
    number = signal.SIGSEGV
    script = TALK + f"import os\nif rank == 1:\n    os.kill(os.getpid(), {number})\n" + WAIT
    _, end = ended(tmp_path, family, script)
    assert end["message"] == "signal 11, SIGSEGV, rank 1"
    assert end["signal"] == number


def test_a_library_path_of_the_users_own_still_counts(tmp_path: Path, family: str) -> None:
    script = TALK + "import os; print(comm.allreduce(1), os.environ['LD_LIBRARY_PATH'])"
    run, end = ended(tmp_path, family, script, variables={"LD_LIBRARY_PATH": "/opt/own"})
    assert end["cause"] == "completed"
    printed = read(run.attempt(1).stdout(0))
    # Open MPI's own launcher puts its folders before it.
    assert printed.endswith(f"{variables(family)['LD_LIBRARY_PATH']}:/opt/own\n")
