"""Every parameter of `Chainer`, by its effect in a job that runs.

`RECHAIN_GOLDEN=write pytest -m fast tests/workspace/test_parameters.py` writes docs/parameters.md.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rechain import AmlCompute, Chainer, ComputeTarget, Run, Workspace
from rechain.data import DataPath, Datastore
from rechain.estimator import Mpi
from rechain.record import jsonl
from rechain.record.journal import AttemptState, fold
from rechain.record.paths import RunPaths
from rechain.runconfig import ContainerRegistry, Environment
from rechain.testing import wait_for
from tests.registries import PASSWORD, USER, private_registry
from tests.workspace.conftest import Submitter

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"
PARAMETERS = [name for name in inspect.signature(Chainer.__init__).parameters if name != "self"]
HEAD = """# The parameters of Chainer

| parameter | what it does |
| --- | --- |
"""
FOOT = """
Each row stands for a test of the effect in a job that runs, and this page is generated from these. `RECHAIN_GOLDEN=write pytest -m fast tests/workspace/test_parameters.py` writes it.
"""  # noqa: E501

Test = Callable[..., None]
DOES: dict[str, str] = {}  # filled by the tests


def effect(parameter: str, does: str, mark: Any = pytest.mark.fast) -> Callable[[Test], Test]:
    """Mark the test that shows a parameter's effect, and note that for the page."""
    assert parameter not in DOES
    DOES[parameter] = does
    return mark


@pytest.mark.fast
def test_the_page_has_every_parameter() -> None:
    assert sorted(DOES) == sorted(PARAMETERS)
    text = HEAD + "".join(f"| `{name}` | {DOES[name]} |\n" for name in PARAMETERS)
    text += FOOT
    if os.environ.get("RECHAIN_GOLDEN") == "write":
        PAGE.write_text(text)
    assert text == PAGE.read_text()


@pytest.fixture(autouse=True)
def cluster(home: Path, monkeypatch: pytest.MonkeyPatch) -> ComputeTarget:
    """A pool of two nodes, in a queue of the test's own."""
    monkeypatch.setenv("RECHAIN_POOL_DIR", str(home.parent / "queue"))
    configuration = AmlCompute.provisioning_configuration(max_nodes=2)
    return ComputeTarget.create(Workspace.local(), "cluster", configuration)


@pytest.fixture
def store(home: Path) -> Datastore:
    """The default datastore, with a file in it."""
    store = Workspace.local().get_default_datastore()
    folder = home / "digits"
    folder.mkdir()
    (folder / "a.txt").write_text("digits")
    store.upload(folder, "digits", show_progress=False)
    return store


def last(run: Run) -> AttemptState:
    return fold(RunPaths(run.folder)).last


def completed(submit: Submitter, script: str, **given: Any) -> tuple[Run, str]:
    """Run a script to its end; return the run, and what rank 0 printed."""
    run = submit.done(script, **given)
    assert last(run).end["cause"] == "completed", last(run).end
    return run, submit.output(run).strip()


# Where


@effect("source_directory", "A snapshot of this folder is the current folder of the script.")
def test_source_directory(submit, home) -> None:
    other = home / "other"
    other.mkdir()
    (other / "data.txt").write_text("4")
    (other / "train.py").write_text("print(open('data.txt').read(), __import__('os').getcwd())")
    run, said = completed(submit, "", source_directory=str(other))
    assert said == f"4 {os.path.realpath(RunPaths(run.folder).work)}"


@effect(
    "compute_target",
    '`"local"`: this machine. An `AmlCompute`, or its name: nodes of that pool, in turn with all '
    "others who use it. A `SlurmCompute`, or its name: that [cluster](slurm.md).",
)
def test_compute_target(submit, cluster) -> None:
    for target, nodes in (("local", None), ("cluster", 1), (cluster, 1)):
        run, _ = completed(submit, "", compute_target=target)
        got = last(run).nodes
        assert (got and got["nodes"]) == nodes


@effect(
    "vm_size",
    "In place of `compute_target`: nodes of this size for this run alone. The script has that "
    "many CPUs and that much memory. On a Slurm cluster: what the target says of this size.",
)
def test_vm_size(submit) -> None:
    script = "import os; print(len(os.sched_getaffinity(0)))"
    run, said = completed(submit, script, compute_target=None, vm_size="Standard_D1_v2")
    assert said == "1"
    assert last(run).nodes["memory_bytes"] == int(3.5 * 2**30)
    run, _ = completed(submit, "", compute_target="cluster", vm_size="Standard_D1_v2")
    (note,) = jsonl.read(RunPaths(run.folder).job)["notes"]
    assert "vm_size" in note
    assert last(run).nodes["memory_bytes"] is None


