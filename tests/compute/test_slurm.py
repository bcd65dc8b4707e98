"""Slurm as a compute target, on a real cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rechain import AmlCompute, Chainer, ComputeTarget, Experiment, Run, SlurmCompute, Workspace
from rechain.compute.slurm import SlurmTarget, queue
from rechain.compute.slurm.settings import Settings, request
from rechain.compute.target import StartError
from rechain.exceptions import ComputeTargetException, ExperimentExecutionException
from rechain.record import jsonl
from rechain.record.journal import fold
from rechain.record.requests import ask_to_stop
from rechain.testing import TargetConformance, make_run, wait_for, wait_for_end
from rechain.testing.runs import payload
from rechain.testing.slurm import SlurmCluster
from rechain.workspace.reconcile import reconcile

engines = pytest.mark.engines

PATIENCE = 120  # seconds; only ends a test that hangs

WAITS = (
    "import os, time\nopen('up', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.05)"
)


@pytest.fixture(autouse=True)
def cluster(slurm: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCluster:
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    return slurm


@pytest.fixture
def free(cluster: SlurmCluster) -> Iterator[None]:
    """Nothing of a test stays on the cluster."""
    yield
    cluster.run("scancel", f"--user={os.getuid()}")
    wait_for(lambda: not cluster.run("squeue", "--noheader").strip(), "an empty queue", PATIENCE)


def target(**settings: Any) -> SlurmTarget:
    return SlurmTarget("cluster", request(Settings(**settings).to_json()))


@engines
class TestSlurmTarget(TargetConformance):
    @pytest.fixture
    def target(self) -> SlurmTarget:
        return target()


Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path, free: None) -> Start:
    """Start a script on the cluster; returns the run and its job document."""

    def call(script: str, settings: dict[str, Any] | None = None, **fields: Any) -> Any:
        there = target(**(settings or {}))
        asked = request(Settings(**(settings or {})).to_json())
        run, job = make_run(tmp_path / "ws", script, target="cluster", slurm=asked, **fields)
        handle = there.start(there.plan(run, job), run, payload(job))
        jsonl.write_new(run.submission, {"schema": 1, "handle": handle})
        return run, job

    return call


def number(run: Any) -> str:
    return str(jsonl.read(run.submission)["handle"]["job"])


def up(run: Any) -> None:
    wait_for(lambda: os.path.exists(f"{run.work}/up"), "the script is up", PATIENCE)


def let_go(run: Any) -> None:
    open(f"{run.work}/go", "w").close()


def ended(run: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for the end, as a reader does; return it."""

    def end() -> Any:
        reconcile(run, job)
        return fold(run).end

    return dict(wait_for(end, "the end of the run", PATIENCE))


# How a run ends.


@engines
def test_slurm_records_the_exit_code_of_the_script(start, cluster) -> None:
    run, _ = start("import sys; sys.exit(3)")
    wait_for_end(run, PATIENCE)

    def code() -> bool:
        return cluster.job(number(run))["ExitCode"] == "3:0"

    wait_for(code, "Slurm to note the exit code", PATIENCE)


@engines
def test_scancel_by_somebody_is_told_from_other_ends(start, cluster) -> None:
    run, job = start(WAITS)
    up(run)
    cluster.run("scancel", number(run))
    end = ended(run, job)
    assert (end["cause"], end["message"]) == ("canceled", "canceled in Slurm (scancel)")
    assert fold(run).status == "Canceled"


@engines
def test_a_script_that_ends_itself_at_scancel_was_canceled_all_the_same(start, cluster) -> None:
    tidy = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
    run, job = start(tidy + WAITS)
    up(run)
    cluster.run("scancel", number(run))
    end = ended(run, job)
    assert (end["cause"], end["exit_code"]) == ("canceled", 5)


@engines
def test_a_run_that_slurm_ends_before_it_can_say_so(start, cluster) -> None:
    """SIGKILL to guard and supervisor at once: the scheduler's word counts."""
    run, job = start(WAITS)
    up(run)
    cluster.run("scancel", "--signal=KILL", "--full", number(run))
    assert ended(run, job)["cause"] in ("supervisor_lost", "canceled")


