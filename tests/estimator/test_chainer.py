"""The estimator has v1's face, and says clearly what it does not take."""

from __future__ import annotations

import copy
import inspect
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.estimator import Chainer, MMLBaseEstimator, Mpi
from rechain.estimator.distributed import Gloo, Nccl, ParameterServer
from rechain.exceptions import (
    AzureMLException,
    NotBuiltError,
    TrainingException,
    UserErrorException,
)
from rechain.job.variables import Secret
from rechain.runconfig import Environment, MpiConfiguration
from rechain.runconfig.distributed import ParallelTaskConfiguration

pytestmark = pytest.mark.fast

SIGNATURE = """source_directory, *, compute_target=None, vm_size=None, vm_priority=None,
entry_script=None, script_params=None, node_count=1, process_count_per_node=1,
distributed_backend=None, distributed_training=None, use_gpu=False, use_docker=True,
custom_docker_base_image=None, custom_docker_image=None, image_registry_details=None,
user_managed=False, conda_packages=None, pip_packages=None, conda_dependencies_file_path=None,
pip_requirements_file_path=None, conda_dependencies_file=None, pip_requirements_file=None,
environment_variables=None, environment_definition=None, inputs=None,
source_directory_data_store=None, shm_size=None, resume_from=None, max_run_duration_seconds=None,
framework_version=None, _enable_optimized_mode=False, _disable_validation=True,
_show_lint_warnings=False, _show_package_warnings=False"""


def chainer(**parameters: Any) -> Chainer:
    return Chainer(".", **{"compute_target": "local", "entry_script": "train.py", **parameters})


def test_signature() -> None:
    parameters = list(inspect.signature(Chainer).parameters.values())
    written = [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]
    assert written == [text for text in re.split(r",\s*", SIGNATURE) if text != "*"]
    assert [p.kind for p in parameters[1:]] == [inspect.Parameter.KEYWORD_ONLY] * 33
    with pytest.raises(TypeError):
        Chainer(".", "local")  # type: ignore[misc]


def test_class_facts() -> None:
    assert Chainer.FRAMEWORK_NAME == "Chainer"
    assert Chainer.DEFAULT_VERSION == "5.1.0"
    versions = ["4.5.0", "5.1.0", "5.4.0", "6.7.0", "7.0.0", "7.7.0", "7.8.1"]
    assert Chainer.get_supported_versions() == versions
    assert [base.__name__ for base in Chainer.__mro__[1:3]] == [
        "_FrameworkBaseEstimator",
        "MMLBaseEstimator",
    ]
    assert issubclass(Chainer, MMLBaseEstimator)


def test_properties(tmp_path: Path) -> None:
    assert chainer().framework_version == "5.1.0"
    assert chainer(framework_version="7.0.0").framework_version == "7.0.0"
    assert Chainer("", compute_target="local").source_directory == "."
    assert Chainer("some/where/", compute_target="local").source_directory == "some/where/"
    assert Chainer(tmp_path, compute_target="local").source_directory == str(tmp_path)
    with pytest.raises(AttributeError):
        chainer().source_directory = "x"  # type: ignore[misc]


def test_mpi() -> None:
    assert Mpi().process_count_per_node == 1
    assert Mpi(process_count_per_node=4).process_count_per_node == 4
    assert str(Mpi()) == "mpi"


def test_nothing_of_the_caller_is_changed() -> None:
    given = {
        "script_params": {"--a": [1, 2], "--b": ""},
        "environment_variables": {"A": "1", "TOKEN": "x"},
        "pip_packages": ["tqdm"],
    }
    before = copy.deepcopy(given)
    estimator = chainer(**given)
    given["script_params"]["--a"].append(3)
    before["script_params"]["--a"].append(3)
    assert given == before
    assert estimator.run_config.arguments == ["--a", 1, 2, "--b"]
    assert next(estimator.conda_dependencies.pip_packages) == "tqdm"
    assert given == before


def test_construction_looks_at_no_file() -> None:
    Chainer("/nowhere", compute_target="local", entry_script="nothing.py")


def test_no_secret_shows() -> None:
    estimator = chainer(environment_variables={"A": Secret("hunter2"), "A_TOKEN": "hunter2"})
    assert "hunter2" not in repr(estimator)


# Refusals. Each message names the parameter, and says what to do.

