"""Runs over two nodes that share no file system: a network joins them, and a datastore."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.asyn import reset_after_fork

from rechain import Run, Workspace
from rechain.data import Datastore
from rechain.record import jsonl
from rechain.record.journal import AttemptState, fold
from rechain.record.paths import RunPaths
from rechain.testing import processes_of, wait_for, wait_for_end
from rechain.testing.network import Cables, free_ports
from rechain.testing.slurm import MPI_VARIABLES, SlurmCluster
from tests.compute.test_slurm_nodes import cmdline
from tests.conftest import missing

PATIENCE = 300  # seconds; only ends a test that hangs

SCRIPT = """
import os, sys
from mpi4py import MPI
from azureml.core.run import Run
import part
world = MPI.COMM_WORLD
print(world.rank, world.size, world.allreduce(1), os.uname().nodename, part.VALUE)
print("said by", world.rank, file=sys.stderr)
Run.get_context().log("rank%d" % world.rank, world.rank)
with open("outputs/own%d" % world.rank, "w") as file:
    file.write("of rank %d" % world.rank)
with open("outputs/same.txt", "w") as file:
    file.write("the same")
if world.rank % 2 == 0:
    with open("outputs/other.txt", "w") as file:
        file.write(os.uname().nodename)
with open("logs/big%d" % world.rank, "wb") as file:
    file.write(os.urandom(3 << 20))
"""


class Lab:
    """Two nodes, of which n2 sees neither workspace nor home nor cache of the first."""

    def __init__(
        self, cluster: SlurmCluster, home: Path, tmp_path: Path, network: bool, folder: str
    ) -> None:
        self.cluster = cluster
        device = "eth0" if network else "lo"
        self._variables = {name: one.replace("lo", device) for name, one in MPI_VARIABLES.items()}
        self._variables["OMPI_MCA_orte_tmpdir_base"] = folder
        self.home = home
        self.cache = tmp_path / "cache"
        self.cache.mkdir(exist_ok=True)
        self.add()
        (tmp_path / "shared").mkdir()
        self.store = Datastore.register(Workspace.local(), "shared", str(tmp_path / "shared"))
        for own in (home, tmp_path / "home", self.cache):
            self.part(own)

    def add(self, *options: str | Path) -> None:
        """Describe the cluster."""
        words = ("--slurm", "--store", self.cache, "--mpi", "mpirun", *options)
        self.rechain("target", "add", "lab", *words)

    def part(self, folder: Path, *options: str) -> None:
        """Have n2 see an empty folder of its own where n1 has this one."""
        init = self.cluster.processes("n2")[0]
        mount = ["mount", "-t", "tmpfs", *options, "n2", str(folder)]
        subprocess.run(["nsenter", f"--target={init}", "--mount", *mount], check=True)

    def rechain(self, *words: str | Path) -> str:
        command = [sys.executable, "-m", "rechain", *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def submit(
        self, script: str, *, through: Datastore | None = None, processes: int = 2, **given: object
    ) -> RunPaths:
        from rechain import Chainer, Experiment
        from rechain.runconfig import MpiConfiguration

        source = self.home / "code"
        source.mkdir(exist_ok=True)
        (source / "train.py").write_text(script)
        (source / "part.py").write_text("VALUE = 'of the snapshot'")
        mpi = MpiConfiguration(process_count_per_node=processes)
        estimator = Chainer(
            str(source), entry_script="train.py", compute_target="lab", node_count=2,
            distributed_training=mpi, use_docker=False, environment_variables=self._variables,
            source_directory_data_store=through, **{"user_managed": True, **given},
        )  # fmt: skip
        return RunPaths(Experiment(Workspace.local(), "x").submit(estimator).folder)

    def left_on(self, node: str) -> list[str]:
        """Return the paths on a node in its own folders."""
        root = self.on(node, Path())
        folders = (self.home, self.cache)
        found = [path for folder in folders for path in Path(f"{root}{folder}").rglob("*")]
        return [str(path).removeprefix(root) for path in found]

    def on(self, node: str, path: Path) -> str:
        """Return where this machine sees a path of a node."""
        root = f"/proc/{self.cluster.processes(node)[0]}/root"
        return f"{root}{path}" if path.is_absolute() else root

    def commands(self, node: str) -> bytes:
        """Return the command lines of all that runs on a node."""
        return b" ".join(map(cmdline, self.cluster.processes(node)))


@pytest.fixture
def network() -> bool:
    """Whether the nodes have a network of their own; then they reach nothing else."""
    return True


@contextlib.contextmanager
def own_thread_of_fsspec() -> Iterator[None]:
    """Have fsspec begin a thread here: one of an earlier test would be in that one's network."""
    reset_after_fork()
    yield
    reset_after_fork()


@pytest.fixture
def lab(
    home: Path, tmp_path: Path, network: bool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lab]:
    if os.geteuid() != 0:
        missing("right to make network namespaces")
    for command in ("ip", "slurmctld", "munged"):
        if shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            missing(f"{command} (Debian: iproute2, slurm-wlm, munge)")
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    with own_thread_of_fsspec(), SlurmCluster(2, network=network, kill_wait=60) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        # Open MPI's folders are named after host and process: another cluster may have the same.
        with tempfile.TemporaryDirectory(prefix="rechain-") as folder:
            yield Lab(cluster, home, tmp_path, network, folder)