@engines
def test_cancel_takes_a_waiting_run_out_of_the_queue(start, cluster) -> None:
    run, job = start(WAITS, {"options": ["--hold"]})
    wait_for(lambda: reconcile(run, job).reason.startswith("job "), "it waits", PATIENCE)
    ask_to_stop(run)
    end = ended(run, job)
    assert (end["cause"], end["message"]) == (
        "canceled", "canceled while it waited in Slurm's queue",
    )  # fmt: skip
    assert cluster.job(number(run))["JobState"] == "CANCELLED"
    assert not os.path.exists(f"{run.work}/up")


@engines
def test_scancel_of_a_waiting_run(start, cluster) -> None:
    run, job = start(WAITS, {"options": ["--hold"]})
    cluster.run("scancel", number(run))
    assert ended(run, job)["message"] == "canceled in Slurm (scancel)"


@engines
def test_preempted_it_goes_on_as_the_next_attempt(start, cluster) -> None:
    low = {"partition": "low", "options": ["--exclusive"]}
    run, job = start(WAITS, low)
    up(run)
    node = fold(run).attempts[0].attempt["slurm"]["nodes"]
    os.unlink(f"{run.work}/up")
    cluster.run(
        "sbatch",
        "--partition=high",
        f"--nodelist={node}",
        "--exclusive",
        "--output=/dev/null",
        "--wrap=true",
    )
    first = wait_for(lambda: fold(run).attempts[0].end, "the end of the first attempt", PATIENCE)
    assert (first["cause"], first["requeue"]) == ("preempted", True)

    def waits() -> str:
        assert fold(run).end is None
        seen = reconcile(run, job)
        return seen.reason if seen is not None else ""

    wait_for(lambda: "BeginTime" in waits(), "it is in the queue again", PATIENCE)
    assert fold(run).status == "Queued"
    cluster.start_now(number(run))
    up(run)
    let_go(run)
    assert ended(run, job)["cause"] == "completed"
    assert fold(run).attempts[1].attempt["slurm"]["restarts"] == 1


@pytest.mark.matrix
def test_the_time_limit_of_slurm_itself(start) -> None:
    """Ours is exact and comes first; the cluster's own may be shorter. Slurm takes a minute."""
    run, job = start(WAITS, {"options": ["--time=1"]})
    up(run)
    wait_for(lambda: fold(run).end, "Slurm to look at the clock", 300)
    end = ended(run, job)
    assert (end["cause"], end["message"]) == ("time_limit", "the time limit of its Slurm job")


# Why it does not begin.


@engines
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hold"], "somebody held it: it will not start by itself: `scontrol release JOB`"),
        (["--begin=now+1hour"], "its earliest start is to come"),
    ],
)
def test_why_it_waits_is_said_in_words(start, options, said) -> None:
    run, job = start("pass", {"options": options})
    seen = wait_for(lambda: (s := reconcile(run, job)) and s.alive and s, "it waits", PATIENCE)
    wait_for(lambda: said in reconcile(run, job).reason, f"the words {said}", PATIENCE)
    assert seen.alive is True


@engines
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"partition": "nowhere"}, "no such partition: name one of `sinfo -o %P` in the"),
        ({"options": ["--gres=tape:1"]}, "no such gres: see the target's vm_size"),
        ({"options": ["--constraint=ib"]}, "no node has such a feature"),
        ({"options": ["--mem=99T"]}, "can give what it asks for: ask for less (--node-count"),
        ({"options": ["--nodelist=n9"]}, "the cluster has no node of that name"),
        ({"options": ["--reservation=x"]}, "the cluster has no such reservation"),
        ({"options": ["--licenses=x:1"]}, "the cluster has no such license"),
        ({"options": ["--nonsense"]}, "this sbatch has no such option"),
    ],
)
def test_what_slurm_does_not_take_is_said_with_what_to_do(start, settings, said) -> None:
    with pytest.raises(StartError, match=f"^Slurm does not take the job: .*{re.escape(said)}"):
        start("pass", settings)