MPI = {"distributed_training": Mpi(2)}

COMBINATIONS: list[tuple[dict[str, Any], type[AzureMLException], str]] = [
    ({"use_docker": False, "custom_docker_image": "a"}, TrainingException, "use_docker=False"),
    ({"use_docker": False, "custom_docker_base_image": "a"}, TrainingException, "use_docker"),
    ({"environment_definition": Environment("e"), "use_gpu": True}, TrainingException, "use_gpu"),
    (
        {"environment_definition": Environment("e"), "environment_variables": {"A": "1"}},
        TrainingException,
        "environment_variables",
    ),
    (
        {"environment_definition": Environment("e"), "shm_size": "2g"},
        TrainingException,
        "shm_size",
    ),
    (
        {"conda_dependencies_file": "a", "pip_packages": ["b"]},
        TrainingException,
        "conda_dependencies_file .* pip_packages",
    ),
    (
        {"conda_dependencies_file_path": "a", "conda_packages": ["b"]},
        TrainingException,
        "conda_dependencies_file_path .* conda_packages",
    ),
    ({"node_count": 0}, TrainingException, "node_count is 0"),
    ({"process_count_per_node": 0}, TrainingException, "process_count_per_node is 0"),
    ({"distributed_backend": "ps"}, TrainingException, "distributed_backend is 'ps'.*mpi"),
    (
        {"distributed_backend": "mpi", "distributed_training": ParallelTaskConfiguration()},
        TrainingException,
        "distributed_backend is 'mpi'.*ParallelTaskConfiguration",
    ),
    ({"user_managed": True, "pip_packages": ["a"]}, UserErrorException, "pip_packages"),
    ({"user_managed": True, "conda_packages": ["a"]}, UserErrorException, "conda_packages"),
    (
        {"user_managed": True, "pip_requirements_file_path": "a"},
        UserErrorException,
        "pip_requirements_file_path",
    ),
    ({"process_count_per_node": 2}, TrainingException, "process_count_per_node is 2.*Mpi"),
    ({"node_count": 2}, TrainingException, "node_count is 2.*Mpi"),
    ({"compute_target": None}, TrainingException, 'compute_target is missing.*"local"'),
    ({"compute_target": ""}, TrainingException, "compute_target is missing"),
    ({"node_count": 2, **MPI}, TrainingException, "node_count is 2.*one node; .*AmlCompute"),
    (
        {"custom_docker_image": "a", "custom_docker_base_image": "b"},
        TrainingException,
        "keep custom_docker_image",
    ),
    (
        {"pip_requirements_file": "nothing.txt"},
        UserErrorException,
        r"pip_requirements_file names \./nothing.txt, which does not exist",
    ),
    (
        {"pip_requirements_file_path": "nothing.txt"},
        UserErrorException,
        "pip_requirements_file_path names",
    ),
    ({"framework_version": "9"}, TrainingException, "'9'.*4.5.0, 5.1.0, .*7.8.1"),
    ({"framework_version": "7"}, TrainingException, "framework_version is '7'"),
    ({"framework_version": 7.0}, TrainingException, "framework_version is 7.0.*as a str"),
]


@pytest.mark.parametrize(("given", "kind", "words"), COMBINATIONS)
def test_combinations(given: dict[str, Any], kind: type[AzureMLException], words: str) -> None:
    with pytest.raises(AzureMLException, match=words) as caught:
        chainer(**given)
    assert type(caught.value) is kind
    assert caught.value.message == str(caught.value)