def ended(run: RunPaths) -> AttemptState:
    wait_for_end(run, PATIENCE)
    wait_for(lambda: not processes_of(run), "no process is left on any node", PATIENCE)
    state = fold(run).last
    assert state is not None
    return state


@pytest.mark.engines
def test_ranks_on_a_node_that_shares_nothing(lab: Lab) -> None:
    run = lab.submit(SCRIPT, through=lab.store)
    state = ended(run)
    assert state.end["cause"] == "completed", (state.end, state.notes)
    attempt = run.attempt(1)
    assert [Path(attempt.stdout(rank)).read_text().split() for rank in range(4)] == [
        [str(rank), "4", "4", f"n{1 + rank // 2}", "of", "the", "snapshot"] for rank in range(4)
    ]
    assert Path(attempt.stderr(3)).read_text() == "said by 3\n"
    found = Run.get(Workspace.local(), run.run_id)
    assert found.get_metrics() == {f"rank{rank}": rank for rank in range(4)}
    outputs = Path(run.work, "outputs")
    assert sorted(os.listdir(outputs)) == [
        "other.n2.txt", "other.txt", *[f"own{rank}" for rank in range(4)], "same.txt",
    ]  # fmt: skip
    assert (outputs / "other.txt").read_text() == "n1"
    assert (outputs / "other.n2.txt").read_text() == "n2"
    assert [os.path.getsize(f"{run.work}/logs/big{rank}") for rank in range(4)] == [3 << 20] * 4
    assert any("node n2 cannot see the run's folder" in note for note in state.notes)
    assert "node n2 wrote other content than another node: it is in outputs/other.n2.txt" in (
        state.notes
    )
    assert "came from shared/rechain-snapshots/" in Path(attempt.node_log("n2")).read_text()
    assert not any(run.run_id in path for path in lab.left_on("n2"))
    assert not os.path.exists(attempt.come_from("n2"))


@pytest.mark.engines
def test_without_a_datastore_it_is_one_clear_error(lab: Lab) -> None:
    run = lab.submit(SCRIPT)
    end = ended(run).end
    assert end["cause"] == "environment"
    assert end["message"] == f"node n2 cannot see the run's folder {run.root}"
    assert "source_directory_data_store" in end["hint"]


GOES_ON = """
import os, signal, time
from mpi4py import MPI
world = MPI.COMM_WORLD
attempt = int(os.environ["RECHAIN_ATTEMPT"].rpartition("/")[2])
if attempt == 1:
    for path in ("outputs/state%d" % world.rank, "part.py"):
        with open(path, "a") as file:
            file.write("# of rank %d" % world.rank)
    print("up")
    signal.pause()
print(*[open("outputs/state%d" % rank).read() for rank in range(world.size)], sep=";")
print(open("part.py").read())
"""


@pytest.mark.engines
def test_the_next_attempt_finds_what_the_first_left_on_all_nodes(lab: Lab) -> None:
    run = lab.submit(GOES_ON, through=lab.store, processes=1)
    outputs = [Path(run.attempt(1).stdout(rank)) for rank in range(2)]

    def up() -> bool:
        assert fold(run).end is None, fold(run).end
        return all(path.exists() and path.read_text() == "up\n" for path in outputs)

    wait_for(up, "what the ranks say comes while they run", PATIENCE)
    number = lab.cluster.run("squeue", "--noheader", "--format=%A").strip()
    lab.cluster.run("scontrol", "requeue", number)
    wait_for(lambda: lab.cluster.job(number)["JobState"] == "PENDING", "it waits", PATIENCE)
    first = wait_for(lambda: fold(run).attempts[0].end, "the end of the first attempt", PATIENCE)
    assert first["cause"] == "preempted"
    assert Path(run.work, "outputs/state1").read_text() == "# of rank 1"
    assert Path(run.work, "part.n2.py").read_text() == "VALUE = 'of the snapshot'# of rank 1"
    lab.cluster.start_now(number)
    state = ended(run)
    assert (state.number, state.end["cause"]) == (2, "completed"), (state.end, state.notes)
    for rank in range(2):
        said = Path(run.attempt(2).stdout(rank)).read_text().splitlines()
        assert said == ["# of rank 0;# of rank 1", "VALUE = 'of the snapshot'# of rank 0"]


@pytest.mark.engines
def test_a_datastore_that_the_node_does_not_see_is_said(lab: Lab) -> None:
    """The default one is a folder of the workspace."""
    default = Workspace.local().get_default_datastore()
    run = lab.submit(SCRIPT, through=default)
    end = ended(run).end
    path = jsonl.read(run.job)["source"]["copy"]["path"]
    assert (end["cause"], end["message"]) == (
        "input",
        f"node n2: there is no {path} in {default.folder}, the folder of the datastore "
        "workspaceblobstore: source_directory_data_store must be one that all nodes reach",
    )
    assert os.path.exists(f"{default.folder}/{path}")
    assert not any(run.run_id in path for path in lab.left_on("n2"))


