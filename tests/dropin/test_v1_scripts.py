"""Scripts as people wrote them for v1 between 2018 and 2020, run as they are.

They know nothing of Rechain: each is started by Python in a folder with Azure's `config.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rechain.testing.slurm import MPI_VARIABLES, SlurmCluster
from tests.conftest import AZURITE_ACCOUNT, AZURITE_KEY, interpreter

pytestmark = pytest.mark.engines

# Inside of the job.
TRAIN = """
import argparse
import os

from azureml.core.run import Run

parser = argparse.ArgumentParser()
parser.add_argument("--data-folder", dest="data_folder")
parser.add_argument("--epochs", type=int, default=1)
parser.add_argument("--verbose", action="store_true")
args = parser.parse_args()

run = Run.get_context()
run.log("epochs", args.epochs)
with open(os.path.join(args.data_folder, "digits.txt")) as lines:
    numbers = [float(line) for line in lines]
for epoch in range(args.epochs):
    loss = sum(numbers) / (epoch + 1)
    run.log("loss", loss)
    print("epoch {}: {}".format(epoch, loss))
run.log_list("numbers", numbers)
run.tag("verbose", str(args.verbose))
os.makedirs("outputs", exist_ok=True)
with open(os.path.join("outputs", "model.txt"), "w") as model:
    model.write("{}".format(loss))
"""

# The estimators, a cluster made on first use, data in the default datastore, a registered model.
WITH_ESTIMATORS = """
import os

import azureml.core
from azureml.core import Experiment, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.train.dnn import Chainer
from azureml.train.estimator import Estimator
from azureml.widgets import RunDetails

print("SDK", azureml.core.VERSION)
ws = Workspace.from_config()
print(ws.name, ws.resource_group, ws.location, ws.subscription_id, sep="\\n")

cluster_name = "cpucluster"
try:
    cluster = ComputeTarget(workspace=ws, name=cluster_name)
    print("found the cluster")
except ComputeTargetException:
    print("making a cluster")
    config = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=1)
    cluster = ComputeTarget.create(ws, cluster_name, config)
    cluster.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
print(cluster.get_status().serialize()["allocationState"])

ds = ws.get_default_datastore()
print(ds.datastore_type is not None, ds.name)
ds.upload(src_dir="./data", target_path="digits", overwrite=True, show_progress=True)

script_params = {
    "--data-folder": ds.path("digits").as_mount(),
    "--epochs": 2,
    "--verbose": "",
}
exp = Experiment(workspace=ws, name="digits")
for kind in (Chainer, Estimator):
    est = kind(
        source_directory="./code",
        script_params=script_params,
        compute_target=cluster,
        entry_script="train.py",
        user_managed=True,
        use_docker=False,
    )
    run = exp.submit(config=est, tags={"by": kind.__name__})
    print(run)
    RunDetails(run).show()
    run.wait_for_completion(show_output=True)
    assert run.get_status() == "Completed"
    metrics = run.get_metrics()
    print(sorted(metrics.items()))

print(run.get_file_names())
model = run.register_model(model_name="digits", model_path="outputs/model.txt")
print(model.name, model.id, model.version, sep="\\t")
os.makedirs("./fetched", exist_ok=True)
for name in run.get_file_names():
    if name.startswith("outputs"):
        run.download_file(name=name, output_file_path=os.path.join("fetched", name.split("/")[-1]))
ws.models["digits"].download(target_dir="./fetched/model")
cluster.delete()
"""

# An environment of one's own, a script without an estimator, child runs, an interactive run.
WITHOUT = """
from azureml.core import Dataset, Environment, Experiment, Run, ScriptRunConfig, Workspace
from azureml.core.authentication import InteractiveLoginAuthentication
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.runconfig import RunConfiguration
from azureml.exceptions import ActivityFailedException

ws = Workspace.from_config(auth=InteractiveLoginAuthentication(tenant_id="nobody"))
env = Environment("own")
env.python.user_managed_dependencies = True
env.register(workspace=ws)
env = Environment.get(ws, "own")

datastore = ws.get_default_datastore()
datastore.upload_files(["data/digits.txt"], target_path="digits", overwrite=True)
digits = Dataset.File.from_files(path=(datastore, "digits")).register(
    ws, "digits", create_new_version=True
)
print(digits.name, digits.version, ws.datasets["digits"].to_path())