TYPES: list[tuple[dict[str, Any], str]] = [
    ({"node_count": "2"}, "node_count is '2', a str; it must be an int"),
    ({"node_count": None}, "node_count is None"),
    ({"node_count": True}, "node_count is True"),
    ({"node_count": 1.5}, "node_count is 1.5"),
    ({"use_gpu": "yes"}, "use_gpu is 'yes'"),
    ({"use_docker": 2}, "use_docker is 2"),
    ({"user_managed": "False"}, "user_managed is 'False'"),
    ({"script_params": ["--a", 1]}, "script_params is .*a dict"),
    ({"environment_variables": "A=1"}, "environment_variables is 'A=1'"),
    ({"environment_variables": {"A": object()}}, r"environment_variables\['A'\]"),
    ({"pip_packages": "numpy"}, r"pip_packages is 'numpy'.*Write pip_packages=\['numpy'\]"),
    ({"pip_packages": [1]}, "pip_packages has the element 1"),
    ({"conda_packages": [" "]}, "conda_packages has the element ' '"),
    ({"conda_packages": "scipy"}, r"Write conda_packages=\['scipy'\]"),
    ({"inputs": "data"}, "inputs is 'data'"),
    ({"entry_script": 3}, "entry_script is 3"),
    ({"pip_requirements_file": ["a"]}, "pip_requirements_file is"),
    ({"max_run_duration_seconds": -1}, "max_run_duration_seconds is -1.*no limit"),
    ({"max_run_duration_seconds": 0}, "max_run_duration_seconds is 0"),
    ({"max_run_duration_seconds": "60"}, "max_run_duration_seconds is '60'"),
    ({"max_run_duration_seconds": float("nan")}, "max_run_duration_seconds is nan"),
    ({"compute_target": 5}, "compute_target is 5, a int"),
    ({"vm_size": "STANDARD_NC6", "vm_priority": "cheap"}, "vm_priority is 'cheap'.*lowpriority"),
    ({"distributed_training": Mpi(0)}, r"Mpi\(process_count_per_node=0\)"),
    ({"distributed_training": Mpi("2")}, "process_count_per_node='2'"),
    ({"distributed_training": MpiConfiguration(0)}, "MpiConfiguration.*=0"),
    ({"environment_definition": "e"}, "environment_definition is 'e'.*Environment"),
    ({"image_registry_details": "host"}, "image_registry_details is 'host'.*ContainerRegistry"),
    ({"shm_size": "big"}, "shm_size is 'big'.*'2g'"),
    ({"shm_size": "0g"}, "shm_size is '0g'"),
    ({"distributed_training": "mpi"}, r"distributed_training is 'mpi'.*Mpi\(\.\.\.\)"),
    ({"distributed_backend": 1}, "distributed_backend is 1"),
    ({"shm_size": 2}, "shm_size is 2"),
    ({"_disable_validation": "no"}, "_disable_validation is 'no'"),
]


@pytest.mark.parametrize(("given", "words"), TYPES)
def test_values_that_can_never_work(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserErrorException, match=words) as caught:
        chainer(**given)
    assert type(caught.value) is UserErrorException


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"use_gpu": 1}, {"use_gpu": True}),
        ({"use_gpu": None, "user_managed": "", "_disable_validation": 0}, {}),
        ({"conda_packages": {"scipy", "h5py"}}, {"conda_packages": ["h5py", "scipy"]}),
        ({"pip_packages": (name for name in ["six", " "])}, {"pip_packages": ["six"]}),
        ({"distributed_training": {}, "environment_definition": {}, "inputs": set()}, {}),
        ({"vm_priority": "LowPriority"}, {"vm_priority": "lowpriority"}),
        ({"max_run_duration_seconds": 60.0}, {"max_run_duration_seconds": 60}),
        ({"node_count": 1.0, **MPI}, MPI),
    ],
)
def test_what_v1s_callers_pass_for_python_s_own_values(
    given: dict[str, Any], same: dict[str, Any]
) -> None:
    found, wanted = (chainer(**values).run_config.to_document() for values in (given, same))
    assert found == wanted


def test_other_frameworks_distribution() -> None:
    for kind in (Gloo, Nccl, ParameterServer):
        with pytest.raises(TrainingException, match=kind.__name__):
            chainer(distributed_training=kind())


DATA: list[dict[str, Any]] = [
    {"inputs": [object()]},
    {"source_directory_data_store": object()},
    {"resume_from": object()},
]


@pytest.mark.parametrize("given", DATA, ids=" ".join)
def test_what_is_no_data_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UserErrorException, match=r"must be a Data|Datastore") as caught:
        chainer(**given)
    assert not isinstance(caught.value, NotBuiltError)
    assert str(caught.value).startswith(next(iter(given)))


