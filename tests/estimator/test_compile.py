"""An estimator compiles to a job; what cannot run is said before anything starts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.compute.slurm.settings import Settings, request
from rechain.estimator import Chainer, Mpi, ScriptRunConfig, compile
from rechain.exceptions import (
    AzureMLException,
    NotBuiltError,
    TrainingException,
    UserErrorException,
)
from rechain.job.job import Job
from rechain.job.variables import Secret
from rechain.runconfig import ContainerRegistry, DockerConfiguration, Environment
from rechain.runconfig.container_registry import RegistryIdentity
from rechain.runconfig.distributed import ParallelTaskConfiguration

pytestmark = pytest.mark.fast


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "sub").mkdir(parents=True)
    (folder / "train.py").touch()
    (folder / "sub" / "train.py").touch()
    (folder / "-x.py").touch()
    return folder


def compiled(source: Path, /, entry_script: Any = "train.py", **given: Any) -> Job:
    options = {
        name: given.pop(name)
        for name in (
            "python",
            "arguments",
            "strict",
            "grace_seconds",
            "stall_seconds",
            "mpi",
            "gpu",
            "pool",
            "slurm",
            "tags",
            "environ",
        )
        if name in given
    }
    estimator = Chainer(
        str(source),
        entry_script=entry_script,
        **{"compute_target": "local", "user_managed": "pip_packages" not in given, **given},
    )
    return compile(estimator, experiment="mnist", **{"environ": {}, **options})


def test_a_user_managed_job(code: Path) -> None:
    job = compiled(
        code,
        script_params={"--epoch": 3, "--flag": ""},
        environment_variables={"A": 1, "MY_TOKEN": "hunter2", "B": Secret("hunter3")},
        environ={"LANG": "C", "TZ": "UTC", "HOME": "/root", "A": "0"},
        max_run_duration_seconds=60,
        use_docker=False,
        tags={"stage": 1},
    )
    assert job.to_json() == {
        "schema": 1,
        "run_id": None,
        "experiment": "mnist",
        "workspace": None,
        "parent": None,
        "kind": "script",
        "source": {"directory": str(code), "snapshot": None},
        "command": ["train.py", "--epoch", "3", "--flag"],
        "environment": {"kind": "user-managed", "python": "python"},
        "variables": {"A": "1"},
        "inherited": {"LANG": "C", "TZ": "UTC"},
        "secrets": ["B", "MY_TOKEN"],
        "inputs": [],
        "outputs": [],
        "distribution": {"nodes": 1, "processes_per_node": 1, "communicator": "None"},
        "limits": {"seconds": 60, "grace_seconds": 10, "stall_seconds": None},
        "container": None,
        "target": "local",
        "pool": None,
        "slurm": None,
        "tags": {"stage": "1"},
        "properties": {},
        "notes": [],
        "resumed": None,
        "replayed": None,
        "seen": {},
        "estimator": {
            "class": "Chainer",
            "framework_version": "5.1.0",
            "user_managed": True,
            "use_docker": False,
        },
        "submitted": None,
    }
    assert job.secret_values == {"MY_TOKEN": "hunter2", "B": "hunter3"}


def test_a_managed_job(code: Path) -> None:
    job = compiled(
        code,
        pip_packages=["tqdm", "azureml-defaults"],
        framework_version="7.0.0",
        python="3.8",
        strict=True,
    )
    environment = job.environment
    assert environment["kind"] == "venv"
    assert environment["recipe"] == "chainer-7.0.0"
    assert environment["python"] == "3.8"
    assert environment["pip"] == ["tqdm"]
    assert environment["strict"] is True
    assert "notes" not in environment
    assert any("azureml-defaults" in note for note in job.notes)


def test_a_requirement_that_is_none(code: Path) -> None:
    with pytest.raises(UserErrorException, match="numpy=1"):
        compiled(code, pip_packages=["numpy=1"])


def test_only_who_asks_for_a_container_gets_one(code: Path) -> None:
    for job in (compiled(code), compiled(code, use_docker=False)):
        assert job.container is None
        assert "image" not in job.environment
        assert job.notes == []
    for given in ({"use_docker": True}, {"custom_docker_image": "mine:1"}):
        job = compiled(code, user_managed=False, **given)
        assert job.environment["image"]["built"] is True
        assert job.environment["image"].get("asked") == given.get("custom_docker_image")
        assert job.container == {"shm_size": "2g", "arguments": [], "mounts": []}
        assert job.notes == []
    job = compiled(code, user_managed=True, custom_docker_base_image="mine:1", shm_size="1m")
    assert job.environment["image"]["built"] is False
    assert job.container["shm_size"] == "1m"
    assert job.environment["python"] == "python"
    for python, name in (("3.6", "python3.6"), ("3", "python3"), ("pypy3", "pypy3")):
        assert compiled(code, user_managed=True, python=python).environment["python"] == name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"use_docker": True, "user_managed": True}, "without a container"),
        ({"shm_size": "2g"}, "means nothing without a container"),
    ],
    ids=["no image", "shm_size"],
)
def test_a_container_that_is_asked_for_and_not_used_is_said(code: Path, given, words) -> None:
    job = compiled(code, **given)
    assert "image" not in job.environment
    assert [words in note for note in job.notes] == [True]


def registry(**given: str) -> ContainerRegistry:
    made = ContainerRegistry()
    for name, value in given.items():
        setattr(made, name, value)
    return made


def test_the_password_of_a_registry_is_in_memory_only(code: Path) -> None:
    login = registry(address="registry.example:5000", username="me", password="hunter2")
    job = compiled(code, custom_docker_image="lab/torch:2", image_registry_details=login)
    assert job.registry_password == "hunter2"
    assert job.replace(run_id="x").registry_password == "hunter2"
    assert job.environment["image"]["reference"] == "registry.example:5000/lab/torch:2"
    assert "hunter2" not in json.dumps(job.to_json())
    assert "hunter2" not in repr(job)
    assert job.to_json()["secrets"] == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"username": "me"}, "only one of username and password"),
        ({"password": "x"}, "only one of username and password"),
        ({"registry_identity": RegistryIdentity()}, "only Azure can look up"),
    ],
    ids=["no password", "no user", "identity"],
)
def test_a_login_that_cannot_be_used_is_an_error(code: Path, given, words) -> None:
    with pytest.raises(UserErrorException, match=words):
        compiled(code, custom_docker_image="a:1", image_registry_details=registry(**given))


def test_an_image_of_v1_is_replaced_and_said(code: Path) -> None:
    job = compiled(code, user_managed=False, custom_docker_image="chainer:7.0.0-cpu")
    assert job.environment["image"]["reference"] is None
    assert [("chainer:7.0.0-cpu is an image of v1" in note) for note in job.notes] == [True]


def test_ranks_in_a_container_have_an_mpi_that_an_image_can_have(code: Path) -> None:
    for given in ({"use_docker": True}, {"custom_docker_image": "mine:1"}):
        job = compiled(code, user_managed=False, distributed_training=Mpi(2), **given)
        assert job.environment["image"]["built"] is True
        assert job.environment["mpi"] == {"wanted": "mpich", "mpiexec": None}
        assert job.notes == []


def test_a_container_on_each_node_of_slurm(code: Path) -> None:
    slurm = request(Settings().to_json())
    more: dict[str, Any] = {"node_count": 2, "distributed_training": Mpi(2), "user_managed": False}
    more["compute_target"] = "cluster"
    for given in ({}, more):
        job = compiled(code, slurm=slurm, custom_docker_image="mine:1", **given)
        assert job.environment["image"]["asked"] == "mine:1"
        job = compiled(code, slurm=slurm, use_docker=True, **{"user_managed": False, **given})
        assert job.environment["image"]["built"] is True
        assert job.notes == []


@pytest.mark.parametrize(
    ("asked", "mpiexec"),
    [(None, None), ("system", None), ("/opt/mpi/bin/mpirun", "/opt/mpi/bin/mpirun")],
)
def test_ranks_in_an_image_with_its_own_python_have_its_own_mpi(code, asked, mpiexec) -> None:
    given = {"custom_docker_image": "mine:1", "user_managed": True}
    job = compiled(code, distributed_training=Mpi(2), **given, mpi=asked)
    assert job.environment["image"]["built"] is False
    assert job.environment["mpi"] == {"wanted": asked or "auto", "mpiexec": mpiexec}
    with pytest.raises(UserErrorException, match="would have to install"):
        compiled(code, distributed_training=Mpi(2), **given, mpi="mpich")


@pytest.mark.parametrize("option", ["--name=x", "-d", "--pid=host"])
def test_options_that_would_untie_a_container_from_its_run(code: Path, option: str) -> None:
    environment = Environment.from_docker_image("mine", "mine:1")
    docker = DockerConfiguration(use_docker=True, arguments=[option])
    config = ScriptRunConfig(
        code, "train.py", environment=environment, docker_runtime_config=docker
    )
    with pytest.raises(UserErrorException, match="Rechain decides itself"):
        compile(config, experiment="x")


@pytest.mark.parametrize("given", [{"vm_size": "Standard_NC6"}, {"vm_priority": "lowpriority"}])
def test_the_note_about_nodes_that_are_none(code: Path, given: dict[str, str]) -> None:
    (note,) = compiled(code, use_docker=False, **given).notes
    assert "vm_size and vm_priority mean nothing" in note


def test_compiling_changes_nothing_and_is_repeatable(code: Path) -> None:
    estimator = Chainer(str(code), compute_target="local", entry_script="train.py",
                        user_managed=True, script_params={"--a": 1})  # fmt: skip
    first = compile(estimator, experiment="e", environ={})
    assert compile(estimator, experiment="e", environ={}) == first


def test_exact_arguments(code: Path) -> None:
    given = ["--a", "", "--a", "2"]
    assert compiled(code, arguments=given, script_params={"--b": 1}).command[1:] == given


@pytest.mark.parametrize(
    ("entry", "script"),
    [
        ("train.py", "train.py"),
        ("./train.py", "train.py"),
        ("sub/../train.py", "train.py"),
        ("sub/train.py", "sub/train.py"),
        ("{code}/sub/train.py", "sub/train.py"),
        ("-x.py", "./-x.py"),
        (Path("train.py"), "train.py"),
    ],
)
def test_entry_scripts(code: Path, entry: Any, script: str) -> None:
    if isinstance(entry, str):
        entry = entry.format(code=code)
    assert compiled(code, entry).command == [script]


def test_an_absolute_script_in_a_folder_reached_through_a_link(code: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(code)
    assert compiled(tmp_path / "alias", str(code / "train.py")).command == ["train.py"]
    assert compiled(code, str(tmp_path / "alias" / "train.py")).command == ["train.py"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (None, "entry_script is missing"),
        ("", "entry_script is missing"),
        ("gone.py", r"'gone.py'.*no such file.*There: -x.py, train.py"),
        ("sub", "'sub'"),
        ("../other.py", "not inside source_directory"),
        ("/etc/passwd", "not inside source_directory"),
        ("sub/../../x.py", "not inside"),
    ],
)
def test_scripts_that_cannot_run(code: Path, entry: Any, words: str) -> None:
    with pytest.raises(TrainingException, match=words):
        compiled(code, entry)


def test_a_source_folder_that_is_none(code: Path) -> None:
    for path in (code / "gone", code / "train.py"):
        with pytest.raises(TrainingException, match="source_directory"):
            compiled(path)


COMPILE_AS_NOBODY = """
import os, sys
from rechain.estimator import Chainer, compile
from rechain.exceptions import TrainingException
def compiled(folder):
    made = Chainer(folder, compute_target="local", entry_script="train.py", user_managed=True)
    compile(made, experiment="x")