@effect(
    "vm_priority",
    "`lowpriority`: the run gives way to dedicated ones on its nodes, and goes on when these "
    "ended.",
)
def test_vm_priority(submit) -> None:
    script = "import os, time\nif os.environ['RECHAIN_ATTEMPT'].endswith('/1'): time.sleep(600)"
    given = {"compute_target": "single"}
    configuration = AmlCompute.provisioning_configuration(max_nodes=1)
    ComputeTarget.create(Workspace.local(), "single", configuration)
    low = submit(script, vm_priority="lowpriority", **given)
    wait_for(lambda: low.get_status() == "Running", "the first run to have the node")
    completed(submit, "", vm_priority="dedicated", **given)
    low.wait_for_completion()
    assert [one.end["cause"] for one in fold(RunPaths(low.folder)).attempts] == [
        "preempted",
        "completed",
    ]


# What


@effect(
    "entry_script",
    "The script, or the [notebook](submitting.md#notebooks), that runs; relative to "
    "`source_directory`.",
)
def test_entry_script(submit) -> None:
    (submit.source / "sub").mkdir()
    (submit.source / "sub" / "other.py").write_text("import sys; print(sys.argv[0])")
    assert completed(submit, "", entry_script="sub/other.py")[1] == "sub/other.py"


@effect(
    "script_params",
    'Its arguments: `{"--lr": 0.1, "--flag": "", "--units": [8, 3]}` is `--lr 0.1 --flag --units '
    "8 3`. For a notebook: its parameters.",
)
def test_script_params(submit) -> None:
    params = {"--lr": 0.1, "--flag": "", "--units": [8, 3]}
    script = "import sys; print(*sys.argv[1:])"
    assert completed(submit, script, script_params=params)[1] == "--lr 0.1 --flag --units 8 3"


@effect("max_run_duration_seconds", "After this time the run is stopped and has failed.")
def test_max_run_duration_seconds(submit) -> None:
    run = submit.done("import time; time.sleep(60)", max_run_duration_seconds=0.2)
    assert last(run).end["cause"] == "time_limit"
    assert run.get_status() == "Failed"


# In how many processes; under the MPI of this machine, without mpi4py


SEES = """
import os
print(os.environ.get("RECHAIN_NODE"), os.environ["RECHAIN_RANK"], os.environ["RECHAIN_WORLD_SIZE"])
"""


def ranks(submit: Submitter, **given: Any) -> list[str]:
    """Return what each rank sees: its node on a pool, its number, how many there are."""
    run, _ = completed(submit, SEES, **given)
    assert jsonl.read(RunPaths(run.folder).lock)["mpi"]["mpiexec"]
    attempt = RunPaths(run.folder).attempt(1)
    return [Path(attempt.stdout(rank)).read_text().strip() for rank in sorted(last(run).ranks)]


@effect(
    "node_count",
    "More than 1: the script runs on that many nodes of the pool at once, with "
    "`distributed_training` or `distributed_backend`.",
    pytest.mark.engines,
)
def test_node_count(submit) -> None:
    given = {"compute_target": "cluster", "distributed_training": Mpi(2)}
    assert ranks(submit, node_count=2, **given) == ["0 0 4", "0 1 4", "1 2 4", "1 3 4"]


@effect(
    "process_count_per_node",
    "With `distributed_backend`: how many processes run the script on each node.",
    pytest.mark.engines,
)
def test_process_count_per_node(submit) -> None:
    given = {"distributed_backend": "mpi"}
    assert ranks(submit, process_count_per_node=2, **given) == ["None 0 2", "None 1 2"]


@effect(
    "distributed_backend",
    '`"mpi"`: mpiexec starts the script, also if it is one process.',
    pytest.mark.engines,
)
def test_distributed_backend(submit) -> None:
    assert ranks(submit, distributed_backend="mpi") == ["None 0 1"]


@effect(
    "distributed_training",
    "`Mpi(process_count_per_node=4)`: the script runs in that many processes on each node, which "
    "speak MPI.",
    pytest.mark.engines,
)
def test_distributed_training(submit) -> None:
    assert ranks(submit, distributed_training=Mpi(2)) == ["None 0 2", "None 1 2"]


# With which Python and packages

BUILT = {"user_managed": False, "framework_version": "7.0.0"}
PACKAGES = "import chainer, tqdm; print(chainer.__version__, tqdm.__version__)"


