"""`rechain run` and `rechain show` on pools of nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rechain import AmlCompute, ComputeTarget, Workspace
from rechain.record.journal import fold
from rechain.testing import wait_for

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(tmp_path / "queue"))


def make(nodes: int = 1) -> None:
    configuration = AmlCompute.provisioning_configuration("Standard_D1_v2", max_nodes=nodes)
    ComputeTarget.create(Workspace.local(), "cluster", configuration)


def test_a_run_waits_and_says_for_what(train, run, rechain, latest, tmp_path) -> None:
    make()
    gate = tmp_path / "gate"
    train(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)")
    first = run("-d", "--target", "cluster", "code/train.py").stdout.strip()
    wait_for(lambda: latest().get_status() == "Running", "the first to run")
    second = run("-d", "--target", "cluster", "code/train.py").stdout.strip()
    wait_for(lambda: latest().get_status() == "Queued", "the second to wait")
    shown = rechain("show", second).stdout
    assert "status       Queued\n" in shown
    assert (
        "nodes        cluster, Standard_D1_v2: number 1 in line for 1 node of cluster, which has "
        f"1; they are with: {first} (" in shown
    )
    gate.touch()
    followed = rechain("logs", "-f", second)
    assert followed.returncode == 0
    shown = rechain("show", second).stdout
    assert "nodes        cluster, Standard_D1_v2 · 1 node · core" in shown


def test_in_the_foreground_it_says_why_it_waits(train, run, start, latest, tmp_path) -> None:
    make()
    gate = tmp_path / "gate"
    train(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)")
    run("-d", "--target", "cluster", "code/train.py")
    wait_for(lambda: latest().get_status() == "Running", "the first to run")
    said = tmp_path / "said"
    with said.open("w") as file:
        arguments = ("--user-managed", "--target", "cluster", "code/train.py")
        second = start("run", *arguments, stderr=file)
    # Not before it has said so: it looks when it gets to it, and the line may be empty by then.
    wait_for(lambda: "number 1 in line" in said.read_text(), "the second to say why it waits")
    gate.touch()
    assert second.wait(60) == 0


def test_a_pool_of_the_run_s_own(train, run, latest) -> None:
    train("import os; print(len(os.sched_getaffinity(0)))")
    done = run("--vm-size", "standard_d1_v2", "code/train.py")
    assert (done.stdout, done.returncode) == ("1\n", 0)
    assert latest().get_details()["target"] == "amlcompute"


def test_a_plan_shows_the_pool(train, run) -> None:
    make(3)
    done = run("--dry-run", "--target", "cluster", "--node-count", "2", "code/train.py")
    assert "target       cluster\n" in done.stdout
    assert "ranks        2 ranks on 2 nodes\n" in done.stdout
    assert (
        "nodes        3 in all, dedicated, Standard_D1_v2 (1 CPUs, 3.5 GiB, 0 GPUs)\n"
        in done.stdout
    )
    plan = run("--dry-run", "--json", "--vm-size", "Standard_NC6", "code/train.py").stdout
    assert json.loads(plan)["pool"]["gpus"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "nix"], "there is no compute target 'nix'"),
        (["--vm-size", "Standard_X"], "known: Standard_D1_v2, "),
        (["--target", "cluster", "--node-count", "2"], "'cluster' has 1 nodes (max_nodes)"),
        (["--node-count", "2"], '--node-count is 2, but --target "local" is one node'),
    ],
)
def test_what_cannot_be_had(train, run, options, message) -> None:
    make()
    done = run(*options, "code/train.py")
    assert done.returncode == 125
    assert message in done.stderr
    assert list(Workspace.local().get_runs()) == []


def test_a_preempted_run_is_attended_to_its_real_end(train, run, start, latest, tmp_path) -> None:
    make()
    gate = tmp_path / "gate"
    train(
        "import os, time\nattempt = os.environ['RECHAIN_ATTEMPT'][-1]\n"
        "print('attempt', attempt, flush=True)\n"
        "time.sleep(600 * (attempt == '1'))"
    )
    options = ("--user-managed", "--target", "cluster", "--grace", "1s")
    low = start("run", *options, "--vm-priority", "lowpriority", "code/train.py")
    assert low.stdout.readline() == "attempt 1\n"
    low_run = latest()
    train(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)", "x/x.py")
    run("-d", "--target", "cluster", "x/x.py")
    wait_for(lambda: latest().get_status() == "Running", "the dedicated run to have the node")
    seen = wait_for(lambda: fold(low_run._paths).attempts[1:], "the next attempt")
    wait_for(lambda: fold(low_run._paths).last.state == "Queued", "it to wait")
    assert seen[0].number == 2
    while "number 1 in line" not in (line := low.stderr.readline()):
        assert line, "it ended without saying so"
    gate.touch()
    out, said = low.communicate(timeout=60)
    assert (out, low.returncode) == ("attempt 2\n", 0)
    assert said.splitlines()[-2].startswith("completed after")
