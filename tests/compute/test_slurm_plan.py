"""What a Slurm target would do: its settings, and the batch script made of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rechain.compute.slurm import SlurmTarget
from rechain.compute.slurm.settings import Settings, request, size_from_text
from rechain.exceptions import ComputeTargetException
from rechain.record.paths import RunPaths
from rechain.supervisor.variables import PROGRAM
from rechain.testing import make_run

pytestmark = pytest.mark.fast

RUN = RunPaths("/shared/ws/.rechain/experiments/mnist/mnist_1700000000_0123abcd")

JOB = {
    "target": "cluster",
    "command": ["train.py", "--epoch", "3"],
    "variables": {"A": "b"},
    "environment": {"kind": "user-managed", "python": "python"},
    "distribution": {"nodes": 1, "processes_per_node": 2, "communicator": "Mpi"},
    "limits": {"seconds": 90, "grace_seconds": 10, "stall_seconds": None},
}


def plan(settings: Settings, **of_job: object) -> str:
    asked = request(settings.to_json(), priority="lowpriority")
    script = SlurmTarget("cluster", asked).plan(RUN, {**JOB, **of_job}).script
    assert script is not None
    return script


SCRIPT = f"""\
#!/bin/bash
#SBATCH --job-name=mnist_1700000000_0123abcd
#SBATCH --output={RUN.root}/slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --chdir={RUN.root}
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=3
#SBATCH --mem=57344M
#SBATCH --gres=gpu:1
#SBATCH --partition=spot
#SBATCH --qos=normal
#SBATCH --account=lab
#SBATCH --time=4
#SBATCH --requeue
#SBATCH --exclusive

# A job of Rechain. What it runs, and how it ended, stands in this folder.
run={RUN.root}
python=/opt/python/bin/python3
program={PROGRAM}

refuse() {{ echo "rechain: $(uname -n): $1" >&2; exit 125; }}
[ -d "$run" ] || refuse "the folder $run cannot be seen: the workspace must be on \
a file system that the nodes share"
[ -r "$program" ] || refuse "Rechain is not at $program: install it where the nodes see it"
[ -x "$python" ] || refuse "there is no Python at $python: name one that the nodes have \
(rechain target add --python)"
"$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  refuse "$python cannot run Rechain, which needs a Python 3.10 or newer"

# What the site wants to be done first.
prologue={{prologue}}
[ -r "$prologue" ] || refuse "the prologue $prologue cannot be read"
type module >/dev/null 2>&1 || . /etc/profile  # `module` is a function of login shells
. "$prologue" || refuse "the prologue $prologue ended with $?"

# The supervisor: it writes the run folder, and ends with the script's exit code.
exec "$python" -I -S "$program" --slurm "$run"
"""


def test_the_batch_script_is_what_an_admin_can_read(tmp_path: Path) -> None:
    prologue = tmp_path / "site.sh"
    prologue.touch()
    settings = Settings(
        partition="gpu", qos="normal", account="lab", lowpriority_partition="spot",
        vm_size="STANDARD_NC6",
        vm_sizes={"standard_nc6": {"cpus": 6, "memory": 56, "gres": "gpu:1"}},
        prologue=prologue, python="/opt/python/bin/python3", options=["--exclusive"],
    )  # fmt: skip
    assert plan(settings) == SCRIPT.replace("{prologue}", str(prologue))


def test_where_the_packages_are_unpacked_is_said() -> None:
    asked = Settings(lowpriority_qos="low", node_store="$TMPDIR/envs")
    script = plan(asked, environment={"kind": "venv", "recipe": "chainer-7.0.0"})
    assert script.endswith("""
# The job's packages: packed to one file in the store, and unpacked from there to each node's own
# disk, once, where later jobs find them. The folder there is rechain-<uid>/ in $TMPDIR/envs