@pytest.mark.matrix
def test_limits_of_partitions(start, tmp_path, monkeypatch) -> None:
    extra = (
        "PartitionName=short Nodes=ALL MaxTime=10\nPartitionName=one Nodes=ALL MaxNodes=1\n"
        "PartitionName=off Nodes=ALL State=INACTIVE\nEnforcePartLimits=ALL"
    )
    several = {"nodes": 2, "processes_per_node": 1, "communicator": "None"}
    with SlurmCluster(2, extra=extra) as other:
        for name, value in other.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StartError, match="its time limit is missing, or longer than it may"):
            start("pass", {"partition": "short"}, seconds=3600)
        with pytest.raises(StartError, match="more nodes than the partition gives to one job"):
            start("pass", {"partition": "one"}, distribution=several)
        with pytest.raises(StartError, match="the partition takes no jobs now"):
            start("pass", {"partition": "off"})


@engines
def test_python_must_be_on_the_node(start) -> None:
    run, job = start("pass", {"python": "/nonexistent/python"})
    end = ended(run, job)
    assert end["cause"] == "environment"
    assert "there is no Python at /nonexistent/python: name one that the nodes" in end["message"]


@engines
def test_a_python_that_is_too_old(start, tmp_path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run, job = start("pass", {"python": str(old)})
    assert "needs a Python 3.10 or newer" in ended(run, job)["message"]


@engines
def test_a_run_folder_that_the_node_does_not_see(start, tmp_path) -> None:
    run, job = start("pass", {"options": ["--begin=now+1hour"]})
    away = tmp_path / "away"
    os.rename(run.root, away)
    subprocess.run(
        ["scontrol", "update", f"jobid={jsonl.read(away / 'submission.json')['handle']['job']}",
         "starttime=now"], check=True,
    )  # fmt: skip
    there = target()
    wait_for(
        lambda: queue.look(os.getuid()).jobs[run.run_id].state == "FAILED", "its end", PATIENCE
    )
    shutil.rmtree(run.root, ignore_errors=True)  # Slurm 24.11 makes the folder of its log
    os.rename(away, run.root)
    end = there.poll([run])[run.run_id].end
    assert end["cause"] == "environment"
    assert "the nodes must see" in end["hint"].lower()
    assert ended(run, job)["cause"] == "environment"


@engines
def test_the_prologue_comes_first_and_its_variables_arrive(start, tmp_path) -> None:
    prologue = tmp_path / "site's own.sh"
    prologue.write_text("module() { :; }\nexport LOADED='a b'\n")
    run, job = start("import os; print(os.environ['LOADED'])", {"prologue": str(prologue)})
    assert ended(run, job)["cause"] == "completed"
    assert Path(run.attempt(1).stdout(0)).read_text() == "a b\n"


@engines
def test_a_prologue_that_fails(start, tmp_path) -> None:
    prologue = tmp_path / "site.sh"
    prologue.write_text("echo no such module >&2; false\n")
    run, job = start("pass", {"prologue": str(prologue)})
    end = ended(run, job)
    assert end["message"].endswith(f"the prologue {prologue} ended with 1")
    assert "no such module" in end["tail"]


# Variables.


@engines
def test_secrets_come_from_a_file_and_never_reach_slurm(
    start, tmp_path, cluster, monkeypatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2")
    file = tmp_path / "secrets"
    file.write_text("# mine\nMY_TOKEN=from the file\n")
    file.chmod(0o600)
    script = "import os; print(os.environ['MY_TOKEN'])"
    run, job = start(script, {"secrets": str(file)}, secrets=["MY_TOKEN"])
    assert ended(run, job)["cause"] == "completed"
    assert Path(run.attempt(1).stdout(0)).read_text() == "from the file\n"
    run, job = start("import os; print(os.environ.get('MY_TOKEN'))")
    assert ended(run, job)["cause"] == "completed"
    assert Path(run.attempt(1).stdout(0)).read_text() == "None\n"


@engines
@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("A=b", 0o600, "has no MY_TOKEN"),
        ("MY_TOKEN=x", 0o644, "others can read the file of secrets"),
    ],
)
def test_without_its_secrets_it_does_not_begin(start, tmp_path, text, mode, said) -> None:
    file = tmp_path / "secrets"
    file.write_text(text)
    file.chmod(mode)
    run, job = start("pass", {"secrets": str(file)}, secrets=["MY_TOKEN"])
    end = ended(run, job)
    assert end["cause"] == "environment"
    assert said in end["message"]