compiled(sys.argv[1])  # all is imported as long as it may be read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.chdir("/")
try:
    compiled(sys.argv[2])
except TrainingException as error:
    print(error.message)
"""


@pytest.mark.parametrize("mode", [0, 0o444, 0o111])  # 0o444: its files are listed, no more
def test_a_source_folder_that_may_not_be_read(code: Path, tmp_path: Path, mode: int) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "train.py").touch()
    folder = tmp_path
    while folder.owner() == code.owner() and folder.name:  # pytest's folder is a private one
        folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent
    closed.chmod(mode)
    said = subprocess.run(
        [sys.executable, "-c", COMPILE_AS_NOBODY, str(code), str(closed)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    closed.chmod(0o755)
    words = f"source_directory is '{closed}', a folder that you may not read. Change its"
    assert said.stdout.startswith(words), said.stderr


def test_the_source_folder_is_absolute(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code.parent)
    assert compiled(Path("code")).source["directory"] == str(code)


def test_user_managed_interpreters(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(code)
    assert compiled(code, python="python3.8").environment["python"] == "python3.8"
    assert compiled(code, python=sys.executable).environment["python"] == sys.executable
    assert compiled(code, python="sub/python").environment["python"] == f"{code}/sub/python"
    home = os.path.expanduser("~")
    assert compiled(code, python="~/py/python").environment["python"] == f"{home}/py/python"


@pytest.mark.parametrize("grace", [-1, float("inf"), float("nan"), True])
def test_grace(code: Path, grace: float) -> None:
    with pytest.raises(UserErrorException, match="grace_seconds"):
        compiled(code, grace_seconds=grace)


def test_ranks_of_a_user_managed_python(code: Path, tmp_path: Path) -> None:
    mpiexec = tmp_path / "mpiexec"
    mpiexec.touch(0o755)
    for given, environ in (
        ({}, {"PATH": str(tmp_path)}),
        ({"mpi": str(mpiexec)}, {}),
        ({}, {"RECHAIN_MPI": str(mpiexec)}),
    ):
        job = compiled(code, distributed_training=Mpi(3), environ=environ, **given)
        assert job.distribution == {
            "nodes": 1,
            "processes_per_node": 3,
            "communicator": "Mpi",
        }
        assert job.environment["mpi"]["mpiexec"] == str(mpiexec)


def test_one_process_needs_no_mpi(code: Path) -> None:
    assert "mpi" not in compiled(code, mpi="mpich").environment


@pytest.mark.parametrize("stall", [0, -1, float("inf"), float("nan")])
def test_stall(code: Path, stall: float) -> None:
    with pytest.raises(UserErrorException, match="stall_seconds"):
        compiled(code, stall_seconds=stall)


def test_nodes_of_a_pool(code: Path) -> None:
    pool = {"name": "cluster", "max_nodes": 2}
    job = compiled(code, compute_target="cluster", pool=pool)
    assert (job.target, job.pool) == ("cluster", pool)


@pytest.mark.parametrize("user_managed", [False, True])
def test_whether_a_gpu_must_be_there(code: Path, user_managed: bool) -> None:
    def wanted(gpu: str | None = None, environ: dict[str, str] | None = None, **given: Any) -> Any:
        given = {"user_managed": user_managed, "use_gpu": True, **given}
        return compiled(code, gpu=gpu, environ=environ or {}, **given).environment.get("gpu")

    assert wanted(use_gpu=False, environ={"RECHAIN_GPU": "optional"}) is None
    assert wanted()["wanted"] == "required"
    assert wanted(environ={"RECHAIN_GPU": "optional"})["wanted"] == "optional"
    assert wanted("required", {"RECHAIN_GPU": "optional"})["wanted"] == "required"
    with pytest.raises(UserErrorException, match=r"gpu is 'maybe'.*'required' or 'opt"):
        wanted(environ={"RECHAIN_GPU": "maybe"})


NOT_BUILT: list[dict[str, Any]] = [
    {"distributed_training": ParallelTaskConfiguration()},
    {"entry_script": "Train.IPYNB", "distributed_training": Mpi(2)},
]


@pytest.mark.parametrize("given", NOT_BUILT, ids=" ".join)
def test_what_can_be_described_and_not_run_yet(code: Path, given: dict[str, Any]) -> None:
    (code / "Train.IPYNB").touch()
    given = {"user_managed": False, **given}
    with pytest.raises(NotBuiltError) as caught:
        compiled(code, **given)
    text = str(caught.value)
    assert any(name in text for name in given)
    assert len(re.findall(r"[.:] ", text)) >= 1, "what to do meanwhile"


def estimator(code: Path, **given: Any) -> Chainer:
    return Chainer(
        code,
        **{
            "entry_script": "train.py",
            "compute_target": "local",
            "script_params": {"--a": 1, "--flag": ""},
            "environment_variables": {"A": 1, "MY_TOKEN": "hunter2"},
            "pip_packages": ["tqdm"],
            "framework_version": "7.0.0",
            **given,
        },
    )


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"distributed_training": Mpi(2)},
        {"compute_target": None, "vm_size": "STANDARD_NC6", "vm_priority": "lowpriority"},
        {"user_managed": True, "pip_packages": None, "max_run_duration_seconds": 0.5},
    ],
)
def test_looking_at_the_run_configuration_changes_nothing(
    code: Path, given: dict[str, Any]
) -> None:
    looked = estimator(code, **given)
    assert looked.run_config is looked.run_config
    assert looked.conda_dependencies is looked.run_config.environment.python.conda_dependencies
    jobs = [
        compile(one, experiment="e", environ={"PATH": "/nowhere"})
        for one in (looked, estimator(code, **given))
    ]
    assert jobs[0] == jobs[1]


def test_what_is_changed_in_the_run_configuration_counts(code: Path) -> None:
    changed = estimator(code)
    made = changed.run_config
    made.script = "sub/train.py"
    made.arguments = ["--b", 2, "--c", ""]
    made.max_run_duration_seconds = 60
    made.environment_variables["B"] = "3"
    made.communicator, made.mpi.process_count_per_node = "IntelMpi", 2
    made.docker.use_docker = False
    changed.conda_dependencies.add_pip_package("six")
    job = compile(changed, experiment="e", environ={"PATH": "/nowhere"})
    assert job.command == ["sub/train.py", "--b", "2", "--c"]
    assert job.limits["seconds"] == 60
    assert job.variables == {"A": "1", "B": "3"}
    assert job.secret_values == {"MY_TOKEN": "hunter2"}
    assert job.distribution["processes_per_node"] == 2
    assert sorted(job.environment["pip"]) == ["six", "tqdm"]
    assert job.notes == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "made.history.directories_to_watch = []",
            r"run_config.history.directoriesToWatch .*'logs'",
        ),
        ("made.environment.python.interpreter_path = 'x'", "interpreterPath"),
        ("made.environment.python.conda_dependencies.remove_pip_package('tqdm')", "more than"),
        ("made.environment.python.conda_dependencies.add_conda_package('tqdm')", "more than"),
    ],
)
def test_no_change_of_the_run_configuration_is_lost(code: Path, change: str, words: str) -> None:
    changed = estimator(code)
    exec(change, {"made": changed.run_config})
    with pytest.raises(NotBuiltError, match=words):
        compile(changed, experiment="e", environ={})


def test_what_is_no_estimator() -> None:
    with pytest.raises(AzureMLException, match="is a str; what can be submitted"):
        compile("train.py", experiment="e")


def test_a_notebook_brings_what_runs_it(code: Path) -> None:
    (code / "Train.IPYNB").touch()
    job = compiled(
        code, user_managed=False, entry_script="Train.IPYNB", script_params={"lr": 0.1, "n": "1"},
        pip_packages=["papermill==2.3.4"],
    )  # fmt: skip
    assert job.command == ["Train.IPYNB", "--lr", "0.1", "--n", "'1'"]
    assert job.environment["pip"] == ["ipykernel", "papermill==2.3.4,>=2"]


def test_optimized_mode_changes_how_an_environment_is_built_and_not_which(code: Path) -> None:
    plain = compiled(code, pip_packages=["tqdm"]).environment
    asked = compiled(code, pip_packages=["tqdm"], _enable_optimized_mode=True).environment
    assert asked == {**plain, "layered": True}
    assert compiled(code, _enable_optimized_mode=True).environment == compiled(code).environment
