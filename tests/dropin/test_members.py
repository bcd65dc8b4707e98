"""The classes that scripts import have the public members of v1's.

Which these are stands in members.txt, and that it is v1's is what tests/conformance looks at.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

# A class of v1 per line, and its public members.
MEMBERS = {
    path: names.split()
    for path, _, names in (
        line.partition(":")
        for line in Path(__file__).with_name("members.txt").read_text().splitlines()
    )
}
# What is left out on purpose: the members, and why.
_PORTAL = "parts of the addresses of Azure's pages"
LEFT_OUT: dict[str, dict[str, str]] = {
    "azureml.core.Run": {
        "DELIM EXPERIMENT_ID_PATH EXPERIMENT_NAME_PATH RUN_PATH TID_FMT WORKSPACE_FMT": _PORTAL,
        "add_type_provider": "other kinds of runs come from plug-ins of the SDK",
    },
    "azureml.core.Experiment": {
        "DELIM EXPERIMENT_ID_PATH EXPERIMENT_NAME_PATH TID_FMT WORKSPACE_FMT": _PORTAL,
    },
    "azureml.core.ScriptRunConfig": {"DELIM identity": "for the SDK's own logging"},
    "azureml.core.Workspace": {
        "DEFAULT_CPU_CLUSTER_CONFIGURATION DEFAULT_GPU_CLUSTER_CONFIGURATION": (
            "no cluster is made with a workspace"
        ),
    },
    "azureml.core.Dataset": {
        "Scenario definition definition_version description id is_visible name state tags "
        "workspace": "v1's first datasets, of which none can be made any more",
    },
    "azureml.core.conda_dependencies.CondaDependencies": {
        "sdk_origin_url": "the SDK's own package index",
    },
    "azureml.core.runconfig.Data": {"create": "for datasets of the SDK's own kind"},
    "azureml.data.file_dataset.FileDataset": {"File Tabular": "the factories are `Dataset`'s"},
}  # fmt: skip


@pytest.mark.parametrize("path", MEMBERS)
def test_members(path: str) -> None:
    module, _, name = path.rpartition(".")
    there = dir(getattr(importlib.import_module(module), name))
    left_out = [name for names in LEFT_OUT.get(path, {}) for name in names.split()]
    assert sorted(set(MEMBERS[path]) - set(there)) == sorted(left_out)


def test_a_run_has_them_inside_of_a_job_too() -> None:
    from rechain.guest.rechain_guest.context import offline

    left_out = [name for names in LEFT_OUT["azureml.core.Run"] for name in names.split()]
    missing = set(MEMBERS["azureml.core.Run"]) - set(dir(offline()))
    assert sorted(missing) == sorted(left_out)
