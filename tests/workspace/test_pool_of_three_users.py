"""A hundred runs of three users on a pool of two nodes, while submitters and a supervisor die."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import rechain
from rechain import AmlCompute, Chainer, ComputeTarget, Experiment, Workspace
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.record.requests import ask_to_stop
from rechain.testing import processes_of, wait_for
from tests.conftest import missing

pytestmark = pytest.mark.engines

USERS = {12001: 34, 12002: 33, 12003: 33}

# Each line is one write: they are whole, and in the order in which things happened.
SCRIPT = """
import os, time
def note(what):
    row = "%s %s %d\\n" % (what, os.environ["RECHAIN_RUN_ID"], os.getuid())
    log = os.open({log!r}, os.O_WRONLY | os.O_APPEND)
    os.write(log, row.encode())
note("begin")
if os.path.exists("slow"):
    time.sleep(600)
time.sleep(0.02)
note("end")
"""

SUBMITTER = """
import sys
from rechain import AmlCompute, Chainer, ComputeTarget, Experiment, Workspace
count = int(sys.argv[1])
workspace = Workspace.local()
ComputeTarget.create(workspace, "cluster", AmlCompute.provisioning_configuration(max_nodes=2))
estimator = Chainer("code", entry_script="train.py", compute_target="cluster", user_managed=True)
experiment = Experiment(workspace, "crowd")
runs = [experiment.submit(estimator) for _ in range(count)]
for run in runs:
    run.wait_for_completion()
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that all users can reach, which those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="rechain-test-pool-"))
    folder.chmod(0o755)
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(folder / "queue"))
    monkeypatch.setenv("RECHAIN_HOME", str(folder / "0" / ".rechain"))
    monkeypatch.chdir(folder)
    yield folder
    left = [run for run in runs_of(folder) if not fold(run).end]
    for run in left:
        ask_to_stop(run, at_once=True)
    for run in left:
        wait_for(lambda run=run: not processes_of(run), "what a failed test has left to end")
    shutil.rmtree(folder)


def as_user(uid: int) -> dict[str, object]:
    return {"user": uid, "group": uid, "extra_groups": []}


def python_for_all() -> str:
    """Return an interpreter that other users may start, with Rechain's own code."""
    if os.geteuid() != 0:
        missing("root, who may act as three users")
    source = str(Path(rechain.__file__).parents[1])
    for python in (sys.executable, "/usr/bin/python3"):
        command = [python, "-c", "import rechain.workspace.submit"]
        try:
            subprocess.run(
                command, env={"PYTHONPATH": source}, cwd="/", check=True, **as_user(12001)
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    missing("Python that other users may start")
    raise AssertionError


def submitter(place: Path, uid: int, count: int, python: str) -> subprocess.Popen[bytes]:
    home = place / str(uid)
    (home / "code").mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(python)
    (home / "code" / "train.py").write_text(SCRIPT.format(log=str(place / "log")))
    for folder in (home, home / "code", home / "bin"):
        os.chown(folder, uid, uid)
    environment = {
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "HOME": str(home),
        "RECHAIN_HOME": str(home / ".rechain"),
        "PYTHONPATH": str(Path(rechain.__file__).parents[1]),
        "RECHAIN_POOL_DIR": os.environ["RECHAIN_POOL_DIR"],
    }
    return subprocess.Popen(
        [python, "-c", SUBMITTER, str(count)], cwd=home, env=environment, **as_user(uid)
    )


def runs_of(place: Path, uid: int | str = "*") -> list[RunPaths]:
    found = place.glob(f"{uid}/.rechain/experiments/crowd/crowd_*")
    return [RunPaths(str(path)) for path in found]


def test_a_hundred_runs_of_three_users_take_turns_on_two_nodes(place, monkeypatch) -> None:
    python = python_for_all()
    (place / "log").touch()
    (place / "log").chmod(0o666)
    # Two runs of root's hold both nodes until all the others wait.
    (place / "gate").mkdir()
    (place / "gate" / "gate.py").write_text(
        f"import os, time\nwhile not os.path.exists({str(place / 'open')!r}): time.sleep(0.02)\n"
    )
    python_folder = place / "0" / "bin"
    python_folder.mkdir(parents=True)
    (python_folder / "python").symlink_to(python)
    monkeypatch.setenv("PATH", f"{python_folder}:{os.environ['PATH']}")
    workspace = Workspace.local()
    ComputeTarget.create(workspace, "cluster", AmlCompute.provisioning_configuration(max_nodes=2))
    gates = []
    for _ in range(2):
        estimator = Chainer(
            "gate",
            entry_script="gate.py",
            compute_target="cluster",
            user_managed=True,
        )
        gates.append(Experiment(workspace, "crowd").submit(estimator))
    for gate in gates:
        wait_for(lambda gate=gate: gate.get_status() == "Running", "the first two to run")
    submitters = {uid: submitter(place, uid, count, python) for uid, count in USERS.items()}

    def queued() -> bool:
        runs = [run for uid in USERS for run in runs_of(place, uid)]
        return len(runs) == 100 and all(fold(run).status == "Queued" for run in runs)

    wait_for(queued, "a hundred runs to wait", 600)
    for process in submitters.values():  # all of them, in the midst of waiting for their runs
        process.send_signal(signal.SIGKILL)
        process.wait()
    # One of the hundred will be killed when its turn has come: it lasts until then.
    victim = sorted(runs_of(place, 12002), key=lambda run: run.run_id)[10]
    Path(victim.work, "slow").touch()
    (place / "open").touch()
    begun = f"begin {victim.run_id} "
    wait_for(lambda: begun in (place / "log").read_text(), "the victim's turn", 600)
    os.kill(fold(victim).last.attempt["supervisor"]["pid"], signal.SIGKILL)

    everyone = [(uid, run) for uid in USERS for run in runs_of(place, uid)]
    wait_for(lambda: all(fold(run).end for _, run in everyone), "all ends", 600)
    states = {run.run_id: fold(run) for _, run in everyone}
    # Nothing is lost: each has its end, and but for the one that was killed, a good one.
    causes = {run_id: state.end["cause"] for run_id, state in states.items()}
    assert len(causes) == 100
    assert causes.pop(victim.run_id) == "supervisor_lost"
    assert set(causes.values()) == {"completed"}
    # Never more than two at once, as the scripts themselves have seen it.
    rows = [line.split() for line in (place / "log").read_text().splitlines()]
    busy, most = set(), 0
    for what, run_id, _ in rows:
        if what == "end":
            busy.discard(run_id)
        else:
            busy.add(run_id)
        alive = busy - {victim.run_id}
        most = max(most, len(alive))
    assert most == 2
    assert busy == {victim.run_id}
    # Round robin: as long as all three wait, each third turn is the same user's.
    turns = sorted((states[run.run_id].last.nodes["turn"], uid) for uid, run in everyone)
    order = [uid for _, uid in turns]
    assert order == [*list(USERS) * 33, 12001]
    # Each user's own runs started as they were submitted.
    for uid in USERS:
        mine = sorted(
            runs_of(place, uid),
            key=lambda run: json.loads(Path(run.job).read_text())["submitted"]["time"],
        )
        taken = [states[run.run_id].last.nodes["turn"] for run in mine]
        assert taken == sorted(taken)
    for run in [*(run for _, run in everyone), *(RunPaths(gate.folder) for gate in gates)]:
        wait_for(lambda run=run: not processes_of(run), "the last guards to leave")
    assert os.listdir(place / "queue" / "tickets") == []
