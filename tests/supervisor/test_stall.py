"""The stall watchdog, on scripts that stop and on scripts that only seem to."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rechain.record import events
from rechain.record.events import Watch
from rechain.supervisor.stall import Watchdog
from rechain.supervisor.supervise import Supervisor
from rechain.testing import make_run, processes_of, wait_for, wait_for_end
from rechain.testing.runs import payload
from tests.supervisor.mpi import LAUNCHERS, TARGET, make_ranks, read, start

pytestmark = pytest.mark.fast

# Well beyond the time for which a busy machine may leave a script without a processor.
STALL = 4.0


def end_of(tmp_path: Path, script: str, **settings: object):
    run, job = make_run(tmp_path, script, grace_seconds=0.2, stall_seconds=STALL, **settings)
    TARGET.start(TARGET.plan(run, job), run, payload(job))
    end = wait_for_end(run).end
    wait_for(lambda: not processes_of(run), "no process is left")
    return run, end


@pytest.mark.parametrize(
    "stop",
    [
        "time.sleep(1000)",
        "threading.Lock().acquire(); lock = threading.Lock(); lock.acquire(); lock.acquire()",
        "import ctypes; ctypes.CDLL(None).pause()",  # in C, where no Python handler would run
    ],
)
def test_a_script_that_stops_says_where_and_is_ended(tmp_path: Path, stop: str) -> None:
    script = f"import threading, time\ndef work():\n    {stop}\nprint('up', flush=True)\nwork()"
    run, end = end_of(tmp_path, script)
    assert (end["cause"], end["message"]) == ("stalled", "no sign of life for 4 s")
    stacks = read(run.attempt(1).stderr(0))
    assert "most recent call first" in stacks
    assert 'script.py", line 3 in work' in stacks


SIGNS = (
    "print('still here', flush=True)",
    "sys.stderr.write('.')",
    "run.log('loss', 1.0)",
    "open(f'result/{number}', 'w').close()",
    "sum(range(10**7))",
)


def test_scripts_that_show_any_sign_of_life_go_on(tmp_path: Path) -> None:
    """All at once, since each takes its time."""
    runs = {}
    for sign in SIGNS:
        script = (
            "import os, sys, time\nfrom azureml.core.run import Run\nrun = Run.get_context()\n"
            f"os.mkdir('result')\nfor number in range(6):\n    {sign}\n    time.sleep(0.8)"
        )
        runs[sign], job = make_run(tmp_path, script, grace_seconds=0.2, stall_seconds=STALL)
        TARGET.start(TARGET.plan(runs[sign], job), runs[sign], payload(job))
    assert {sign: wait_for_end(run).end["cause"] for sign, run in runs.items()} == dict.fromkeys(
        SIGNS, "completed"
    )


def test_without_it_a_script_may_wait(tmp_path: Path) -> None:
    run, job = make_run(tmp_path, "import time; time.sleep(3)")
    TARGET.start(TARGET.plan(run, job), run, payload(job))
    assert wait_for_end(run).end["cause"] == "completed"


@pytest.mark.engines
@pytest.mark.parametrize("family", LAUNCHERS)
def test_ranks_that_wait_for_each_other_say_where(tmp_path: Path, family: str) -> None:
    script = (
        "from mpi4py import MPI\ncomm = MPI.COMM_WORLD\n"
        "def reduce():\n    comm.allreduce(1)\ndef receive():\n    comm.recv(source=0)\n"
        "reduce() if comm.rank == 0 else receive()"
    )
    # Under MPI the use of the processor is no sign, and all of this has to be imported first.
    given = {"grace_seconds": 0.2, "stall_seconds": 3 * STALL}
    run = start(*make_ranks(tmp_path, family, script, **given))
    end = wait_for_end(run).end
    assert end["cause"] == "stalled"
    assert "in reduce" in read(run.attempt(1).stderr(0))
    assert "in receive" in read(run.attempt(1).stderr(1))
    wait_for(lambda: not processes_of(run), "no process is left")


def test_an_overdue_look_does_not_keep_a_supervisor_awake_that_waits_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = make_run(tmp_path, "pass")
    supervisor = Supervisor(run, run.attempt(1), {})
    supervisor._wakeup, _ = os.pipe()
    os.set_blocking(supervisor._wakeup, False)
    supervisor._watch = Watch()
    supervisor._watchdog = Watchdog(run, run.attempt(1), 0, False, list)
    pauses: list[float] = []
    monkeypatch.setattr(events, "wait", lambda _, pause: pauses.append(pause))
    supervisor._sleep()  # nothing is asked yet: the look is due at once
    supervisor._patience = time.monotonic() + 1000
    supervisor._sleep()
    assert pauses[0] == 0
    assert pauses[1] > 0
