"""Runs on an AmlCompute: a pool of virtual nodes that the whole machine shares."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from rechain import AmlCompute, ComputeTarget, Run, Workspace
from rechain.record.journal import fold
from rechain.record.paths import RunPaths
from rechain.supervisor import pool
from rechain.testing import processes_of, wait_for, wait_for_end
from tests.conftest import missing

pytestmark = pytest.mark.fast

WAIT = "import os, time\nwhile not os.path.exists({!r}): time.sleep(0.01)\n"


@pytest.fixture(autouse=True)
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A queue of the test's own."""
    folder = tmp_path / "queue"
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(folder))
    return folder


def make(name: str = "cluster", nodes: int = 1, **settings: Any) -> ComputeTarget:
    configuration = AmlCompute.provisioning_configuration(max_nodes=nodes, **settings)
    return ComputeTarget.create(Workspace.local(), name, configuration)


def paths(run: Run) -> RunPaths:
    return RunPaths(run.folder)


def status(run: Run, wanted: str) -> None:
    wait_for(lambda: run.get_status() == wanted, f"{run.id} to be {wanted}")


def ended(run: Run) -> dict[str, Any]:
    """Wait for the end, and until nobody is left of it."""
    end = wait_for_end(paths(run)).end
    wait_for(lambda: not processes_of(paths(run)), "the run's processes to leave")
    return end


def said(run: Run, attempt: int = 1, stream: str = "out") -> str:
    return Path(run.folder, "attempts", str(attempt), f"0.{stream}").read_text()


def test_runs_wait_for_a_node_and_say_so(submit, tmp_path, queue) -> None:
    make()
    gate = tmp_path / "gate"
    first = submit(WAIT.format(str(gate)), compute_target="cluster")
    status(first, "Running")
    second = submit("print('hi')", compute_target="cluster")
    third = submit("print('hi')", compute_target=ComputeTarget(Workspace.local(), "cluster"))
    status(second, "Queued")
    status(third, "Queued")
    assert pool.why("cluster", first.id) == ""
    assert pool.why("cluster", second.id).startswith("number 1 in line for 1 node of cluster")
    assert first.id in pool.why("cluster", third.id)
    gate.touch()
    assert [ended(run)["cause"] for run in (first, second, third)] == ["completed"] * 3
    assert said(third) == "hi\n"
    turns = [fold(paths(run)).last.nodes["turn"] for run in (first, second, third)]
    assert turns == sorted(turns)
    assert os.listdir(queue / "tickets") == []


def test_a_queued_run_can_be_canceled(submit, tmp_path) -> None:
    make()
    gate = tmp_path / "gate"
    first = submit(WAIT.format(str(gate)), compute_target="cluster")
    status(first, "Running")
    second, third = (submit("print('hi')", compute_target="cluster") for _ in range(2))
    status(third, "Queued")
    second.cancel()
    assert ended(second)["cause"] == "canceled"
    assert not Path(second.folder, "attempts/1/0.out").exists()
    gate.touch()
    assert ended(third)["cause"] == "completed"


@pytest.mark.parametrize("victim", ["supervisor", "guard"])
def test_a_killed_run_gives_its_node_back(submit, victim) -> None:
    make()
    first = submit("import time; time.sleep(600)", compute_target="cluster")
    status(first, "Running")
    second = submit("print('hi')", compute_target="cluster")
    status(second, "Queued")
    os.kill(fold(paths(first)).last.attempt[victim]["pid"], signal.SIGKILL)
    assert ended(first)["cause"] == "supervisor_lost"
    assert ended(second)["cause"] == "completed"


def test_guard_and_supervisor_killed_at_once_give_their_node_back(submit) -> None:
    make()
    first = submit("import time; time.sleep(600)", compute_target="cluster")
    status(first, "Running")
    second = submit("print('hi')", compute_target="cluster")
    status(second, "Queued")
    attempt = fold(paths(first)).last.attempt
    for who in ("guard", "supervisor"):
        os.kill(attempt[who]["pid"], signal.SIGSTOP)
    for who in ("guard", "supervisor"):
        os.kill(attempt[who]["pid"], signal.SIGKILL)
    assert ended(second)["cause"] == "completed"
    status(first, "Failed")


@pytest.mark.parametrize("victim", ["supervisor", "guard"])
def test_the_first_in_line_may_die(submit, tmp_path, victim) -> None:
    make()
    gate = tmp_path / "gate"
    first = submit(WAIT.format(str(gate)), compute_target="cluster")
    status(first, "Running")
    second, third = (submit("print('hi')", compute_target="cluster") for _ in range(2))
    status(second, "Queued")
    status(third, "Queued")
    os.kill(fold(paths(second)).last.attempt[victim]["pid"], signal.SIGKILL)
    assert ended(second)["cause"] == "supervisor_lost"
    gate.touch()
    assert ended(third)["cause"] == "completed"