# The supervisor: it writes the run folder, and ends with the script's exit code.
exec "$python" -I -S "$program" --slurm "$run"
""")
    assert "TMPDIR" not in plan(asked)  # there is nothing to unpack


def test_a_target_of_before_there_was_a_node_store() -> None:
    kept = Settings().to_json()
    del kept["node_store"]
    assert request(kept)["node_store"] is None


def test_without_settings_nothing_is_asked_of_slurm_that_need_not_be(tmp_path: Path) -> None:
    run, job = make_run(tmp_path, "pass")
    planned = SlurmTarget("cluster", request(Settings().to_json())).plan(run, job)
    assert planned.argv == ("sbatch", "--parsable")
    options = [line for line in planned.script.splitlines() if line.startswith("#SBATCH")]
    names = [line.split("=")[0].removeprefix("#SBATCH --") for line in options]
    assert names == [
        "job-name",
        "output",
        "open-mode",
        "chdir",
        "nodes",
        "ntasks-per-node",
        "requeue",
    ]
    assert f"\npython={sys.executable}\n" in planned.script


def test_the_script_is_shell(tmp_path: Path) -> None:
    run = RunPaths(f'{tmp_path}/it\'s "a" $HOME `x` %j/x_1_01234567')
    script = SlurmTarget("cluster", request(Settings().to_json())).plan(run, JOB).script
    assert script is not None
    assert '#SBATCH --output="' in script
    assert "%%j/x_1_01234567/slurm-%j.log" in script
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True)
    assert done.returncode == 125
    assert f"the folder {run.root} cannot be seen" in done.stderr


def test_time_for_building_the_environment_is_added_where_the_job_builds_it() -> None:
    asked = Settings(lowpriority_qos="low")
    venv = {"kind": "venv", "recipe": "chainer-7.0.0"}
    assert "--time=4\n" in plan(asked)
    assert "--time=34\n" in plan(asked, environment=venv)
    here = Settings(lowpriority_qos="low", prepare="here")
    assert "--time=4\n" in plan(here, environment=venv)


def test_azures_sizes_are_known() -> None:
    asked = request(Settings().to_json(), vm_size="standard_nc6")
    assert (asked["cpus"], asked["memory_gib"], asked["gres"]) == (6, 56, "gpu:1")


def test_a_size_from_the_command_line() -> None:
    name, size = size_from_text("big=cpus:8,memory:64,gres:gpu:k80:2,constraint:k80&ib")
    assert name == "big"
    assert size == {"cpus": 8, "memory": 64.0, "gres": "gpu:k80:2", "constraint": "k80&ib"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"partition": "a b"}, "partition is 'a b'"),
        ({"qos": ""}, "qos is ''"),
        ({"account": 3}, "account is 3"),
        ({"prepare": "later"}, "prepare is 'later'; it must be one of job, here"),
        ({"mpi": "x"}, "mpi is 'x'; it must be one of auto, srun:pmix"),
        ({"prologue": "/nonexistent"}, "prologue is '/nonexistent'; there is no such file"),
        ({"node_store": "scratch"}, "node_store is 'scratch'; it must be an absolute path on"),
        ({"node_store": "~/scratch"}, "node_store is '~/scratch'; it must be an absolute path"),
        ({"vm_size": "huge"}, "vm_size is 'huge', which the target does not know"),
        ({"vm_sizes": {"x": {"cpus": 0}}}, "the size 'x' has cpus 0"),
        ({"vm_sizes": {"x": {"memory": "much"}}}, "the size 'x' has memory 'much'"),
        ({"vm_sizes": {"x": {"disk": 1}}}, "the size 'x' has 'disk'; it can have constraint"),
        ({"options": ["exclusive"]}, "the option 'exclusive' is none of sbatch"),
        ({"options": ["--output=x"]}, "the option '--output=x' is set by Rechain itself"),
        ({"options": ["-J x"]}, "the option '-J x' is set by Rechain itself"),
        ({"options": ["--x\n#SBATCH --output=y"]}, "is none of sbatch"),
        ({"options": "--exclusive"}, "it must be a list"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ComputeTargetException) as error:
        Settings(**given)  # type: ignore[arg-type]
    assert said in error.value.message


@pytest.mark.parametrize("text", ["", "x", "=cpus:1", "x=", "x=cpus", "x=cpus:1,cpus:2"])
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(ComputeTargetException, match="describes no size"):
        size_from_text(text)


def test_low_priority_must_mean_something_there() -> None:
    with pytest.raises(ComputeTargetException, match="neither a partition nor a QOS"):
        request(Settings().to_json(), priority="lowpriority")