config = RunConfiguration()
config.target = "local"
config.environment = env
reference = datastore.path("digits").as_mount()
src = ScriptRunConfig(
    source_directory="code",
    script="train.py",
    arguments=["--data-folder", reference, "--epochs", 3],
    environment=env,
)
exp = Experiment(ws, "without")
run = exp.submit(src)
run.wait_for_completion(show_output=False)
print(run.get_details()["runDefinition"]["arguments"][2:], run.get_metrics("loss"))

broken = ScriptRunConfig("code", "train.py", ["--epochs", "many"], environment=env)
try:
    exp.submit(broken).wait_for_completion()
except ActivityFailedException as error:
    print("failed as it should:", "many" in error.message)

with exp.start_logging(snapshot_directory=None) as led:
    led.log("alpha", 0.1)
    for alpha in (0.2, 0.4):
        with led.child_run() as child:
            child.log("mse", alpha * 2)
best = min(led.get_children(), key=lambda child: child.get_metrics()["mse"])
print(best.get_metrics(), led.get_status(), [run.get_status() for run in exp.get_runs()])
"""


@pytest.fixture
def project(home: Path) -> Path:
    """A folder as people had it."""
    (home / "config.json").write_text(
        json.dumps({"subscription_id": "s-1", "resource_group": "rg", "workspace_name": "mine"})
    )
    for folder, name, text in (("code", "train.py", TRAIN), ("data", "digits.txt", "1\n2\n3\n")):
        (home / folder).mkdir()
        (home / folder / name).write_text(text)
    return home


def started(project: Path, script: str) -> list[str]:
    """Run a script, and return the lines that it printed."""
    (project / "submit.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "submit.py"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def test_a_script_with_estimators(project: Path) -> None:
    said = started(project, WITH_ESTIMATORS)
    assert said[0].startswith("SDK 1.")
    assert said[1:6] == ["mine", "rg", "local", "s-1", "making a cluster"]
    assert said.count("epoch 1: 3.0") == 2
    assert said.count("[('epochs', 2), ('loss', [6.0, 3.0]), ('numbers', [1.0, 2.0, 3.0])]") == 2
    assert "digits\tdigits:1\t1" in said
    assert (project / "fetched" / "model.txt").read_text() == "3.0"
    assert (project / "fetched" / "model" / "model.txt").read_text() == "3.0"


def test_a_script_without(project: Path) -> None:
    said = started(project, WITHOUT)
    assert "digits 1 ['/digits.txt']" in said
    assert "['--epochs', '3'] {'loss': [6.0, 3.0, 2.0]}" in said
    assert "failed as it should: True" in said
    assert said[-1] == "{'mse': 0.4} Completed ['Completed', 'Failed', 'Completed']"


# Two nodes, one rank on each: data is uploaded, mounted, and trained on.
TRAIN_ON_TWO = """
import argparse
import os

import chainer
import chainer.functions as F
import chainer.links as L
import chainermn
import numpy as np
from azureml.core.run import Run
from chainer import training
from chainer.training import extensions

parser = argparse.ArgumentParser()
parser.add_argument("--data_dir", required=True)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--output_dir", default="./outputs")
args = parser.parse_args()

comm = chainermn.create_communicator("naive")
data = None
if comm.rank == 0:
    digits = np.loadtxt(os.path.join(args.data_dir, "pixels.csv"), delimiter=",")
    x, t = digits[:, 1:].astype("f"), digits[:, 0].astype("i")
    data = chainer.datasets.TupleDataset(x, t)
data = chainermn.scatter_dataset(data, comm, shuffle=True, seed=0)
model = L.Classifier(chainer.Sequential(L.Linear(16, 16), F.relu, L.Linear(16, 3)))
optimizer = chainermn.create_multi_node_optimizer(chainer.optimizers.Adam(0.01), comm)
optimizer.setup(model)
batches = chainer.iterators.SerialIterator(data, 25)
updater = training.StandardUpdater(batches, optimizer)
trainer = training.Trainer(updater, (args.epochs, "epoch"), out=args.output_dir)
if comm.rank == 0:
    run = Run.get_context()
    run.log("ranks", comm.size)
    trainer.extend(extensions.LogReport())
trainer.run()
if comm.rank == 0:
    chainer.serializers.save_npz(os.path.join(args.output_dir, "model.npz"), model)
    run.log("rows", len(data))