@engines
def test_without_a_file_of_secrets_nothing_is_submitted(start, cluster) -> None:
    with pytest.raises(StartError, match="needs the secret MY_TOKEN, which Slurm must not keep"):
        start("pass", secrets=["MY_TOKEN"])
    assert cluster.run("squeue", "--noheader").strip() == ""


# Slurm itself.


@engines
def test_a_restart_of_slurmctld_does_not_touch_a_run(start, cluster) -> None:
    run, job = start(WAITS)
    up(run)

    said: list[Any] = []

    def meanwhile() -> None:
        said.append(queue.look(os.getuid(), time.time()).error)
        said.append(reconcile(run, job))

    cluster.restart_controller(meanwhile=meanwhile)
    assert said[0].startswith("squeue")
    assert said[1].alive is None
    wait_for(lambda: target().poll([run])[run.run_id].alive, "it is known again", PATIENCE)
    let_go(run)
    assert ended(run, job)["cause"] == "completed"


@engines
def test_many_readers_share_one_squeue(start, tmp_path, monkeypatch) -> None:
    run, _ = start("pass", {"options": ["--hold"]})
    calls = tmp_path / "calls"
    folder = tmp_path / "counted"
    folder.mkdir()
    real = subprocess.check_output(["sh", "-c", "command -v squeue"], text=True).strip()
    (folder / "squeue").write_text(f'#!/bin/sh\necho x >> {calls}\nexec {real} "$@"\n')
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    moment = time.time()
    seen: list[Any] = []
    readers = [
        threading.Thread(target=lambda: seen.append(queue.look(os.getuid(), moment)))
        for _ in range(8)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert all(run.run_id in snapshot.jobs for snapshot in seen)
    assert len(seen) == 8
    first = calls.read_text().count("x")
    assert first < len(readers)  # one, unless a thread slept for longer than an answer is fresh
    assert target().poll([run] * 200)[run.run_id].alive is True
    assert calls.read_text().count("x") < first + 20


@engines
def test_found_by_its_name_when_its_number_was_never_recorded(start, tmp_path) -> None:
    run, job = start(WAITS)
    up(run)
    os.unlink(run.submission)
    code = (
        "import sys\nfrom rechain.record import jsonl\nfrom rechain.record.paths import RunPaths\n"
        "from rechain.compute import get\n"
        "run = RunPaths(sys.argv[1])\n"
        "print(get(jsonl.read(run.job)).poll([run])[run.run_id].alive)"
    )
    said = subprocess.check_output([sys.executable, "-c", code, run.root], text=True)
    assert said == "True\n"
    let_go(run)
    assert ended(run, job)["cause"] == "completed"


# By v1's names.


@pytest.fixture
def workspace(home: Path, free: None) -> Workspace:
    return Workspace.local()


def submitted(workspace: Workspace, compute_target: Any, script: str) -> Run:
    os.makedirs("code", exist_ok=True)
    Path("code/train.py").write_text(script)
    estimator = Chainer(
        "code", entry_script="train.py", compute_target=compute_target, user_managed=True,
        use_docker=False, environment_variables={"A": "b c"},
    )  # fmt: skip
    return Experiment(workspace, "x").submit(estimator)


@engines
def test_submitted_by_name_and_by_object(workspace) -> None:
    made = ComputeTarget.attach(workspace, "cluster", SlurmCompute.attach_configuration())
    assert isinstance(ComputeTarget(workspace, "cluster"), SlurmCompute)
    assert made.type == "Slurm"
    for compute_target in ("cluster", made):
        run = submitted(workspace, compute_target, "import os; print(os.environ['A'])")
        details = run.wait_for_completion()
        assert details["status"] == "Completed"
        assert details["target"] == "cluster"
        assert details["queuedSeconds"] >= 0
        assert Path(run._paths.attempt(1).stdout(0)).read_text() == "b c\n"


@engines
def test_a_waiting_run_is_queued_and_can_be_canceled(workspace) -> None:
    asked = SlurmCompute.attach_configuration(options=["--hold"])
    ComputeTarget.attach(workspace, "cluster", asked)
    run = submitted(workspace, "cluster", "pass")
    assert run.get_status() == "Queued"
    run.cancel()
    run.wait_for_completion()
    assert run.get_status() == "Canceled"


@engines
def test_what_slurm_refuses_is_said_and_recorded(workspace) -> None:
    asked = SlurmCompute.attach_configuration(partition="nowhere")
    ComputeTarget.attach(workspace, "cluster", asked)
    with pytest.raises(ExperimentExecutionException, match="Invalid partition name"):
        submitted(workspace, "cluster", "pass")
    assert next(workspace.get_runs()).get_status() == "Failed"


@engines
def test_what_slurm_will_never_start_is_said_as_such(start) -> None:
    nodes = {"nodes": 3, "processes_per_node": 1, "communicator": "Mpi"}
    try:
        run, job = start("pass", distribution=nodes)
    except StartError as error:  # Slurm 24.11 does not even take it
        refusal: str | None = str(error)
    else:
        refusal = None

    def said() -> str:
        return refusal or str(reconcile(run, job).reason)

    wait_for(lambda: "ask for less (--node-count" in said(), "its reason", PATIENCE)


# Environments that Rechain provides.


@engines
@pytest.mark.parametrize("prepare", ["job", "here"])
def test_an_environment_is_built_on_the_node_or_here(
    environments, workspace, tmp_path, prepare
) -> None:
    asked = SlurmCompute.attach_configuration(store=str(environments), prepare=prepare)
    ComputeTarget.attach(workspace, "cluster", asked)
    os.makedirs("code")
    Path("code/train.py").write_text(
        "import os, chainer\nprint(chainer.__version__, 'UV_CACHE_DIR' in os.environ)"
    )
    estimator = Chainer(
        "code", entry_script="train.py", compute_target="cluster", framework_version="7.0.0",
        use_docker=False,
    )  # fmt: skip
    run = Experiment(workspace, "x").submit(estimator)
    assert run.wait_for_completion()["status"] == "Completed"
    assert Path(run._paths.attempt(1).stdout(0)).read_text() == "7.0.0 False\n"
    prepared = os.path.exists(run._paths.attempt(1).prepare_result)
    if prepare == "here":
        assert not prepared


@engines
def test_what_cannot_be_built_here_is_said_before_anything_is_submitted(
    environments, workspace, cluster
) -> None:
    asked = SlurmCompute.attach_configuration(store=str(environments), prepare="here")
    ComputeTarget.attach(workspace, "cluster", asked)
    os.makedirs("code")
    Path("code/train.py").touch()
    estimator = Chainer(
        "code", entry_script="train.py", compute_target="cluster", framework_version="7.0.0",
        pip_packages=["numpy==0.0.1"], use_docker=False,
    )  # fmt: skip
    with pytest.raises(ExperimentExecutionException, match="environment cannot be built here"):
        Experiment(workspace, "x").submit(estimator)
    assert cluster.run("squeue", "--noheader").strip() == ""


@engines
def test_a_cluster_that_an_old_script_makes_is_a_share_of_the_default_one(workspace) -> None:
    sizes = {"tiny": {"cpus": 1, "memory": 0.1}}
    asked = SlurmCompute.attach_configuration(default=True, vm_sizes=sizes)
    ComputeTarget.attach(workspace, "cluster", asked)
    configuration = AmlCompute.provisioning_configuration(vm_size="tiny", max_nodes=2)
    made = ComputeTarget.create(workspace, "cpu-cluster", configuration)
    made.wait_for_completion(show_output=True)
    assert type(made) is AmlCompute
    run = submitted(workspace, made, WAITS)
    up(run._paths)
    assert run._job["slurm"]["cpus"] == 1
    assert made.get_status().node_state_counts["runningNodeCount"] == 1
    assert [node["runId"] for node in made.list_nodes()] == [run.id]
    assert [active.id for active in made.get_active_runs()] == [run.id]
    let_go(run._paths)
    assert run.wait_for_completion()["status"] == "Completed"
    wait_for(lambda: made.get_status().node_state_counts["idleNodeCount"] == 2, "it is free")
    with pytest.raises(ComputeTargetException, match="the target does not know"):
        other = AmlCompute.provisioning_configuration(vm_size="huge", max_nodes=1)
        ComputeTarget.create(workspace, "other", other)
