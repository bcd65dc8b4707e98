"""`ComputeTarget` and `AmlCompute`, as v1's notebooks use them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from rechain import AmlCompute, ComputeTarget, Workspace
from rechain.compute import sizes
from rechain.exceptions import (
    ComputeTargetException,
    NotBuiltError,
    TrainingException,
    UserErrorException,
)
from rechain.testing import wait_for, wait_for_end
from rechain.workspace.place import pool_of

pytestmark = pytest.mark.fast


@pytest.fixture
def ws(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(tmp_path / "queue"))
    return Workspace.local()


def create(ws: Workspace, name: str = "cluster", **settings: Any) -> ComputeTarget:
    configuration = AmlCompute.provisioning_configuration(**{"max_nodes": 4, **settings})
    return ComputeTarget.create(ws, name, configuration)


def test_the_notebook_s_way_to_find_or_make_one(ws) -> None:
    made, messages = [], []
    for _ in range(2):
        try:
            target = ComputeTarget(workspace=ws, name="gpu-cluster")
        except ComputeTargetException as error:
            messages.append(error.message)
            configuration = AmlCompute.provisioning_configuration(
                vm_size="STANDARD_NC6", min_nodes=2, max_nodes=4
            )
            target = ComputeTarget.create(ws, "gpu-cluster", configuration)
            made.append(target)
        target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    assert len(made) == 1
    assert [message.partition(":")[0] for message in messages] == ["ComputeTargetNotFound"]
    assert isinstance(target, AmlCompute)
    assert (target.name, target.type, target.vm_size) == (
        "gpu-cluster", "AmlCompute", "Standard_NC6",
    )  # fmt: skip
    assert target.get_status().serialize()["nodeStateCounts"]["idleNodeCount"] == 4
    assert target.get_status().scale_settings["minNodeCount"] == 2
    assert list(ws.compute_targets) == ["gpu-cluster"]
    assert [found.name for found in ComputeTarget.list(ws)] == ["gpu-cluster"]


def test_a_size_with_gpus_is_said_where_there_are_none_with_a_fake_nvidia_smi(
    ws, fake_gpu, recwarn
) -> None:
    fake_gpu("No devices were found", status=6)
    with pytest.warns(UserWarning, match="which has none .*No devices were found.* on the CPU"):
        create(ws, vm_size="Standard_NC12")
    recwarn.clear()
    create(ws, vm_size="Standard_NC12")  # it is known by now
    create(ws, "cpus", vm_size="Standard_D1_v2")
    fake_gpu("0, GPU-1, NVIDIA T4, 535.104.05, 7.5")
    create(ws, "gpus", vm_size="Standard_NC6")
    assert not recwarn.list


def test_it_can_be_copied(ws) -> None:
    target = copy.deepcopy(create(ws))
    assert target.get_status().vm_priority == "dedicated"


def test_it_is_one_plain_file(ws) -> None:
    target = create(ws, tags={"who": "me"}, description="mine", admin_user_password="secret")
    text = Path(ws.path, "compute", "cluster.json").read_text()
    assert json.loads(text)["max_nodes"] == 4
    assert target.serialize()["tags"] == {"who": "me"}
    assert "secret" not in text
    target.delete()
    assert ws.compute_targets == {}
    with pytest.raises(ComputeTargetException, match="no compute target 'cluster'"):
        target.delete()
    with pytest.raises(ComputeTargetException, match="no compute target 'cluster'"):
        target.get_status()


def test_making_it_again_changes_the_number_of_nodes_but_not_their_size(ws) -> None:
    create(ws, vm_size="Standard_D2_v2")
    target = create(ws, vm_size="standard_d2_V2", max_nodes=7)
    assert target.serialize()["max_nodes"] == 7
    with pytest.raises(ComputeTargetException, match="vm_size 'Standard_D2_v2'"):
        create(ws, vm_size="Standard_D3_v2")
    assert target.vm_size == "Standard_D2_v2"
    target.update(max_nodes=3)
    assert target.serialize()["max_nodes"] == 3
    with pytest.raises(ComputeTargetException, match="max_nodes is 3, which is less"):
        target.update(min_nodes=5)


def test_an_unknown_size_is_an_error_that_lists_the_known(ws) -> None:
    with pytest.raises(ComputeTargetException) as caught:
        create(ws, vm_size="Standard_NC7")
    assert "'Standard_NC7'" in caught.value.message
    for size in sizes.known():
        assert size.name in caught.value.message
    assert not Path(ws.path).exists()


def test_every_size_is_found_in_any_case(ws) -> None:
    for size in sizes.known():
        assert sizes.find(size.name.upper()) == size
        assert size.cpus >= 1
        assert size.memory_gib > 0
        assert size.gpus >= 0
    supported = AmlCompute.supported_vmsizes(ws)
    assert {"name": "Standard_NC6", "vCPUs": 6, "gpus": 1, "memoryGB": 56} in supported


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "max_nodes is None"),
        ({"max_nodes": -1}, "max_nodes is -1"),
        ({"max_nodes": "4"}, "max_nodes is '4'"),
        ({"max_nodes": True}, "max_nodes is True"),
        ({"max_nodes": 1, "min_nodes": 2}, "less than min_nodes"),
        ({"max_nodes": 1, "vm_priority": "high"}, "vm_priority is 'high'"),
    ],
)
def test_what_makes_no_pool(settings, message) -> None:
    with pytest.raises(ComputeTargetException, match=message):
        AmlCompute.provisioning_configuration(**settings)


@pytest.mark.parametrize("name", ["local", "AmlCompute", "containerinstance", "", "../x", "1a", 3])
def test_names_that_cannot_be(ws, name) -> None:
    with pytest.raises(UserErrorException, match="name is"):
        create(ws, name)
    with pytest.raises(ComputeTargetException):
        ComputeTarget(ws, name)


def test_what_is_no_configuration(ws) -> None:
    with pytest.raises(UserErrorException, match="provisioning_configuration is "):
        ComputeTarget.create(ws, "cluster", {})


def test_attaching_is_not_built(ws) -> None:
    with pytest.raises(NotBuiltError, match="attaching 'vm'"):
        ComputeTarget.attach(ws, "vm", None)


def test_a_damaged_file_is_named(ws) -> None:
    create(ws)
    Path(ws.path, "compute", "cluster.json").write_text("{")
    with pytest.raises(ComputeTargetException, match=r"cluster\.json"):
        ComputeTarget(ws, "cluster")


def test_a_job_on_a_pool_knows_all_of_it(ws) -> None:
    create(ws, vm_size="Standard_NC6", vm_priority="lowpriority")
    known = pool_of(ws, "cluster", vm_size=None, vm_priority=None, node_count=4)
    assert known == {
        "name": "cluster", "vm_size": "Standard_NC6", "max_nodes": 4, "priority": "lowpriority",
        "cpus": 6, "memory_gib": 56, "gpus": 1,
    }  # fmt: skip
    with pytest.raises(TrainingException, match=r"node_count is 5, .* has 4 nodes"):
        pool_of(ws, "cluster", vm_size=None, vm_priority=None, node_count=5)
    with pytest.raises(ComputeTargetException, match="there is: local, cluster"):
        pool_of(ws, "other", vm_size=None, vm_priority=None, node_count=1)


def test_a_run_s_own_pool_has_its_nodes(ws) -> None:
    own = pool_of(ws, None, vm_size="Standard_D2_v2", vm_priority="lowpriority", node_count=3)
    assert (own["name"], own["max_nodes"], own["priority"]) == (None, 3, "lowpriority")
    with pytest.raises(TrainingException, match="give vm_size"):
        pool_of(ws, "amlcompute", vm_size=None, vm_priority=None, node_count=1)


def test_the_status_counts_busy_nodes(ws, submit, tmp_path) -> None:
    target = create(ws)
    gate = tmp_path / "gate"
    script = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    runs = [submit(script, compute_target=target) for _ in range(2)]
    for run in runs:
        wait_for(lambda run=run: run.get_status() == "Running", "both to run")
    counts = target.get_status().node_state_counts
    assert (counts["runningNodeCount"], counts["idleNodeCount"]) == (2, 2)
    assert sorted(run.id for run in target.get_active_runs()) == sorted(run.id for run in runs)
    assert {node["runId"] for node in target.list_nodes()} == {run.id for run in runs}
    gate.touch()
    for run in runs:
        wait_for_end(run._paths)
    wait_for(lambda: not target.list_nodes(), "the nodes to be free")
    assert target.get_status().node_state_counts["idleNodeCount"] == 4
