"""What several versions of Slurm print, as files: the first line of each says whether it is real.

The real ones were recorded on a cluster of `rechain.testing.slurm` with our own explicit formats.
The others were made by hand, by the sources and manual pages of those versions.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rechain.compute.slurm import check, queue
from rechain.compute.slurm.reasons import in_words
from rechain.compute.slurm.settings import Settings, request
from rechain.compute.slurm.states import STATES

pytestmark = pytest.mark.fast

SAID = Path(__file__).parent / "slurm_said"


def jobs(name: str) -> dict[str, queue.Job]:
    return {job.id: job for job in queue.parse((SAID / name).read_text())}


@pytest.mark.parametrize("path", sorted(SAID.iterdir()), ids=lambda path: path.name)
def test_each_says_whether_it_is_real(path: Path) -> None:
    version = path.name.split("-")[0]
    first = path.read_text().splitlines()[0]
    assert first.startswith(("# real: recorded from Slurm ", "# not recorded: made as Slurm "))
    assert version in first


@pytest.mark.parametrize("path", sorted(SAID.glob("*-s*.txt")), ids=lambda path: path.name)
def test_every_line_is_a_job_in_a_state_that_means_something(path: Path) -> None:
    lines = path.read_text().splitlines()[1:]
    found = jobs(path.name)
    assert len(found) == len(lines)
    for job in found.values():
        state = job.state.partition(" ")[0]
        assert state in STATES
        if STATES[state].alive:
            assert "Slurm gives the reason" not in in_words(job.reason), job.reason


def test_squeue_of_22_05() -> None:
    found = jobs("22.05-squeue.txt")
    assert (found["3"].nodes, found["3"].start) == ("n[1-2]", "2026-11-26T00:40:09")
    assert (found["10"].start, found["10"].nodes) == ("", "")
    assert found["8_[1-3%2]"].name == "array"
    assert "reserved for jobs in higher priority partitions" in found["13"].reason
    assert "kept for jobs of a partition that goes first: wait" in in_words(found["13"].reason)
    assert "will not start by itself" in in_words(found["12"].reason)


def test_squeue_of_20_11() -> None:
    found = jobs("20.11-squeue.txt")
    assert "kept for jobs of a partition that goes first" in in_words(found["101"].reason)
    assert "as much of the GPUs as its QOS allows" in in_words(found["106"].reason)
    assert found["107+0"].state == "PENDING"
    assert STATES[found["104"].state].end(found["104"].nodes)["message"] == "Slurm lost gpu07"


def test_squeue_of_24_11() -> None:
    found = jobs("24.11-squeue.txt")
    assert (found["3"].nodes, found["12"].start) == ("n[1-2]", "")
    # What sbatch refused is there nevertheless.
    assert (found["10"].state, found["10"].reason, found["10"].nodes) == (
        "FAILED", "BadConstraints", "",
    )  # fmt: skip
    assert jobs("24.11-sacct.txt")["10"].start == ""
    assert STATES[jobs("24.11-sacct.txt")["9"].state].alive  # requeued by scontrol
    assert "kept for jobs of a partition that goes first: wait" in in_words(found["13"].reason)


def test_squeue_of_25_11() -> None:
    found = jobs("25.11-squeue.txt")
    assert STATES[found["9000102"].state].alive
    assert "have as much of the GPUs as its QOS allows" in in_words(found["9000104"].reason)
    assert "its reservation is gone: it will not start" in in_words(found["9000105"].reason)
    assert found["9000107"].reason == "RaisedSignal:9(Killed)"


@pytest.mark.parametrize(
    ("name", "number", "state"),
    [
        ("22.05-sacct.txt", "6", "CANCELLED by 0"),
        ("20.11-sacct.txt", "108", "CANCELLED by 1000"),
        ("25.11-sacct.txt", "9000110", "CANCELLED by 1000"),
    ],
)
def test_a_job_without_nodes_in_sacct(name: str, number: str, state: str) -> None:
    job = jobs(name)[number]
    assert (job.state, job.nodes, job.reason) == (state, "", "")
    if not name.startswith("22"):
        assert job.start == ""  # 22.05 takes the moment of its end


@pytest.mark.parametrize("version", ["22.05", "24.11"])
def test_with_a_fake_scontrol_that_prints_what_a_version_did(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    def call(command: list[str]) -> str:
        return (SAID / f"{version}-{command[-1]}.txt").read_text()

    monkeypatch.setattr(check, "call", call)
    found = {one.what: one for one in check._config(request(Settings().to_json()))}
    assert found["grace"].words == "when Slurm ends a job, its script has 5 sec (KillWait)"
    assert found["accounting"].words == "accounting_storage/slurmdbd"
    assert found["partition"].words == "main: UP, 2 nodes, time limit unlimited"


def test_with_a_fake_scontrol_of_a_cluster_without_accounting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def call(command: list[str]) -> str:
        said = (SAID / f"24.11-{command[-1]}.txt").read_text()
        return said.replace("accounting_storage/slurmdbd", "(null)")  # as 24.11.7 says

    monkeypatch.setattr(check, "call", call)
    found = {one.what: one for one in check._config(request(Settings().to_json()))}
    assert found["accounting"].words.startswith("none; an ended job is known for 600 sec")