def test_a_lowpriority_run_yields_and_goes_on_as_the_next_attempt(submit, tmp_path) -> None:
    gate = tmp_path / "gate"
    make("cheap")
    low = submit(
        """
        import os, signal, sys
        attempt = os.environ["RECHAIN_ATTEMPT"].rpartition("/")[2]
        if attempt == "1":
            def leave(*_):
                open("checkpoint", "w").write("halfway")
                sys.exit(0)
            signal.signal(signal.SIGTERM, leave)
            print("ready", flush=True)
            signal.pause()
        print(attempt, open("checkpoint").read())
        """,
        compute_target="cheap",
        vm_priority="lowpriority",
    )
    wait_for(lambda: Path(low.folder, "attempts/1/0.out").exists() and said(low), "the script")
    high = submit(WAIT.format(str(gate)), compute_target="cheap")
    status(high, "Running")
    status(low, "Queued")
    gate.touch()
    assert ended(high)["cause"] == "completed"
    assert ended(low)["cause"] == "completed"
    assert said(low, 2) == "2 halfway\n"
    first, second = fold(paths(low)).attempts
    assert (first.end["cause"], first.end["requeue"]) == ("preempted", True)
    assert first.attempt["guard"] == second.attempt["guard"]
    assert low.get_status() == "Completed"


def test_a_preempted_run_can_be_canceled_while_it_waits(submit, tmp_path) -> None:
    gate = tmp_path / "gate"
    make("cheap", vm_priority="lowpriority")
    low = submit("import time; time.sleep(600)", compute_target="cheap")
    status(low, "Running")
    high = submit(WAIT.format(str(gate)), compute_target="cheap", vm_priority="dedicated")
    status(high, "Running")
    low.cancel()
    assert ended(low)["cause"] == "canceled"
    gate.touch()
    assert ended(high)["cause"] == "completed"


LIMITS = """
import json, os, resource
try:
    block = bytearray(5 << 30)
    got = True
except MemoryError:
    got = False
print(json.dumps({
    "cores": sorted(os.sched_getaffinity(0)), "5 GiB": got,
    "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
}))
"""


def test_a_size_is_what_the_script_gets(submit) -> None:
    """One core, 3.5 GiB: seen from inside."""
    if len(os.sched_getaffinity(0)) < 2:
        missing("second core")
    run = submit(LIMITS, compute_target=None, vm_size="standard_d1_v2")
    assert ended(run)["cause"] == "completed"
    found = json.loads(said(run))
    assert len(found["cores"]) == 1
    assert found["5 GiB"] is False
    assert found["gpus"] == ""
    applied = fold(paths(run)).last.nodes
    assert applied["cores"] == found["cores"]
    assert applied["memory_bytes"] == int(3.5 * 2**30)
    assert applied["memory_by"] in ("cgroup", "rlimit")


