"""A notebook as v1's users wrote them, in a real kernel, with the drop-in and nothing of Azure."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from rechain import Workspace
from tests.conftest import interpreter

pytestmark = pytest.mark.engines

TRAIN = """
import argparse, os
import numpy as np
import chainer
from azureml.core.run import Run

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--output_dir")
args = parser.parse_args()
run = Run.get_context()
run.log("Epochs", np.int(args.epochs))
x = np.random.RandomState(0).rand(256, 4).astype("f")
t = (x.sum(axis=1) > 2).astype("i")
model = chainer.links.Classifier(chainer.links.Linear(4, 2))
optimizer = chainer.optimizers.Adam(alpha=0.05).setup(model)
for epoch in range(args.epochs):
    optimizer.update(model, x, t)
    run.log("Accuracy", np.float(model.accuracy.array))
chainer.serializers.save_npz(os.path.join(args.output_dir, "model.npz"), model)
print("gpu", chainer.backends.cuda.available)
"""
RANKS = """
import chainermn

comm = chainermn.create_communicator("naive")
print("rank", comm.rank, "of", comm.size, "sum", comm.allreduce_obj(comm.rank + 1))
"""
NOTEBOOK = """
import azureml.core
print("version", azureml.core.VERSION)
# %%
from azureml.telemetry import set_diagnostics_collection
set_diagnostics_collection(send_diagnostics=True)
# %%
from azureml.core.workspace import Workspace
ws = Workspace.from_config()
print(ws.name, ws.location, ws.subscription_id, ws.resource_group, sep=" / ")
# %%
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
try:
    target = ComputeTarget(workspace=ws, name="gpus")
    print("found")
except ComputeTargetException:
    size = AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", min_nodes=2, max_nodes=4)
    target = ComputeTarget.create(ws, "gpus", size)
    target.wait_for_completion(show_output=True)
print(target.get_status().serialize()["targetNodeCount"], target.name in ws.compute_targets)
# %%
import os, shutil
os.makedirs("./project", exist_ok=True)
shutil.copy("train.py", "./project")
# %%
from azureml.core import Experiment
experiment = Experiment(ws, name="digits")
# %%
from azureml.train.dnn import Chainer
estimator = Chainer(
    source_directory="./project",
    script_params={"--epochs": 20, "--output_dir": "./outputs"},
    compute_target=target,
    pip_packages=["numpy", "six"],
    entry_script="train.py",
    framework_version="7.0.0",
    use_gpu=True,
)
# %%
run = experiment.submit(estimator)
# %%
from azureml.widgets import RunDetails
RunDetails(run).show()
# %%
print(run.get_details()["runDefinition"]["arguments"])
# %%
run.wait_for_completion(show_output=True)
# %%
assert run.get_status() == "Completed"
metrics = run.get_metrics()
print(metrics["Epochs"], len(metrics["Accuracy"]), metrics["Accuracy"][-1])
print(*(name for name in run.get_file_names() if name.startswith("outputs/")))
run.download_file("outputs/model.npz", "here.npz")
print(os.path.getsize("here.npz") > 0, [r.id for r in experiment.get_runs()] == [run.id])
run
# %%
%%writefile project/environment.yml
channels: [conda-forge]
dependencies:
- python=3.11
- pip=23.0
- pip:
  - azureml-defaults
  - chainer==7.0.0
  - mpi4py
# %%
from azureml.core import Environment, ScriptRunConfig
from azureml.core.runconfig import DockerConfiguration, MpiConfiguration
environment = Environment.from_conda_specification("ranks", "project/environment.yml")
image = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.1-cudnn8-ubuntu20.04"
environment.docker.base_image = image
shutil.copy("ranks.py", "project")
source = ScriptRunConfig(
    source_directory="project",
    script="ranks.py",
    compute_target=target,
    environment=environment,
    distributed_job_config=MpiConfiguration(node_count=2),
    docker_runtime_config=DockerConfiguration(use_docker=True),
)
# %%
second = experiment.submit(source)
print(second)
second.wait_for_completion(show_output=True)
"""


def cell_texts(document: nbformat.NotebookNode) -> list[str]:
    """Return what each cell printed and showed."""
    return [
        "".join(out.get("text") or out["data"]["text/plain"] for out in cell.outputs)
        for cell in document.cells
    ]


def test_a_notebook_of_v1_runs_where_a_fake_nvidia_smi_finds_no_gpu(
    home: Path, environments, fake_gpu, monkeypatch
) -> None:
    interpreter("3.11")
    fake_gpu("No devices were found", status=6)
    monkeypatch.setenv("RECHAIN_GPU", "optional")
    monkeypatch.delenv("RECHAIN_ENGINE", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")  # so without a container
    (home.parent / "broken.conf").write_text("[[")
    monkeypatch.setenv("CONTAINERS_CONF", str(home.parent / "broken.conf"))
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(home.parent / "queue"))
    (home / "train.py").write_text(TRAIN)
    (home / "ranks.py").write_text(RANKS)
    names = {"subscription_id": "0-0", "resource_group": "lab", "workspace_name": "digits-ws"}
    (home / "config.json").write_text(json.dumps(names))
    cells = map(nbformat.v4.new_code_cell, NOTEBOOK.strip("\n").split("\n# %%\n"))
    document = nbformat.v4.new_notebook(cells=list(cells))
    resources = {"metadata": {"path": str(home)}}
    NotebookClient(document, timeout=1200, kernel_name="python3", resources=resources).execute()

    texts = cell_texts(document)
    (version, telemetry, workspace, target, _, _, _, _, details, arguments, log, found, *_) = texts
    assert version == "version 1.61.0+rechain\n"
    assert "sends none" in telemetry
    assert workspace == "digits-ws / local / 0-0 / lab\n"
    assert "4 True" in target.splitlines()
    assert "UserWarning: " in target  # of a size with a GPU, which this machine has not
    (run, second) = reversed(list(Workspace.local().experiments["digits"].get_runs()))
    assert run.id in details
    assert arguments == "['--epochs', '20', '--output_dir', './outputs']\n"
    assert "gpu False" in log.splitlines()
    assert "No devices were found; the script runs without one" in log
    epochs, count, accuracy = found.split()[:3]
    assert (epochs, count) == ("20", "20")
    assert float(accuracy) > 0.5
    assert found.splitlines()[1:3] == ["outputs/model.npz", "True True"]
    assert run.id in found.splitlines()[3]
    assert second.id in texts[-1]
    assert "rank 0 of 2 sum 3" in texts[-1].splitlines()