@pytest.mark.matrix
def test_the_nodes_share_nothing_but_s3_of_a_fake_server(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto's server is a mock of S3; it is where the controller is, on the nodes' network."""
    import boto3

    keys = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "something"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    prologue = tmp_path / "prologue"  # secrets are not among the variables of a Slurm job
    keys["PATH"] = f"{os.path.dirname(sys.executable)}:$PATH"
    prologue.write_text("".join(f"export {name}={value}\n" for name, value in keys.items()))
    lab.add("--prologue", prologue)
    address, (port,) = Cables().address(0), free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", address, "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:

            def answers() -> bool:
                with socket.socket() as probe:
                    return probe.connect_ex((address, port)) == 0

            wait_for(answers, "the server is up", PATIENCE)
            url = f"http://{address}:{port}"
            boto3.client("s3", endpoint_url=url, region_name="us-east-1").create_bucket(
                Bucket="bucket"
            )
            store = Datastore.register(
                Workspace.local(), "s3store", "s3://bucket/part", options={"endpoint_url": url}
            )
            lab.part(Path(lab.store.folder).parent)
            run = lab.submit(SCRIPT, through=store)
            state = ended(run)
        finally:
            server.kill()
    assert state.end["cause"] == "completed", (state.end, state.notes)
    assert sorted(os.listdir(f"{run.work}/logs")) == [f"big{rank}" for rank in range(4)]
    assert "came from s3store/" in Path(run.attempt(1).node_log("n2")).read_text()


@pytest.mark.matrix
def test_a_snapshot_that_is_damaged_where_the_node_reads_it_is_refused(lab: Lab) -> None:
    first = lab.submit(SCRIPT, through=lab.store)
    assert ended(first).end["cause"] == "completed"
    there = Path(lab.store.folder, jsonl.read(first.job)["source"]["copy"]["path"])
    data = there.read_bytes()
    lab.part(Path(lab.store.folder))
    theirs = Path(lab.on("n2", there))
    theirs.parent.mkdir()
    theirs.write_bytes(data.replace(b"of the snapshot", b"of whoever it is", 1)[: len(data)])
    end = ended(lab.submit(SCRIPT, through=lab.store)).end
    assert end["cause"] == "input"
    assert end["message"].startswith(
        "node n2: the source folder is damaged in the datastore shared"
    )


@pytest.mark.matrix
def test_a_full_disk_of_the_node_is_said(lab: Lab) -> None:
    lab.part(lab.home, "-o", "size=64k")
    end = ended(lab.submit(SCRIPT + "#" * 200_000, through=lab.store)).end
    assert end["cause"] == "input"
    assert end["message"].startswith("node n2: ")
    assert "No space left" in end["message"]


@pytest.mark.matrix
@pytest.mark.parametrize("how", ["canceled", "lost_node"])
def test_the_end_while_a_node_gets_its_files(lab: Lab, how: str) -> None:
    lab.part(Path(lab.store.folder))
    run = lab.submit(SCRIPT, through=lab.store)
    there = lab.on("n2", Path(lab.store.folder, jsonl.read(run.job)["source"]["copy"]["path"]))
    os.mkdir(os.path.dirname(there))
    os.mkfifo(there)  # whoever opens it to read waits
    wait_for(lambda: fold(run).last and fold(run).last.notes, "n2 is apart", PATIENCE)
    wait_for(lambda: b"bring-all" in lab.commands("n2"), "it reads", PATIENCE)
    if how == "canceled":
        lab.rechain("cancel", run.run_id)
    else:
        lab.cluster.kill_node("n2")
    end = wait_for(lambda: fold(run).attempts[0].end, "the end", PATIENCE)
    assert end["cause"] == how
    if how == "lost_node":
        lab.cluster.run("scancel", f"--name={run.run_id}")
    wait_for(lambda: not processes_of(run), "no process is left on any node", PATIENCE)


TRAINS = """
import os, sys
import chainer, chainermn
comm = chainermn.create_communicator("naive")
print(sys.prefix, comm.rank, comm.size, comm.allreduce_obj(1))
"""


@pytest.mark.engines
@pytest.mark.parametrize("network", [False])
def test_the_environment_goes_through_the_datastore_too(environments: Path, lab: Lab) -> None:
    run = lab.submit(TRAINS, through=lab.store, user_managed=False, framework_version="7.0.0")
    state = ended(run)
    assert state.end["cause"] == "completed", (state.end, state.notes)
    prefix, *_ = Path(run.attempt(1).stdout(0)).read_text().split()
    assert prefix.startswith(f"{lab.cache}/envs/")
    for rank in range(4):
        said = Path(run.attempt(1).stdout(rank)).read_text().split()
        assert said == [prefix, str(rank), "4", "4"]
    assert any(path.startswith(f"{lab.cache}/borrowed/") for path in lab.left_on("n2"))