@effect(
    "user_managed",
    "True: the `python` of this machine runs the script as it is. False: Rechain makes an "
    "environment with Chainer in it.",
)
def test_user_managed(submit) -> None:
    run, said = completed(submit, "import sys; print(sys.version)", user_managed=True)
    assert said == sys.version
    assert jsonl.read(RunPaths(run.folder).lock)["kind"] == "user-managed"


IN_A_CONTAINER = "import os; print(open('/proc/1/cmdline').read().count('rechain_guest/init.py'))"


@pytest.fixture
def image(engines, monkeypatch) -> str:
    """An image with a Python of its own, and the engine that has it."""
    engine = engines("podman")
    for name, value in engine.environment.items():
        monkeypatch.setenv(name, value)
    return engine.python_image(sys.executable)


@effect(
    "use_docker",
    "True, if you say so: the script, with all its ranks, runs in a container of podman or "
    "docker; where neither is, without one, and the run has a note. Left out: without one.",
    pytest.mark.matrix,
)
def test_use_docker(submit, image, environments, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RECHAIN_BASE_IMAGE", image)
    given = {"user_managed": False, "framework_version": "7.0.0"}
    plain = completed(submit, IN_A_CONTAINER, **given)[1]
    inside = completed(submit, IN_A_CONTAINER, use_docker=True, **given)[1]
    assert (plain, inside) == ("0", "1")
    monkeypatch.delenv("RECHAIN_ENGINE")  # who names one gets an error
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    (tmp_path / "broken.conf").write_text("[[")
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "broken.conf"))
    run, said = completed(submit, IN_A_CONTAINER, use_docker=True, **given)
    assert said == "0"
    assert "no container engine works" in " ".join(last(run).notes)


@effect(
    "custom_docker_image",
    "The script runs in a container of this image: with user_managed, by the image's own Python.",
    pytest.mark.engines,
)
def test_custom_docker_image(submit, image) -> None:
    run, said = completed(submit, IN_A_CONTAINER, use_docker=True, custom_docker_image=image)
    assert said == "1"
    assert jsonl.read(RunPaths(run.folder).lock)["image"]["reference"] == image


@effect("custom_docker_base_image", "An old name of custom_docker_image.", pytest.mark.engines)
def test_custom_docker_base_image(submit, image) -> None:
    given = {"use_docker": True, "custom_docker_base_image": image}
    assert completed(submit, IN_A_CONTAINER, **given)[1] == "1"


@effect(
    "image_registry_details",
    "A `ContainerRegistry`: the registry that the image comes from, and a user and password for "
    "it. The password is recorded nowhere.",
    pytest.mark.engines,
)
def test_image_registry_details(submit, engine, tmp_path, monkeypatch) -> None:
    """The image has nothing but one file, so it is fetched and then has no Python."""
    said = []
    with private_registry(engine, tmp_path, monkeypatch) as private:
        private.push(engine, b"one", "lab/empty:1")
        for password in ("wrong", PASSWORD):
            details = ContainerRegistry()
            details.address, details.username, details.password = private.address, USER, password
            given = {"custom_docker_image": "lab/empty:1", "image_registry_details": details}
            run = submit.done("", use_docker=True, **given)
            said.append(last(run).end["message"])
            for folder, _, names in os.walk(run.folder):
                for name in names:
                    if os.path.isfile(f"{folder}/{name}"):
                        with open(f"{folder}/{name}", "rb") as file:
                            assert PASSWORD.encode() not in file.read(), name
        assert f"{private.address} refuses the user 'me'" in said[0]
        assert "refuses" not in said[1]
        assert engine.run("images", "--quiet", f"{private.address}/lab/empty:1").strip()


@effect(
    "shm_size",
    "The size of `/dev/shm` in the container, 2g by default; without a container it means "
    "nothing, and the run has a note.",
    pytest.mark.engines,
)
def test_shm_size(submit, image) -> None:
    script = "import shutil; print(shutil.disk_usage('/dev/shm').total >> 20)"
    given = {"use_docker": True, "custom_docker_image": image}
    assert completed(submit, script, shm_size="48m", **given)[1] == "48"


