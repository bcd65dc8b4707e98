"""Clusters on the command line: `rechain target`, `rechain targets`, `rechain run --target`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from rechain.cli import shared
from rechain.record.journal import fold
from rechain.testing import wait_for
from rechain.testing.slurm import SlurmCluster
from tests.conftest import missing

PATIENCE = 120  # seconds; only ends a test that hangs

fast = pytest.mark.fast
engines = pytest.mark.engines


# What is known of a cluster.


@fast
def test_a_target_is_added_shown_listed_and_removed(rechain, home) -> None:
    (home / "site.sh").touch()
    added = rechain(
        "target", "add", "lab", "--slurm", "--partition", "gpu", "--account", "us",
        "--vm-size", "STANDARD_NC6", "--vm-size", "big=cpus:8,memory:64,gres:gpu:2",
        "--prologue", "site.sh", "--sbatch-option=--exclusive",
    )  # fmt: skip
    assert added.returncode == 0
    assert "note: this machine has no" not in added.stderr
    assert added.stdout == "lab: `rechain run --target lab SCRIPT` runs there\n"
    shown = rechain("target", "show", "lab").stdout
    assert shown == (
        "target     lab\n"
        "kind       Slurm\n"
        "partition  gpu\n"
        "account    us\n"
        "vm size    STANDARD_NC6\n"
        "vm sizes   big: gres gpu:2, cpus 8, memory 64\n"
        f"prologue   {home}/site.sh\n"
        "prepare    job\n"
        "mpi        auto\n"
        "options    --exclusive\n"
        f"file       {home}/.rechain/compute/lab.json\n"
    )
    assert json.loads(rechain("target", "show", "--json", "lab").stdout)["partition"] == "gpu"
    assert rechain("targets").stdout == (
        "target  kind\n"
        "local   this machine  as it is\n"
        "lab     Slurm         partition gpu\n"
    )  # fmt: skip
    assert json.loads(rechain("targets", "--json").stdout)[0]["name"] == "lab"
    assert rechain("target", "rm", "lab").stdout == "lab is forgotten; its runs go on\n"
    gone = rechain("target", "show", "lab")
    assert gone.returncode == 1
    assert "there is no compute target 'lab'" in gone.stderr


@fast
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lab",), "Missing option '--slurm'"),
        (("local", "--slurm"), "name is 'local', which means something else already"),
        (("a b", "--slurm"), "a compute target's name is at most 64 letters"),
        (("lab", "--slurm", "--vm-size", "a", "--vm-size", "b"), "one size can be the default"),
        (("lab", "--slurm", "--vm-size", "x=cpus"), "'x=cpus' describes no size"),
        (("lab", "--slurm", "--prologue", "none.sh"), "there is no such file"),
        (("lab", "--slurm", "--sbatch-option=-N 2"), "is set by Rechain itself"),
    ],
)
def test_a_target_that_cannot_be(rechain, arguments, said) -> None:
    answer = rechain("target", "add", *arguments)
    assert answer.returncode != 0
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


@fast
def test_a_pool_is_not_replaced_by_a_cluster(rechain) -> None:
    from rechain import AmlCompute, ComputeTarget, Workspace

    pool = AmlCompute.provisioning_configuration(max_nodes=2)
    ComputeTarget.create(Workspace.local(), "lab", pool)
    answer = rechain("target", "add", "lab", "--slurm")
    assert answer.returncode == 1
    assert "is a pool of this machine" in answer.stderr
    assert "nodes of this machine  up to 2, dedicated" in rechain("targets").stdout
    assert "max nodes" in rechain("target", "show", "lab").stdout


@fast
def test_a_dry_run_shows_the_batch_script_and_asks_nobody(rechain, train, home) -> None:
    rechain("target", "add", "lab", "--slurm", "--lowpriority-qos", "spare")
    planned = rechain(
        "run", "--dry-run", "--user-managed", "--target", "lab", "--vm-size", "Standard_NC6",
        "--vm-priority", "lowpriority", "--time-limit", "1h", "code/train.py", env={**os.environ,
        "PATH": f"{os.path.dirname(sys.executable)}:/nonexistent"},
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr
    assert "supervisor   sbatch --parsable\n\n#!/bin/bash\n" in planned.stdout
    for option in ("--gres=gpu:1", "--cpus-per-task=6", "--qos=spare", "--time=63", "--requeue"):
        assert f"\n#SBATCH {option}\n" in planned.stdout
    assert not (home / ".rechain" / "experiments").exists() or not os.listdir(
        home / ".rechain" / "experiments"
    )


@fast
def test_a_dry_run_says_that_each_node_has_a_container(rechain, train) -> None:
    rechain("target", "add", "lab", "--slurm")
    nodes = ["--node-count", "2", "-n", "2", "--target", "lab", "--framework-version", "7.0.0"]
    for options in (["--docker"], ["--image", "lab/chainer:7"]):
        planned = rechain("run", "--dry-run", *nodes, *options, "code/train.py")
        assert planned.returncode == 0, planned.stderr
        assert "ranks        4 ranks on 2 nodes, in a container on each\n" in planned.stdout
        assert "note" not in planned.stdout
    planned = rechain("run", "--dry-run", *nodes, "code/train.py")
    assert "ranks        4 ranks on 2 nodes\n" in planned.stdout


@fast
def test_without_slurm_on_this_machine_it_says_so(rechain, train) -> None:
    rechain("target", "add", "lab", "--slurm")
    folder = os.path.dirname(sys.executable)
    answer = rechain(
        "run", "--user-managed", "--target", "lab", "code/train.py",
        env={**os.environ, "PATH": folder},
    )  # fmt: skip
    assert answer.returncode == 125
    assert "there is no sbatch on PATH: is this a login node of the cluster?" in answer.stderr


@fast
def test_a_python_that_this_machine_lacks_is_said(rechain) -> None:
    added = rechain("target", "add", "lab", "--slurm", "--python", "/nonexistent/python")
    assert added.returncode == 0
    assert "note: this machine has no /nonexistent/python: the nodes must have it" in added.stderr


@fast
def test_with_a_fake_sbatch_slurm_that_is_not_configured(rechain, train, tmp_path) -> None:
    bin_ = tmp_path / "unconfigured"
    bin_.mkdir()
    (bin_ / "sbatch").write_text(
        "#!/bin/sh\n"
        "echo 'sbatch: error: fetch_config: DNS SRV lookup failed' >&2\n"
        "echo 'sbatch: fatal: Could not establish a configuration source' >&2\nexit 1\n"
    )
    (bin_ / "sbatch").chmod(0o755)
    env = {
        **os.environ, "PATH": f"{bin_}:{os.path.dirname(sys.executable)}:/usr/bin:/bin",
        "RECHAIN_CACHE": str(tmp_path / "cache"), "RECHAIN_ENGINE": "nothing",
        "UV_DEFAULT_INDEX": "http://127.0.0.1:1/simple",
    }  # fmt: skip
    cure = "go to a login node of the cluster, or set SLURM_CONF to the cluster's slurm.conf"
    assert cure in rechain("target", "add", "lab", "--slurm", env=env).stderr
    assert cure in rechain("target", "check", "lab", env=env).stdout
    ran = rechain("run", "--user-managed", "--target", "lab", "code/train.py", env=env)
    assert ran.returncode == 125
    assert cure in ran.stderr
    told = json.loads(rechain("doctor", "--json", env=env).stdout)
    assert [check["state"] for check in told if check["name"] == "slurm"] == ["broken"]


@fast
def test_who_waits_for_a_silent_fake_cluster_is_told_at_once(monkeypatch) -> None:
    said: list[str] = []
    told = threading.Event()

    def say(text: str, err: bool) -> None:
        said.append(text)
        told.set()

    def look() -> tuple[str, str]:
        assert told.wait(PATIENCE)  # it answers when that was said
        return "", "Slurm does not answer (squeue: 10 s)"

    monkeypatch.setattr(shared, "_AT_ONCE", 0.01)
    monkeypatch.setattr(shared.click, "echo", say)
    run = SimpleNamespace(id="x_1", _job={"slurm": {"partition": None}}, _look=look)
    sees = shared.Look(run, "still trying")
    assert (sees(), sees()) == ("", "")
    assert said == [
        "x_1  waiting for an answer of Slurm",
        "x_1  Slurm does not answer (squeue: 10 s); still trying",
    ]


# On a cluster.


@pytest.fixture
def lab(rechain, slurm: SlurmCluster, tmp_path: Path, monkeypatch) -> Iterator[SlurmCluster]:
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    rechain("target", "add", "lab", "--slurm")
    yield slurm
    slurm.run("scancel", f"--user={os.getuid()}")
    wait_for(lambda: not slurm.run("squeue", "--noheader").strip(), "an empty queue", PATIENCE)


@engines
def test_output_exit_code_and_cause_come_through(train, run, rechain, lab) -> None:
    train("import sys\nprint('out')\nprint('err', file=sys.stderr)\nraise KeyError('k')")
    answer = run("--target", "lab", "code/train.py")
    assert answer.returncode == 1
    assert answer.stdout == "out\n"
    assert "err\n" in answer.stderr
    assert "user error (exit 1, KeyError at train.py:4) after " in answer.stderr
    assert " in the queue" in answer.stderr
    shown = rechain("show").stdout
    assert "nodes        lab · job " in shown
    assert " · on n" in shown
    assert "queued       " in shown


@engines
def test_a_waiting_run_says_why_and_ctrl_c_takes_it_back(
    train, start, rechain, lab, latest, home
) -> None:
    rechain("target", "add", "held", "--slurm", "--sbatch-option=--hold")
    process = start("run", "--user-managed", "--target", "held", "code/train.py")
    said = ""
    while "scontrol release" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    assert "held · job " in said
    assert latest().get_status() == "Queued"
    assert "somebody held it" in rechain("show").stdout
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    queued = json.loads(rechain("show", "--json").stdout)["queuedSeconds"]
    assert queued >= 3  # it said why it waits only then
    assert re.search(r"canceled while it waited in Slurm's queue after [1-9].* in the q", rest)
    assert lab.run("squeue", "--noheader").strip() == ""


@engines
@pytest.mark.parametrize("options", [(), ("--no-wait",)])
def test_cancel_of_a_waiting_run(train, run, rechain, lab, latest, options) -> None:
    rechain("target", "add", "held", "--slurm", "--sbatch-option=--hold")
    run("-d", "--target", "held", "code/train.py")
    rechain("cancel", *options, "latest")
    assert latest().get_status() == "Canceled"
    assert lab.run("squeue", "--noheader").strip() == ""


@engines
def test_a_run_whose_cluster_is_gone_can_be_left_and_given_up(
    train, run, start, rechain, latest, slurm, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    rechain("target", "add", "held", "--slurm", "--sbatch-option=--hold")
    with SlurmCluster(1) as other:
        for name, value in other.environment.items():
            monkeypatch.setenv(name, value)
        run("-d", "--target", "held", "code/train.py")
        number = latest().submission()["handle"]["job"]
        attended = start("run", "--user-managed", "--target", "held", "code/train.py")
        wait_for(lambda: len(rechain("runs").stdout.splitlines()) == 3, "two runs", PATIENCE)
        wait_for(lambda: latest().submission().get("handle"), "it is submitted", PATIENCE)
    rechain("target", "rm", "held")
    said = ""
    while "still trying; Ctrl-C twice leaves it" not in said:
        line = attended.stderr.readline()
        assert line, said
        said += line
    attended.send_signal(signal.SIGTERM)
    request = f"{latest()._paths.requests}/cancel"
    wait_for(lambda: os.path.exists(request), "it heard", PATIENCE)
    attended.send_signal(signal.SIGTERM)
    rest = attended.communicate(timeout=PATIENCE)[1]
    assert attended.returncode == 128 + signal.SIGTERM
    assert f"left as it is; to give it up: rechain rm --force {latest().id}" in rest
    first = next(it for it in latest().experiment.get_runs() if it.id != latest().id)
    waiting = start("cancel", first.id)
    line = waiting.stderr.readline()
    if line == f"{first.id}  waiting for an answer of Slurm\n":  # it had to, for a while
        line = waiting.stderr.readline()
    assert line.startswith(f"{first.id}  Slurm does not answer (squeue ")
    assert line.endswith("); still trying; Ctrl-C leaves it\n")
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=PATIENCE)
    assert rechain("cancel", "--no-wait", first.id).returncode == 0
    refused = rechain("rm", "-y", first.id)
    assert refused.returncode == 1
    assert refused.stderr.endswith(f"to give it up: rechain rm --force {first.id}\n")
    gone = rechain("rm", "-y", "--force", first.id)
    assert gone.stdout == f"deleted {first.id}\n"
    assert f"note: job {number} may still run on the cluster" in gone.stderr
    assert not os.path.exists(first.folder)


@engines
def test_force_does_not_give_up_a_run_that_slurm_knows(train, run, rechain, lab, latest) -> None:
    rechain("target", "add", "held", "--slurm", "--sbatch-option=--hold")
    run("-d", "--target", "held", "code/train.py")
    refused = rechain("rm", "-y", "--force", "latest")
    assert refused.returncode == 1
    assert "first end it with: rechain cancel" in refused.stderr
    assert os.path.exists(latest().folder)
    rechain("cancel", "latest")


@engines
def test_cancel_of_a_running_run(train, run, rechain, lab, latest) -> None:
    train("import time\nopen('up', 'w').close()\ntime.sleep(600)")
    run("-d", "--target", "lab", "code/train.py")
    wait_for(lambda: os.path.exists(f"{latest()._paths.work}/up"), "the script is up", PATIENCE)
    assert "canceled" in rechain("cancel", "latest").stdout
    assert fold(latest()._paths).end["cause"] == "canceled"


@engines
def test_the_submitter_may_die(train, start, rechain, lab, latest) -> None:
    train(
        "import os, time\nprint('first', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.05)\nprint('last')"
    )
    process = start("run", "--user-managed", "--target", "lab", "code/train.py")
    assert process.stdout.readline() == "first\n"
    process.kill()
    (Path(latest()._paths.work) / "go").touch()
    followed = rechain("logs", "-f")
    assert followed.stdout == "first\nlast\n"
    assert latest().get_status() == "Completed"


@engines
def test_check_says_in_words_what_a_cluster_is_like(rechain, lab, home) -> None:
    mpiexec = shutil.which("mpiexec.openmpi")
    if mpiexec is None:
        missing("mpiexec.openmpi")
    (home / "bin").mkdir()
    (home / "bin" / "mpiexec").symlink_to(mpiexec)
    (home / "site.sh").write_text(f"export PATH='{home}/bin':$PATH\n")
    rechain("target", "add", "lab", "--slurm", "--prologue", "site.sh")
    answer = rechain("target", "check", "lab", timeout=300)
    said = answer.stdout
    assert re.search(r"^ok    commands    slurm", said, re.MULTILINE)
    assert re.search(r"^note  grace       when Slurm ends a job, .* 20 sec", said, re.MULTILINE)
    assert re.search(r"^note  accounting  none; an ended job is known", said, re.MULTILINE)
    assert re.search(r"^ok    partition   main: UP, 2 nodes", said, re.MULTILINE)
    assert re.search(r"^ok    start       [\d.]+ s from sbatch", said, re.MULTILINE)
    assert re.search(r"^ok    node        n\d: Python 3\.\d+\.\d+, glibc", said, re.MULTILINE)
    assert re.search(r"^(ok  |note)  files       shared; at most [\d.]+ s", said, re.MULTILINE)
    assert re.search(r"^(ok  |FAIL)  packages    a node", said, re.MULTILINE)
    assert re.search(
        r"^ok    two nodes   two ranks on two nodes by (mpirun|srun)", said, re.MULTILINE
    )
    assert answer.returncode == ("FAIL" in said)
    assert os.listdir(home / ".rechain" / "experiments") == []


@engines
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--partition", "nowhere"), "there is no partition 'nowhere'; there is: main, "),
        (("--python", "/nonexistent"), "there is no Python at /nonexistent"),
        (("--sbatch-option=--hold",), "FAIL  job         it did not begin within 1 s: somebody"),
        (("--sbatch-option=--constraint=nosuch",), ": no node has such a feature: see"),
    ],
)
def test_check_says_what_is_wrong(rechain, lab, options, said) -> None:
    rechain("target", "add", "bad", "--slurm", *options)
    wait = "1" if "--hold" in options[0] else "300"
    answer = rechain("target", "check", "--wait", wait, "bad")
    assert answer.returncode == 1
    assert said in answer.stdout
    assert lab.run("squeue", "--noheader").strip() == ""


@fast
def test_check_of_a_machine_without_slurm(rechain) -> None:
    rechain("target", "add", "lab", "--slurm")
    folder = os.path.dirname(sys.executable)
    answer = rechain("target", "check", "lab", env={**os.environ, "PATH": folder})
    assert answer.returncode == 1
    assert answer.stdout.startswith("FAIL  commands    there is no sbatch on PATH")


@engines
def test_one_squeue_serves_a_list_of_two_hundred_waiting_runs(
    train, rechain, lab, home, tmp_path, monkeypatch
) -> None:
    from rechain import Chainer, Experiment, Workspace

    rechain("target", "add", "held", "--slurm", "--sbatch-option=--hold")
    estimator = Chainer(
        "code", entry_script="train.py", compute_target="held", user_managed=True,
        use_docker=False,
    )  # fmt: skip
    experiment = Experiment(Workspace.local(), "many")
    for _ in range(200):
        experiment.submit(estimator)
    calls, counting = tmp_path / "calls", tmp_path / "counting" / "squeue"
    counting.parent.mkdir()
    counting.write_text(f'#!/bin/sh\necho x >> {calls}\nexec {shutil.which("squeue")} "$@"\n')
    counting.chmod(0o755)
    monkeypatch.setenv("PATH", f"{counting.parent}:{os.environ['PATH']}")
    listed = rechain("runs", "-n", "200", "--json")
    assert [run["status"] for run in json.loads(listed.stdout)] == ["Queued"] * 200
    # More than one only where the list itself takes longer than an answer is fresh.
    assert calls.read_text().count("x") <= 20
