"""What Slurm says, and what is made of it."""

from __future__ import annotations

import os
import time

import pytest

from rechain.compute.slurm import queue
from rechain.compute.slurm.commands import SlurmError, environment
from rechain.compute.slurm.reasons import REASONS, REFUSALS, in_words, refused
from rechain.compute.slurm.states import STATES
from rechain.record import jsonl
from rechain.record.causes import CAUSES

pytestmark = pytest.mark.fast

# The job states of the manual page of squeue 22.05, a flag of slurm.h, and one of 25.11.
KNOWN = """
BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY
PENDING PREEMPTED RUNNING RESV_DEL_HOLD REQUEUE_FED REQUEUE_HOLD REQUEUED RESIZING REVOKED
SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED TIMEOUT POWER_UP_NODE
EXPEDITING
"""


def test_every_state_of_slurm_means_something() -> None:
    assert set(KNOWN.split()) == STATES.keys()
    for name, state in STATES.items():
        if not state.alive:
            assert state.end("n1")["cause"] in CAUSES, name
            assert "{" not in state.end("n1")["message"]
        else:
            assert state.cause == ""


@pytest.mark.parametrize("code", sorted(REASONS))
def test_every_reason_says_what_to_do(code: str) -> None:
    row = REASONS[code]
    assert row.words[0].islower() or row.words.startswith("Slurm")
    assert row.advice
    assert not row.words.endswith(".")
    assert ("not start by itself" in in_words(code)) == row.stuck


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("Resources", "it is next, and waits until its nodes are free: nothing to do but"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", "nodes that it asks for are down"),
        ("(ReqNodeNotAvail, Reserved for maintenance)", "a shorter --time-limit helps"),
        ("QOSMaxCpuPerUserLimit", "you have as much of the CPUs as its QOS allows"),
        ("QOSMaxGRESPerUser", "you have as much of the GPUs as its QOS allows"),
        ("QOSMaxJobsPerUserLimit", "you have as much of the jobs as its QOS allows"),
        ("QOSGrpNodeLimit", "its jobs together have as much of the nodes as its QOS allows"),
        ("QOSMaxWallDurationPerJobLimit", "its QOS gives one job less time than it asks for"),
        ("QOSMinGRES", "it asks for less GPUs than its QOS demands"),
        ("AssocGrpCPUMinutesLimit", "much of the CPU minutes as your account allows"),
        ("AssocMaxNodePerJobLimit", "your account gives one job less nodes than it asks for"),
        ("AssocGrpGRES", "its jobs together have as much of the GPUs as your account allows"),
        ("QOSMaxMemoryPerNode", "its QOS gives each node less memory than it asks for"),
        ("SomethingNew", "Slurm gives the reason SomethingNew"),
    ],
)
def test_reasons_in_words(code: str, said: str) -> None:
    assert said in in_words(code)


@pytest.mark.parametrize("text", sorted(REFUSALS))
def test_every_refusal_says_what_to_do(text: str) -> None:
    row = REFUSALS[text]
    assert row.words
    assert row.advice
    said = refused(f"sbatch: error: Batch job submission failed: {text}\n")
    assert said == f"Slurm does not take the job: {row.words}: {row.advice} [{text}]"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", "Slurm does not take the job: it said nothing"),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\n"
            "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy\n",
            "there are as many jobs as your account allows: wait until some have ended [AssocMax",
        ),
        ("sbatch: error: Invalid --time specification\n", "job: Invalid --time specification"),
        (
            "sbatch: unrecognized option '--x'\nTry \"sbatch --help\" for more information\n",
            "(rechain target show) [unrecognized option '--x']",
        ),
        (
            "sbatch: error: Name a project with --comment\n"
            "sbatch: error: Batch job submission failed: Unspecified error\n",
            "job: Name a project with --comment | Unspecified error",
        ),
        (
            "sbatch: error: Memory specification can not be satisfied\n"
            "sbatch: error: Batch job submission failed: Requested node configuration is not "
            "available\n",
            "[Memory specification can not be satisfied | Requested node configuration is not ava",
        ),
    ],
)
def test_why_a_job_is_not_taken(said: str, words: str) -> None:
    assert words in refused(said)


def test_what_squeue_prints() -> None:
    """Recorded from Slurm 22.05.8; the greeting is made up."""
    text = (
        "Welcome to the cluster!\n"
        "3|COMPLETED|None|n[1-2]|2026-11-25T20:28:06|wrap\n"
        "2|PENDING|BeginTime||2026-11-25T20:30:07|job.sh\n"
        "7|PENDING|PartitionNodeLimit||N/A|a|b\n"
        "4_[1-3%2]|PENDING|JobArrayTaskLimit||N/A|array\n"
        "5|RUNNING|None|n1|2026-11-25T20:28:32|x_1700000000_01234567\n"
    )
    found = {job.name: job for job in queue.parse(text)}
    assert list(found) == ["wrap", "job.sh", "a|b", "array", "x_1700000000_01234567"]
    assert (found["wrap"].reason, found["wrap"].nodes) == ("", "n[1-2]")
    assert found["job.sh"].start == "2026-11-25T20:30:07"
    assert found["a|b"].start == ""
    assert found["array"].id == "4_[1-3%2]"