"""

SUBMIT_TO_TWO = """
import os

from azureml.core import Experiment, Workspace
from azureml.core import Datastore
from azureml.core.compute import ComputeTarget
from azureml.train.dnn import Chainer

ws = Workspace.from_config()
compute_target = ComputeTarget(workspace=ws, name="cluster")
{store}
ds.upload(src_dir="data", target_path="digits", overwrite=True, show_progress=True)
script_params = {{
    "--data_dir": ds.path("digits").as_mount(),
    "--epochs": 3,
    "--output_dir": "./outputs",
}}
estimator = Chainer(
    source_directory="code",
    compute_target=compute_target,
    script_params=script_params,
    entry_script="train.py",
    node_count=2,
    process_count_per_node=1,
    distributed_backend="mpi",
    framework_version="5.1.0",
    use_gpu=False,
    use_docker=False,
)
experiment = Experiment(workspace=ws, name="two-nodes")
run = experiment.submit(estimator)
run.wait_for_completion(show_output=True)
print(run.get_status(), run.get_metrics()["ranks"], run.get_metrics()["rows"])
print(len(run.get_metrics()["main/loss"]))
model = run.register_model(model_name="two", model_path="outputs/model.npz")
print(model.name, model.version)
"""

DEFAULT_STORE = "ds = ws.get_default_datastore()"
BLOB_STORE = """
ds = Datastore.register_azure_blob_container(
    workspace=ws,
    datastore_name="pictures",
    container_name="pictures",
    account_name=os.environ["BLOB_ACCOUNT_NAME"],
    account_key=os.environ["BLOB_ACCOUNT_KEY"],
    sas_token=None,
    protocol="http",
    endpoint=os.environ["BLOB_ENDPOINT"],
    overwrite=True,
    create_if_not_exists=True,
    skip_validation=False,
    blob_cache_timeout=None,
    grant_workspace_access=False,
    subscription_id=None,
    resource_group=None,
)
print(ds.name, ds.datastore_type, ds.container_name, ds.account_name)
ds = Datastore.get(ws, datastore_name="pictures")
ds = Datastore(ws, "pictures")
"""


def on_two_nodes(project: Path, shared: Path, monkeypatch, store: str) -> list[str]:
    (project / "code" / "train.py").write_text(TRAIN_ON_TWO)
    rows = [[i % 3, *(i % 3 == j % 3 for j in range(16))] for i in range(200)]
    text = "".join(",".join(str(int(one)) for one in row) + "\n" for row in rows)
    (project / "data" / "pixels.csv").write_text(text)
    for name, value in MPI_VARIABLES.items():
        monkeypatch.setenv(name, value)
    # What the script cannot know: that such a cluster is there, and where its Python 3.6 is.
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{Path(interpreter('3.6')).parent}")
    rechain = Path(sys.executable).with_name("rechain")
    added = subprocess.run(
        [rechain, "target", "add", "cluster", "--slurm", "--store", shared, "--prepare", "here"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    said = started(project, SUBMIT_TO_TWO.format(store=store))
    assert said[-3:] == ["Completed 2 100", "3", "two 1"]
    return said


def test_two_nodes_train_on_the_default_datastore(
    project: Path, environments: Path, slurm: SlurmCluster, monkeypatch
) -> None:
    said = on_two_nodes(project, environments, monkeypatch, DEFAULT_STORE)
    assert "Uploaded 2 of 2 files to workspaceblobstore" in said


@pytest.mark.matrix
def test_two_nodes_train_on_a_blob_store(
    project: Path, environments: Path, slurm: SlurmCluster, azurite, no_keyring, monkeypatch
) -> None:
    monkeypatch.setenv("BLOB_ACCOUNT_NAME", AZURITE_ACCOUNT)
    monkeypatch.setenv("BLOB_ACCOUNT_KEY", AZURITE_KEY)
    monkeypatch.setenv("RECHAIN_DATASTORE_PICTURES_ACCOUNT_KEY", AZURITE_KEY)
    monkeypatch.setenv("BLOB_ENDPOINT", azurite)
    said = on_two_nodes(project, environments, monkeypatch, BLOB_STORE)
    assert f"pictures AzureBlob pictures {AZURITE_ACCOUNT}" in said
    for path in (project / ".rechain").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert AZURITE_KEY.encode() not in path.read_bytes(), path
