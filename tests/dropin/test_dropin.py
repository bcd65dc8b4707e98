"""The package `azureml` has v1's module paths and names, with Rechain's objects in them."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import azureml
import pytest

from rechain import Chainer, Experiment, Run, Workspace
from rechain.exceptions import NotBuiltError

pytestmark = pytest.mark.fast

FOLDER = Path(azureml.__file__).parent
# A module of v1 per line, and the names that scripts import from it.
NAMES = {
    module: names.split()
    for module, _, names in (
        line.partition(":")
        for line in Path(__file__).with_name("names.txt").read_text().splitlines()
    )
}
# v1's other kinds of compute targets.
COMPUTE = sorted({*NAMES["azureml.core.compute"]} - {"AmlCompute", "ComputeTarget"})
# What exists by name only so far.
PLANNED = {
    "azureml.core": [
        "Image", "LinkedService", "PrivateEndPoint", "PrivateEndPointConfig",
        "SynapseWorkspaceLinkedServiceConfiguration", "Webservice",
        "attach_legacy_compute_target", "diagnostic_log", "is_compute_target_prepared",
        "prepare_compute_target", "remove_legacy_compute_target",
    ],
    "azureml.data": [
        "DataType", "DatacacheStore", "HDFSOutputDatasetConfig", "LinkFileOutputDatasetConfig",
        "LinkTabularOutputDatasetConfig", "TabularDataset",
    ],
    "azureml.data.dataset_factory": ["DataType", "TabularDatasetFactory"],
    "azureml.core.compute": COMPUTE,
    "azureml.core.image": ["ContainerImage", "Image"],
    "azureml.core.model": ["InferenceConfig"],
    "azureml.core.webservice": [
        "AciWebservice", "AksEndpoint", "AksWebservice", "LocalWebservice", "Webservice",
    ],
    "azureml.pipeline.core": NAMES["azureml.pipeline.core"],
    "azureml.pipeline.steps": NAMES["azureml.pipeline.steps"],
    "azureml.train.dnn": ["PyTorch", "TensorFlow"],
    **{
        module: NAMES[module]
        for module in (
            "azureml.core.image.container", "azureml.core.image.image",
            "azureml.core.linked_service", "azureml.core.private_endpoint",
            "azureml.core.resource_configuration", "azureml.core.webservice.aci",
            "azureml.core.webservice.aks", "azureml.core.webservice.local",
            "azureml.core.webservice.webservice", "azureml.data.tabular_dataset",
            "azureml.train.sklearn",
        )
    },
    **{
        module: names
        for module, names in NAMES.items()
        if module.startswith("azureml.train.hyperdrive") and not module.endswith("exceptions")
    },
    **{
        module: names
        for module, names in NAMES.items()
        if module.startswith("azureml.core.compute.") and names[0] in COMPUTE
    },
}  # fmt: skip


def modules() -> dict[str, Path]:
    found = {}
    for path in FOLDER.rglob("*.py"):
        parts = path.relative_to(FOLDER.parent).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def test_the_list_is_whole() -> None:
    assert set(modules()) == set(NAMES)


@pytest.mark.parametrize("module", sorted(NAMES))
def test_names(module: str) -> None:
    loaded = importlib.import_module(module)
    assert sorted(getattr(loaded, "__all__", [])) == sorted(NAMES[module])
    for name in NAMES[module]:
        value = getattr(loaded, name)
        if name in PLANNED.get(module, []):
            continue
        assert isinstance(value, (str, int)) or value.__module__.startswith("rechain"), name


@pytest.mark.parametrize("module", sorted(set(NAMES) - {"azureml"}))
def test_no_logic(module: str) -> None:
    """Imports, and names set to a text or to what is planned."""
    for node in ast.parse(modules()[module].read_text()).body:
        if isinstance(node, ast.Assign):
            right = ast.unparse(node.value)
            assert isinstance(node.value, (ast.Constant, ast.List, ast.Name)) or right.startswith(
                "planned("
            )
        else:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert docstring or isinstance(node, (ast.Import, ast.ImportFrom)), ast.unparse(node)


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in sorted(PLANNED.items()) for name in names],
)
def test_what_is_planned_says_so_when_it_is_used(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    for use in (lambda: value("x", y=1), lambda: value.create):
        with pytest.raises(NotBuiltError, match=rf"azureml.*\.{name} is planned .*\. \w+"):
            use()


def test_the_estimator_has_the_bases_and_homes_of_v1() -> None:
    homes = {
        "Chainer": "azureml.train.dnn._chainer",
        "_FrameworkBaseEstimator": "azureml.train.estimator._framework_base_estimator",
        "MMLBaseEstimator": "azureml.train.estimator._mml_base_estimator",
    }
    assert [base.__name__ for base in Chainer.__mro__] == [*homes, "ABC", "object"]
    for base in Chainer.__mro__[:3]:
        assert getattr(importlib.import_module(homes[base.__name__]), base.__name__) is base


def mixed(folder: Path, *distributions: str) -> subprocess.CompletedProcess[str]:
    for name in distributions:
        (folder / name).mkdir(parents=True)
    code = f"import sys; sys.path.append({str(folder)!r}); import azureml.train.dnn"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_beside_microsofts_distributions_it_is_not_imported(tmp_path: Path) -> None:
    said = mixed(
        tmp_path,
        "azureml_core-1.61.0.post4.dist-info",
        "azureml_train_core-1.62.0.dist-info",
        "numpy-2.0.dist-info",
    )
    assert said.returncode == 1
    last = said.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "`pip uninstall azureml-core azureml-train-core`" in last
    assert "rechain-azureml" in last


def test_alone_it_is_imported(tmp_path: Path) -> None:
    said = mixed(tmp_path, "rechain_azureml-0.1.0.dist-info", "azuremlish-1.0.dist-info")
    assert (said.returncode, said.stderr) == (0, "")


def test_importing_the_estimator_is_light() -> None:
    code = "from azureml.train.dnn import Chainer, Mpi; import sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert not {"ruamel.yaml", "packaging", "click", "rich", "asyncio"} & set(loaded)


def test_a_notebook_of_v1(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The calls of v1's Chainer notebook, up to the run's files, in its order."""
    import azureml.core
    from azureml.core import Experiment as V1Experiment
    from azureml.core import Workspace as V1Workspace
    from azureml.telemetry import set_diagnostics_collection
    from azureml.train.dnn import Chainer as V1Chainer
    from azureml.widgets import RunDetails

    assert azureml.core.VERSION.startswith("1.")
    assert (V1Experiment, V1Workspace, V1Chainer) == (Experiment, Workspace, Chainer)
    set_diagnostics_collection(send_diagnostics=True)
    assert "collects no diagnostics" in capsys.readouterr().out
    (home / "chainer_mnist.py").write_text(
        "import argparse\n"
        "from azureml.core.run import Run\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--epochs', type=int)\n"
        "parser.add_argument('--output_dir')\n"
        "args = parser.parse_args()\n"
        "run = Run.get_context()\n"
        "run.log('Accuracy', 0.5 * args.epochs)\n"
        "open(args.output_dir + '/model.npz', 'w').close()\n"
    )
    estimator = V1Chainer(
        source_directory=".",
        script_params={"--epochs": 2, "--output_dir": "./outputs"},
        compute_target="local",
        entry_script="chainer_mnist.py",
        user_managed=True,
    )
    run = V1Experiment(V1Workspace.local(), name="chainer-mnist").submit(estimator)
    run.wait_for_completion()
    RunDetails(run).show()
    shown = capsys.readouterr().out
    assert "Completed" in shown
    assert "Accuracy: 1.0" in shown
    assert "outputs/model.npz" in run.get_file_names()
    assert isinstance(run, Run)
    assert azureml.core.get_run(run.experiment, run.id).id == run.id