@effect(
    "use_gpu",
    "True: the script uses the machine's GPU, and has the [CuPy](environments.md#gpus) for "
    "it. Without a GPU the run fails, or with `RECHAIN_GPU=optional` runs on the CPU. Tested with "
    "a fake `nvidia-smi`.",
)
def test_use_gpu_with_a_fake_gpu(submit, fake_gpu, monkeypatch) -> None:
    fake_gpu("No devices were found", status=6)
    run = submit.done("", use_gpu=True)
    assert last(run).end["cause"] == "no_gpu"
    monkeypatch.setenv("RECHAIN_GPU", "optional")
    run, _ = completed(submit, "", use_gpu=True)
    assert any("No devices were found" in note for note in last(run).notes)
    fake_gpu("0, GPU-a, Tesla K80, 535.104.05, 3.7")
    run, _ = completed(submit, "", use_gpu=True)
    (gpu,) = jsonl.read(RunPaths(run.folder).lock)["gpu"]["found"]
    assert (gpu["name"], gpu["capability"]) == ("Tesla K80", "3.7")
    assert last(run).notes == []


@effect(
    "framework_version",
    "The version of Chainer in the environment; 5.1.0 where none is given.",
    pytest.mark.engines,
)
def test_framework_version(submit, environments) -> None:
    given = {**BUILT, "pip_packages": ["tqdm==4.64.1"]}
    assert completed(submit, PACKAGES, **given)[1].split()[0] == "7.0.0"


@effect("pip_packages", "Further requirements, installed beside Chainer.", pytest.mark.engines)
def test_pip_packages(submit, environments) -> None:
    given = {**BUILT, "pip_packages": ["tqdm==4.64.1"]}
    assert completed(submit, PACKAGES, **given)[1] == "7.0.0 4.64.1"


@effect(
    "_enable_optimized_mode",
    "An environment with further requirements is built on top of the recipe's own, if that is "
    "built. It is the same environment as without.",
    pytest.mark.engines,
)
def test_enable_optimized_mode(submit, environments, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))  # what stands there is looked at
    submit.done("", **BUILT)
    given = {**BUILT, "pip_packages": ["tqdm==4.64.0"], "_enable_optimized_mode": True}
    run, said = completed(submit, PACKAGES, **given)
    assert said == "7.0.0 4.64.0"
    assert "on top of the" in Path(run.folder, "attempts/1/prepare.log").read_text()


def requirements(submit: Submitter, parameter: str) -> str:
    (submit.source / "needs.txt").write_text("tqdm==4.64.1\n")
    return completed(submit, PACKAGES, **BUILT, **{parameter: "needs.txt"})[1]


@effect(
    "pip_requirements_file",
    "A file with such requirements, relative to `source_directory`.",
    pytest.mark.engines,
)
def test_pip_requirements_file(submit, environments) -> None:
    assert requirements(submit, "pip_requirements_file") == "7.0.0 4.64.1"


CONDA = """
import chainer, numpy, subprocess, sys
said = subprocess.check_output(["conda", "list", "--export", "numpy"]).decode()
print(chainer.__version__, numpy.__version__, sys.version_info[:2], said.splitlines()[-1])
"""


@effect(
    "conda_packages",
    "Packages of [conda](environments.md#conda), Python among them, under Chainer and what "
    "`pip_packages` ask for.",
    pytest.mark.engines,
)
def test_conda_packages(submit, environments, channel, monkeypatch) -> None:
    monkeypatch.setenv("CONDA_CHANNELS", str(channel))
    given = {"conda_packages": ["python=3.6", "numpy=1.14"], "framework_version": "5.1.0"}
    said = completed(submit, CONDA, user_managed=False, **given)[1]
    assert said == "5.1.0 1.14.6 (3, 6) numpy=1.14.6=py36_0"


def conda_file(submit: Submitter, channel: Path, parameter: str) -> str:
    (submit.source / "env.yml").write_text(
        f"channels: [{channel}]\nvariables: {{FROM_FILE: yes it is}}\n"
        "dependencies:\n- numpy=1.14\n- greeting\n- pip:\n  - chainer==5.1.0\n"
    )
    script = f"{CONDA}\nimport os\nprint(os.environ['FROM_FILE'], os.environ['CONDA_PREFIX'])"
    _, said = completed(submit, script, user_managed=False, **{parameter: "env.yml"})
    versions, _, rest = said.partition("\n")
    assert rest.startswith("yes it is /")
    return versions


@effect(
    "conda_dependencies_file",
    "A conda environment file, relative to `source_directory`: what is installed is what it says, "
    "and Chainer only if it says so.",
    pytest.mark.engines,
)
def test_conda_dependencies_file(submit, environments, channel) -> None:
    said = conda_file(submit, channel, "conda_dependencies_file")
    assert said == "5.1.0 1.14.6 (3, 6) numpy=1.14.6=py36_0"