# How the processes are laid out, as v1 has it.
LAYOUTS: list[tuple[dict[str, Any], tuple[int, int, str]]] = [
    ({}, (1, 1, "None")),
    ({"distributed_training": Mpi()}, (1, 1, "Mpi")),
    ({"distributed_training": Mpi(4)}, (1, 4, "Mpi")),
    ({"distributed_training": Mpi(2), "process_count_per_node": 4}, (1, 2, "Mpi")),
    ({"distributed_backend": "MPI", "process_count_per_node": 3}, (1, 3, "IntelMpi")),
    ({"distributed_backend": "mpi", "distributed_training": Mpi(2)}, (1, 2, "Mpi")),
    ({"compute_target": "cluster", "node_count": 2, **MPI}, (2, 2, "Mpi")),
    (
        {"compute_target": None, "vm_size": "STANDARD_NC6", "node_count": 2, **MPI},
        (2, 2, "Mpi"),
    ),
]


@pytest.mark.parametrize(("given", "layout"), LAYOUTS)
def test_layouts(given: dict[str, Any], layout: tuple[int, int, str]) -> None:
    assert tuple(chainer(**given)._distribution.values()) == layout


def test_what_asks_for_nothing_is_taken() -> None:
    chainer(
        vm_priority="lowpriority", conda_packages=[], pip_packages=[], inputs=[], script_params={},
        environment_variables={}, custom_docker_image="", pip_requirements_file="",
        _show_lint_warnings=True, _show_package_warnings=True, max_run_duration_seconds=0.5,
    )  # fmt: skip


def test_what_fits_together_is_checked_before_files_are_read() -> None:
    with pytest.raises(TrainingException, match="node_count"):
        chainer(node_count=0, conda_dependencies_file="gone.yml")


OPTIMIZED: list[dict[str, Any]] = [
    {"custom_docker_image": "a"},
    {"custom_docker_base_image": "a"},
    {"environment_definition": Environment("e")},
    {"entry_script": "Train.IPYNB"},
]


@pytest.mark.parametrize("given", OPTIMIZED, ids=" ".join)
def test_optimized_mode_needs_the_image_of_the_framework(given: dict[str, Any]) -> None:
    chainer(**given)
    with pytest.raises(TrainingException, match="_enable_optimized_mode") as caught:
        chainer(_enable_optimized_mode=True, **given)
    assert next(iter(given)) in str(caught.value)


# What is logged


def test_one_line_about_v1(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    chainer(framework_version="7.0.0", script_params={"--a": 1})
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "ScriptRunConfig(source_directory='.', script='train.py'" in record.message
    assert "arguments=['--a', '1']" in record.message


def test_the_default_version_is_told(caplog: pytest.LogCaptureFixture) -> None:
    chainer(user_managed=True)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    chainer()
    assert "framework_version is not given: 5.1.0" in caplog.text


@pytest.mark.parametrize(("speaks_v1", "level"), [(True, "WARNING"), (False, "INFO")])
def test_old_names_are_warned_of_where_v1s_modules_are_used(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, speaks_v1: bool, level: str
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(sys.modules, "azureml", sys)
    if not speaks_v1:
        monkeypatch.delitem(sys.modules, "azureml")
    chainer(framework_version="7.0.0", use_docker=False, distributed_training=Mpi(2))
    told = {record.levelname for record in caplog.records if "for estimators" in record.message}
    told |= {record.levelname for record in caplog.records if "is old" in record.message}
    assert told == {level}


def test_the_old_name_of_the_requirement_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "new.txt").write_text("tqdm\n")
    (tmp_path / "old.txt").write_text("six\n")
    old = Chainer(tmp_path, compute_target="local", pip_requirements_file_path="old.txt")
    assert old._pip == ["six"]
    assert "pip_requirements_file_path is an old name" in caplog.text
    assert caplog.records[0].name == "root"
    both = Chainer(
        tmp_path,
        compute_target="local",
        pip_requirements_file="new.txt",
        pip_requirements_file_path="gone.txt",
        pip_packages=["tqdm", "numpy<2"],
    )
    assert both._pip == ["tqdm", "numpy<2"]


def test_exceptions_are_siblings() -> None:
    import rechain.exceptions as module

    for name in ("UserErrorException", "ComputeTargetException", "SnapshotException"):
        assert getattr(module, name).__base__ is AzureMLException
        assert not issubclass(TrainingException, getattr(module, name))
    assert AzureMLException.__base__ is Exception
    inner = OSError(os.strerror(2))
    error = TrainingException("text", inner)
    assert (error.message, error.inner_exception, str(error)) == ("text", inner, "text")