def test_two_runs_do_not_share_a_core(submit, tmp_path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        missing("second core")
    gate = tmp_path / "gate"
    runs = [
        submit(WAIT.format(str(gate)) + LIMITS, compute_target=None, vm_size="Standard_D1_v2")
        for _ in range(2)
    ]
    for run in runs:
        status(run, "Running")
    gate.touch()
    cores = []
    for run in runs:
        assert ended(run)["cause"] == "completed"
        cores += json.loads(said(run))["cores"]
    assert len(set(cores)) == 2


def test_what_the_machine_does_not_have_is_said(submit) -> None:
    run = submit("", compute_target=None, vm_size="Standard_ND40rs_v2")
    assert ended(run)["cause"] == "completed"
    notes = "\n".join(fold(paths(run)).last.notes)
    assert "40 CPUs each; this machine has" in notes
    assert "8 GPUs each; this machine has none" in notes
    assert "672 GiB of memory each; this machine has" in notes


def test_without_a_size_nothing_is_limited(submit) -> None:
    make(nodes=3)
    run = submit(LIMITS.replace("5 << 30", "1"), compute_target="cluster")
    assert ended(run)["cause"] == "completed"
    found = json.loads(said(run))
    assert found["cores"] == sorted(os.sched_getaffinity(0))
    assert found["gpus"] == os.environ.get("CUDA_VISIBLE_DEVICES")
    assert fold(paths(run)).last.notes == []


def test_gpus_of_a_fake_nvidia_smi_are_leased_to_one_run_at_a_time(
    submit, tmp_path, fake_gpu
) -> None:
    fake_gpu("0, GPU-a", "1, GPU-b")
    gate = tmp_path / "gate"
    make(nodes=4, vm_size="Standard_NC6")
    script = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n"
    runs = [submit(script + WAIT.format(str(gate)), compute_target="cluster") for _ in range(2)]
    for run in runs:
        status(run, "Running")
    third = submit(script, compute_target="cluster")
    status(third, "Queued")  # there are nodes for it, but no GPU
    gate.touch()
    for run in (*runs, third):
        assert ended(run)["cause"] == "completed"
    assert {said(run).strip() for run in runs} == {"GPU-a", "GPU-b"}
    assert said(third).strip() in ("GPU-a", "GPU-b")


def test_of_a_fake_nvidia_smi_only_the_gpus_that_the_user_left_visible(
    submit, fake_gpu, monkeypatch
) -> None:
    fake_gpu("0, GPU-a", "1, GPU-b", "2, GPU-c")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-c,1,9,0")
    script = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    run = submit(script, compute_target=None, vm_size="Standard_NC24")
    assert ended(run)["cause"] == "completed"
    assert said(run).strip() == "GPU-c,GPU-b"


def test_a_queue_that_cannot_be_used_is_one_clear_error(submit, queue) -> None:
    queue.write_text("not a folder")
    make()
    end = ended(submit("", compute_target="cluster"))
    assert end["cause"] == "environment"
    assert str(queue) in end["message"]


WHOLE = {
    "pool": "cluster", "run_id": "x", "nodes": 1, "max_nodes": 1, "priority": "dedicated",
    "submitted": 0, "visible": [], "wants_gpus": 0, "boot": "an earlier one",
    "guard": {"pid": 1, "start": 1}, "supervisor": {"pid": 1, "start": 1}, "running": True,
    "since": 0.0, "turn": 0, "cores": [], "gpus": [],
}  # fmt: skip


def test_what_is_no_ticket_or_an_old_one_is_no_harm(submit, queue) -> None:
    (queue / "tickets").mkdir(parents=True)
    (queue / "turns").mkdir()
    (queue / "tickets" / "empty").touch()
    (queue / "tickets" / "list").write_text("[1]")
    (queue / "tickets" / "half").write_text('{"pool": "cluster", "nodes": "many"}')
    (queue / "tickets" / "odd").write_text(json.dumps({**WHOLE, "nodes": "many"}))
    (queue / "tickets" / "dead").write_text(json.dumps({**WHOLE, "pool": "cluster"}))
    (queue / "tickets" / "link").symlink_to(queue / "tickets" / "odd")
    os.mkfifo(queue / "tickets" / "pipe")
    (queue / "turns" / "0.cluster").write_text("x")
    os.mkfifo(queue / "turns" / "1.cluster")
    make()
    assert ended(submit("", compute_target="cluster"))["cause"] == "completed"
    assert sorted(os.listdir(queue / "tickets")) == [
        "empty",
        "half",
        "link",
        "list",
        "odd",
        "pipe",
    ]


def test_a_queue_that_is_tidied_away_ends_no_run(submit, queue, tmp_path) -> None:
    """As some systems do with /var/tmp."""
    make(vm_priority="lowpriority")
    gate = tmp_path / "gate"
    run = submit(WAIT.format(str(gate)), compute_target="cluster")
    status(run, "Running")
    shutil.rmtree(queue)
    run.tag("wakes", "the supervisor")
    gate.touch()
    assert ended(run)["cause"] == "completed"


@pytest.mark.parametrize("name", ["", "tickets", "turns"])
def test_a_link_in_place_of_the_queue_is_not_followed(submit, queue, tmp_path, name) -> None:
    """Another user may have laid it, so that we write where only we may."""
    trap = tmp_path / "trap"
    trap.mkdir()
    if name:
        queue.mkdir()
    (queue / name).symlink_to(trap)
    make()
    end = ended(submit("", compute_target="cluster"))
    assert end["cause"] == "environment"
    assert "it must be a folder" in end["message"]
    assert list(trap.iterdir()) == []


def test_a_link_in_place_of_a_turn_is_not_followed(submit, queue, tmp_path) -> None:
    (queue / "turns").mkdir(parents=True)
    trap = tmp_path / "trap"
    trap.write_text("5")
    (queue / "turns" / f"{os.getuid()}.cluster").symlink_to(trap)
    make()
    assert ended(submit("", compute_target="cluster"))["cause"] == "completed"
    assert trap.read_text() == "5"