@effect(
    "conda_dependencies_file_path", "Old name of `conda_dependencies_file`.", pytest.mark.engines
)
def test_conda_dependencies_file_path(submit, environments, channel) -> None:
    said = conda_file(submit, channel, "conda_dependencies_file_path")
    assert said == "5.1.0 1.14.6 (3, 6) numpy=1.14.6=py36_0"


@effect("pip_requirements_file_path", "Old name of `pip_requirements_file`.", pytest.mark.engines)
def test_pip_requirements_file_path(submit, environments) -> None:
    assert requirements(submit, "pip_requirements_file_path") == "7.0.0 4.64.1"


@effect("environment_variables", "Variables of the script's process.")
def test_environment_variables(submit) -> None:
    script = "import os; print(os.environ['LAYERS'])"
    assert completed(submit, script, environment_variables={"LAYERS": 3})[1] == "3"


@effect(
    "environment_definition",
    "An `Environment`, in place of all that is said about packages, images and variables.",
)
def test_environment_definition(submit) -> None:
    environment = Environment("mine")
    environment.python.user_managed_dependencies = True
    environment.python.interpreter_path = sys.executable
    environment.environment_variables = {"LAYERS": "3"}
    script = "import os, sys; print(os.environ['LAYERS'], sys.executable)"
    given = {"environment_definition": environment, "user_managed": False}
    assert completed(submit, script, **given)[1] == f"3 {sys.executable}"


# A look at it first


def checked(submit: Submitter, caplog: pytest.LogCaptureFixture, **given: Any) -> str:
    """Run a script with a mistake; return what was logged; the notes have it in any case."""
    caplog.clear()
    given = {"_disable_validation": False, **given}
    run, said = completed(submit, "import sys\nif len(sys.argv) > 9: epohcs + 1", **given)
    assert said == ""
    noted = jsonl.read(RunPaths(run.folder).job)["notes"]
    assert "train.py:2: Undefined name `epohcs`" in noted
    return caplog.text


@effect(
    "_disable_validation",
    "False: undefined names, syntax errors and missing packages of the script are looked for when "
    "it is submitted, and noted in the run. It starts in any case.",
)
def test_disable_validation(submit, caplog) -> None:
    assert "epohcs" not in checked(submit, caplog)
    run, _ = completed(submit, "if 0: epohcs + 1", _disable_validation=True)
    assert jsonl.read(RunPaths(run.folder).job)["notes"] == []


@effect("_show_lint_warnings", "Undefined names and syntax errors that were found are warned of.")
def test_show_lint_warnings(submit, caplog) -> None:
    assert "Undefined name `epohcs`" in checked(submit, caplog, _show_lint_warnings=True)


@effect(
    "_show_package_warnings",
    "Imports of packages that the environment will not have are warned of.",
    pytest.mark.engines,
)
def test_show_package_warnings(submit, environments, caplog) -> None:
    given = {**BUILT, "_disable_validation": False, "_show_package_warnings": True}
    completed(submit, "if 0: import pandas", **given)
    assert "train.py:1: imports pandas" in caplog.text


# With which data


@effect("inputs", "Data that the script finds by a variable: datastores, datasets, parts of them.")
def test_inputs(submit, store) -> None:
    script = "import os; print(open(os.environ['AZUREML_DATAREFERENCE_part'] + '/a.txt').read())"
    inputs = [store.path("digits", "part").as_mount()]
    assert completed(submit, script, inputs=inputs)[1] == "digits"


@effect(
    "source_directory_data_store",
    "The datastore that the source folder goes through, see [data](data.md#the-source-folder). "
    "The script finds it by a variable.",
)
def test_source_directory_data_store(submit, store) -> None:
    variable = f"AZUREML_DATAREFERENCE_{store.name}"
    script = f"import os; print(open(os.environ['{variable}'] + '/digits/a.txt').read())"
    assert completed(submit, script, source_directory_data_store=store)[1] == "digits"
    assert [name for _, name in store.files("rechain-snapshots")]


@effect(
    "resume_from",
    "A `DataPath` to what an earlier run left: the script gets its place as `--resume-from`. Or a "
    "run, its id, a snapshot or a folder: the script takes up the newest whole snapshot, see "
    "[resuming](resuming.md).",
)
def test_resume_from(submit, store) -> None:
    script = "import sys; print(sys.argv[1], open(sys.argv[2] + '/a.txt').read())"
    given = {"resume_from": DataPath(store, "digits")}
    assert completed(submit, script, **given)[1] == "--resume-from digits"