def test_of_two_jobs_of_a_name_the_newer_counts() -> None:
    lines = ["10|RUNNING|None|n1|N/A|x", "9|CANCELLED|None||N/A|x"]
    document = {"t": 0.0, "error": "", "fresh": 0, "lines": sorted(lines)}
    assert queue.Snapshot(document).jobs["x"].id == "10"


def test_the_user_s_settings_for_slurm_s_commands_do_not_count() -> None:
    given = {
        "SLURM_CONF": "c", "SLURM_JOB_ID": "1", "SQUEUE_FORMAT": "%i", "SBATCH_PARTITION": "x",
        "HOME": "/h",
    }  # fmt: skip
    assert environment(given) == {"SLURM_CONF": "c", "HOME": "/h"}


# How often it is asked. The process stands for squeue, which prints what the test wants.


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """A program in squeue's place: it prints a file, or fails if there is none."""
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    fake = tmp_path / "bin" / "squeue"
    fake.parent.mkdir()
    fake.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/calls\ncat {tmp_path}/said 2>/dev/null && exit\n"
        "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")

    class Fake:
        def says(self, text: str | None) -> None:
            if text is None:
                (tmp_path / "said").unlink(missing_ok=True)
            else:
                (tmp_path / "said").write_text(text)

        @property
        def calls(self) -> int:
            return (tmp_path / "calls").read_text().count("x")

    return Fake()


ONE = "1|RUNNING|None|n1|N/A|x\n"


def test_with_a_fake_squeue_an_answer_is_kept_while_it_is_fresh(squeue, monkeypatch) -> None:
    squeue.says(ONE)
    now = time.time()
    monkeypatch.setattr(queue.time, "time", lambda: now)
    assert queue.look(1).jobs["x"].state == "RUNNING"
    assert queue.look(1).jobs["x"].state == "RUNNING"
    assert squeue.calls == 1
    now += 1
    queue.look(1, newer_than=now - 0.5)  # fresh or not, it was asked too early
    assert squeue.calls == 2


def test_with_a_fake_squeue_it_is_asked_ever_more_seldom(squeue, monkeypatch) -> None:
    squeue.says(ONE)
    now = time.time()
    monkeypatch.setattr(queue.time, "time", lambda: now)
    pauses = []
    for _ in range(12):
        pauses.append(queue.look(1).document["pause"])
        now += 100
    assert pauses == sorted(pauses)
    assert pauses[0] == 1.0
    assert pauses[-1] == 10.0
    squeue.says("")
    assert queue.look(1).document["pause"] == 1.0
    squeue.says(None)
    failing = []
    for _ in range(6):
        now += 100
        snapshot = queue.look(1)
        assert (
            snapshot.error == "squeue: slurm_load_jobs error: Unable to contact slurm controller"
        )
        failing.append(snapshot.document["pause"])
    assert failing == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_with_a_fake_squeue_a_dead_reader_s_lease_does_not_count(squeue, tmp_path) -> None:
    squeue.says(ONE)
    folder = queue._folder(1)
    os.makedirs(folder)
    jsonl.write_new(f"{folder}/lease", {"schema": 1, "t": time.time(), "pid": 1, "start": 1})
    assert queue.look(1).jobs["x"].id == "1"
    assert not os.path.exists(f"{folder}/lease")


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', '{"schema": 1, "t": "x"}', "[]"])
def test_with_a_fake_squeue_a_damaged_answer_is_asked_for_again(squeue, text) -> None:
    squeue.says(ONE)
    folder = queue._folder(1)
    os.makedirs(folder)
    with open(f"{folder}/squeue.json", "w") as file:
        file.write(text)
    assert queue.look(1).jobs["x"].id == "1"


def test_with_a_fake_sacct_a_job_that_squeue_has_forgotten(tmp_path, monkeypatch) -> None:
    """Its line was recorded from Slurm 22.05.8 with slurmdbd."""
    fake = tmp_path / "sacct"
    fake.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n'
        "echo '1|CANCELLED by 0|None|n1|2026-11-25T21:21:22|x_1700000000_01234567'\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = queue.accounted("1", "x_1700000000_01234567", 1700000000)
    assert found is not None
    assert (found.state, found.nodes, found.reason) == ("CANCELLED", "n1", "")
    assert "--jobs=1" in (tmp_path / "asked").read_text()
    assert queue.accounted(None, "y_1700000000_01234567", 1700000000) is None
    with pytest.raises(SlurmError, match="accounting does not have job 1 yet"):
        queue.accounted("1", "y_1700000000_01234567", 1700000000)
    fake.write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    assert queue.accounted("1", "x_1700000000_01234567", 1700000000) is None
    refused = "sacct: error: Problem talking to the database: Connection refused"
    fake.write_text(f"#!/bin/sh\necho '{refused}' >&2\nexit 1\n")
    with pytest.raises(SlurmError, match="Connection refused"):
        queue.accounted("1", "x_1700000000_01234567", 1700000000)
