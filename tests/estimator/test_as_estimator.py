"""A `ScriptRunConfig` compiles to the job that the estimator for it would compile to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rechain.data import DataPath
from rechain.environment.resolve import identity
from rechain.estimator import Chainer, Estimator, ScriptRunConfig, compile
from rechain.exceptions import NotBuiltError, TrainingException, UserErrorException
from rechain.job.job import Job
from rechain.record import jsonl
from rechain.runconfig import (
    CondaDependencies,
    DockerConfiguration,
    Environment,
    MpiConfiguration,
    RunConfiguration,
)
from rechain.runconfig.distributed import PyTorchConfiguration
from rechain.runconfig.docker import DockerBuildContext
from rechain.runconfig.environment import EnvironmentReference
from rechain.workspace import Experiment, Workspace
from rechain.workspace.submit import prepare

pytestmark = pytest.mark.fast


@pytest.fixture
def code(source: Path) -> str:
    (source / "train.py").write_text(
        "import os, sys\n"
        "print(sys.argv[1:], open(os.path.join(sys.argv[2], 'a.txt')).read())\n"
        "print(os.environ['AZUREML_DATAREFERENCE_mnist'] == sys.argv[2])\n"
    )
    return str(source)


def own(interpreter: str = "python") -> Environment:
    """Return the environment of a Python of the user's."""
    made = Environment("own")
    made.python.user_managed_dependencies = True
    made.python.interpreter_path = interpreter
    return made


def with_chainer(*packages: str, python: str = "3.6") -> Environment:
    made = Environment("mine")
    made.python.conda_dependencies = CondaDependencies.create(
        pip_packages=["azureml-defaults", "chainer==7.0.0", *packages], python_version=python
    )
    return made


def compiled(config: Any, **options: Any) -> Job:
    return compile(config, experiment="x", environ={}, **options)


def same(config: ScriptRunConfig, estimator: Chainer, **options: Any) -> Job:
    """Check that both compile to the same job, but for the name of what described it."""
    job, other = compiled(config), compiled(estimator, **options)
    assert job.estimator["class"] == "ScriptRunConfig"
    assert job == other.replace(estimator={**other.estimator, "class": "ScriptRunConfig"})
    return job


def test_a_python_of_the_users(code) -> None:
    config = ScriptRunConfig(
        code, "train.py", ["--epoch", 3], environment=own("python3"), max_run_duration_seconds=60
    )
    config.run_config.environment_variables = {"A": "b", "MY_TOKEN": "hunter2"}
    job = same(
        config,
        Chainer(
            code, entry_script="train.py", script_params={"--epoch": 3}, compute_target="local",
            user_managed=True, use_docker=False, max_run_duration_seconds=60,
            environment_variables={"A": "b", "MY_TOKEN": "hunter2"}, framework_version="5.1.0",
        ),
        python="python3",
    )  # fmt: skip
    assert job.secrets == ["MY_TOKEN"]
    assert job.command == ["train.py", "--epoch", "3"]


def test_an_environment_with_chainer_is_that_recipe(code) -> None:
    same(
        ScriptRunConfig(code, "train.py", environment=with_chainer("scipy"), compute_target="cpu"),
        Chainer(
            code, entry_script="train.py", compute_target="cpu", use_docker=False,
            framework_version="7.0.0", pip_packages=["azureml-defaults", "scipy"],
            max_run_duration_seconds=30 * 24 * 60 * 60,
        ),
        python="3.6",
    )  # fmt: skip


@pytest.mark.parametrize(
    "environment", [own("python3"), with_chainer("scipy")], ids=["own", "recipe"]
)
def test_an_estimator_takes_an_environment_too(code, environment) -> None:
    environment.environment_variables = {"A": "b", "MY_TOKEN": "hunter2"}
    before = environment.to_document()
    job = compiled(
        Chainer(
            code,
            entry_script="train.py",
            compute_target="local",
            environment_definition=environment,
            distributed_training=MpiConfiguration(2),
        ),
        mpi="/bin/true",
    )
    config = ScriptRunConfig(
        code,
        "train.py",
        environment=environment,
        max_run_duration_seconds=None,
        distributed_job_config=MpiConfiguration(2),
    )
    other = compiled(config, mpi="/bin/true")
    assert job == other.replace(estimator=job.estimator)
    assert job.secrets == ["MY_TOKEN"]
    assert environment.to_document() == before


@pytest.mark.parametrize("kind", [Chainer, Estimator])
def test_an_environment_without_chainer_is_just_its_packages(code, kind) -> None:
    environment = Environment("mine")
    environment.python.conda_dependencies = CondaDependencies.create(
        pip_packages=["azureml-defaults", "scipy"], python_version="3.8"
    )
    job = compiled(
        kind(
            code, entry_script="train.py", compute_target="local",
            environment_definition=environment,
        )
    )  # fmt: skip
    config = ScriptRunConfig(
        code, "train.py", environment=environment, max_run_duration_seconds=None
    )
    assert job == compiled(config).replace(estimator=job.estimator)
    assert job.estimator["class"] == kind.__name__
    wanted = job.environment
    assert (wanted["recipe"], wanted["python"], wanted["pip"]) == ("plain", "3.8", ["scipy"])


def test_a_curated_environment(code, home) -> None:
    cpu = Environment.get(Workspace.local(), "AzureML-Chainer-5.1.0-CPU")
    job = compiled(ScriptRunConfig(code, "train.py", environment=cpu))
    assert (job.environment["recipe"], job.environment["python"]) == ("chainer-5.1.0", "3.6.2")
    assert job.environment["pip"] == []  # mpi4py 3.0.0 builds with no MPI of today
    assert "mpi4py==3.0.0, which v1 has with Chainer, is left to the recipe" in job.notes
    gpu = Environment.get(Workspace.local(), "AzureML-Chainer-5.1.0-GPU")
    job = compiled(ScriptRunConfig(code, "train.py", environment=gpu))
    assert job.environment["gpu"]["wanted"] == "required"
    assert job.environment["pip"] == []
    assert "cupy-cuda90==5.2.0, which v1 has with Chainer, is left to the recipe" in job.notes


@pytest.mark.parametrize(
    ("requirement", "version"),
    [
        ("chainer", "7.8.1"),
        ("chainer<7.1,>=6", "7.0.0"),
        ("Chainer ~= 5.1", "5.4.0"),
        ("chainer<5", "4.5.0"),
    ],
)
def test_a_chainer_without_a_version_is_chosen_and_that_is_said(
    code, requirement, version
) -> None:
    environment = Environment("e")
    environment.python.conda_dependencies = CondaDependencies.create(
        pip_packages=[requirement], python_version="3.6"
    )
    job = compiled(ScriptRunConfig(code, "train.py", environment=environment))
    assert job.environment["recipe"] == f"chainer-{version}"
    assert job.environment["pip"] == []
    assert f"{requirement} names no version: Chainer {version} is taken" in job.notes


def test_a_chainer_that_no_recipe_has(code) -> None:
    environment = with_chainer()
    dependencies = environment.python.conda_dependencies
    for requirement, words in (
        ("chainer<3", "allows none of the versions of Chainer"),
        ("chainer=7.0.0", "cannot be read"),
    ):
        dependencies.remove_pip_package("chainer")
        dependencies.add_pip_package(requirement)
        with pytest.raises(UserErrorException, match=words):
            compiled(ScriptRunConfig(code, "train.py", environment=environment))


def test_mpi(code) -> None:
    job = compiled(
        ScriptRunConfig(
            code, "train.py", compute_target="cpu", environment=own(),
            distributed_job_config=MpiConfiguration(3, 2),
        ),
        mpi="/bin/true",
    )  # fmt: skip
    same_as = Chainer(
        code, entry_script="train.py", compute_target="cpu", user_managed=True,
        node_count=2, distributed_training=MpiConfiguration(3),
    )  # fmt: skip
    assert job.distribution == compiled(same_as, mpi="/bin/true").distribution
    assert job.distribution["processes_per_node"] == 3


@pytest.mark.parametrize(
    "command",
    [
        "python train.py --a 'b c'",
        ["python train.py --a 'b c'"],
        ["python3", "train.py", "--a", "b c"],
    ],
)
def test_a_command_that_is_a_python_script(code, command) -> None:
    job = compiled(ScriptRunConfig(code, command=command, environment=own()))
    assert job.command == ["train.py", "--a", "b c"]


def test_a_run_configuration_from_a_file(code, home) -> None:
    run = RunConfiguration("train.py", ["--x"])
    run.environment = own()
    run.save(home, "mine")
    job = compiled(ScriptRunConfig(code, run_config=RunConfiguration.load(home, "mine")))
    assert job.command == ["train.py", "--x"]


def test_a_registered_environment_is_looked_up(code, home) -> None:
    workspace = Workspace.local()
    own().register(workspace)
    config = ScriptRunConfig(code, "train.py")
    config.run_config.environment = EnvironmentReference("own")
    run = Experiment(workspace, "x").submit(config)
    assert run.get_details()["runDefinition"]["arguments"] == []
    run.cancel()
    with pytest.raises(UserErrorException, match=r"looked up when it is submitted"):
        compiled(config)


def test_data_is_where_the_run_looks_for_it(code, home) -> None:
    workspace = Workspace.local()
    store = workspace.get_default_datastore()
    (home / "mnist").mkdir()
    (home / "mnist" / "a.txt").write_text("digits")
    store.upload(home / "mnist", "data/mnist", show_progress=False)
    place = store.path("data/mnist").local_path
    reference = store.path("data/mnist", "mnist").as_mount()
    config = ScriptRunConfig(code, "train.py", ["-d", reference], environment=own())
    run = Experiment(workspace, "x").submit(config)
    run.wait_for_completion()
    said = Path(run.folder, "attempts/1/0.out").read_text()
    assert said == f"['-d', '{place}'] digits\nTrue\n"
    # The same, described in a run configuration, as a text.
    named = RunConfiguration("train.py", ["-d", "$AZUREML_DATAREFERENCE_mnist"])
    named.environment = own()
    named.data_references = {"mnist": reference.to_config()}
    again = Experiment(workspace, "x").submit(ScriptRunConfig(code, run_config=named))
    again.wait_for_completion()
    assert Path(again.folder, "attempts/1/0.out").read_text() == said


def test_a_run_resumes_from_a_path(code, home) -> None:
    path = DataPath(Workspace.local().get_default_datastore(), "old")
    job = compiled(ScriptRunConfig(code, "train.py", resume_from=path, environment=own()))
    place = path._datastore.local_path("old")
    assert job.command == ["train.py", "--resume-from", place]
    assert job.variables == {"AZUREML_DATAREFERENCE_MODEL_LOCATION": place}


def test_what_cannot_run_yet_says_so(code, home) -> None:
    for words, parameters in {
        "communicator is 'nccl'": {"distributed_job_config": PyTorchConfiguration()},
    }.items():
        with pytest.raises(NotBuiltError, match=words):
            compiled(ScriptRunConfig(code, "train.py", **{"environment": own(), **parameters}))
    with pytest.raises(NotBuiltError, match="what runs is one Python script"):
        compiled(ScriptRunConfig(code, command="python a.py && rm -r /", environment=own()))


@pytest.mark.parametrize("user_managed", [False, True])
def test_an_image_of_a_dockerfile_is_named_by_its_text(code, home, user_managed) -> None:
    names = set()
    for text in ("FROM x\n", "FROM y\n", "FROM x\n"):
        environment = Environment.from_dockerfile("e", text)
        environment.python.user_managed_dependencies = user_managed
        environment.docker.enabled = True
        given = {"entry_script": "train.py", "compute_target": "local"}
        for one in (
            ScriptRunConfig(code, "train.py", environment=environment),
            Estimator(code, environment_definition=environment, **given),
        ):
            image = compiled(one).environment["image"]
            assert (image["dockerfile"], image["built"]) == (text, not user_managed)
            names.add(image["reference"])
    assert len(names) == 2
    environment.docker.enabled = False
    off = ScriptRunConfig(code, "train.py", environment=environment)
    assert "image" not in compiled(off).environment


def test_an_image_that_nobody_asks_to_be_used_is_a_note(code, home) -> None:
    (home / "image").mkdir()
    (home / "image" / "Dockerfile").write_text("FROM lab/base:1\n")
    context = DockerBuildContext.from_local_directory(Workspace.local(), home / "image")
    parameters = {"entry_script": "train.py", "compute_target": "local"}

    def notes(one):
        return [note for note in compiled(one).notes if "use_docker=True" in note]

    for environment in (
        Environment.from_docker_image("e", "lab/base:1"),
        Environment.from_dockerfile("e", "FROM lab/base:1\n"),
        Environment.from_docker_build_context("e", context),
    ):
        run_config = RunConfiguration()
        run_config.environment = environment
        for one in (
            ScriptRunConfig(code, "train.py", environment=environment),
            ScriptRunConfig(code, "train.py", run_config=run_config),
            Estimator(code, environment_definition=environment, **parameters),
        ):
            (note,) = notes(one)
            assert note.startswith("the image of the environment 'e' is not used: ")
        for docker in (DockerConfiguration(False), DockerConfiguration(True)):
            given = {"environment": environment, "docker_runtime_config": docker}
            assert notes(ScriptRunConfig(code, "train.py", **given)) == []
    for one in (Environment("e"), Environment.get(Workspace.local(), "AzureML-Chainer-5.1.0-GPU")):
        assert notes(ScriptRunConfig(code, "train.py", environment=one)) == []


@pytest.mark.parametrize("packages", [False, True])
def test_an_image_of_a_folder_is_named_by_what_is_in_it(code, home, packages) -> None:
    workspace = Workspace.local()
    (home / "image").mkdir()

    def image(content):
        (home / "image" / "Dockerfile").write_text(f"FROM lab/base:1\n# {content}\n")
        context = DockerBuildContext.from_local_directory(workspace, home / "image")
        environment = Environment.from_docker_build_context("e", context)
        if packages:
            environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["six"])
        docker = DockerConfiguration(True)
        config = ScriptRunConfig(
            code, "train.py", environment=environment, docker_runtime_config=docker
        )
        job = compiled(config)
        return job.environment["kind"], job.environment["image"]

    kind, one = image("one")
    assert kind == ("venv" if packages else "user-managed")
    assert one["built"] is packages
    assert set(one["context"]) == {"snapshot", "dockerfile"}
    assert one["reference"] == one["asked"]
    _, two = image("two")
    assert (one["asked"], one["digest"]) != (two["asked"], two["digest"])
    assert image("one") == (kind, one)


@pytest.mark.parametrize(
    ("kind", "words"), [("git", "a git repository"), ("storageAccount", "no folder that the wo")]
)
def test_what_is_built_from_what_no_workspace_keeps_is_an_error(code, home, kind, words) -> None:
    environment = Environment.from_docker_build_context("e", DockerBuildContext(kind, "x"))
    docker = DockerConfiguration(True)
    config = ScriptRunConfig(
        code, "train.py", environment=environment, docker_runtime_config=docker
    )
    with pytest.raises(UserErrorException, match=f"'e' is 'x', {words}") as error:
        compiled(config)
    assert "from_local_directory(workspace, FOLDER)" in error.value.message


def test_a_dockerfile_of_nothing_is_an_error(code, home) -> None:
    environment = Environment.from_dockerfile("e", " \n")
    docker = DockerConfiguration(use_docker=True)
    config = ScriptRunConfig(
        code, "train.py", environment=environment, docker_runtime_config=docker
    )
    with pytest.raises(UserErrorException, match="Dockerfile of 'e' is empty"):
        compiled(config)


def test_what_cannot_run_at_all(code, home) -> None:
    with pytest.raises(UserErrorException, match="script is missing"):
        compiled(ScriptRunConfig(code, environment=own()))
    with pytest.raises(TrainingException, match=r"nope\.py"):
        compiled(ScriptRunConfig(code, "nope.py", environment=own()))
    with pytest.raises(TrainingException, match="one node"):
        mpi = MpiConfiguration(1, 2)
        compiled(ScriptRunConfig(code, "train.py", environment=own(), distributed_job_config=mpi))


def test_a_date_on_the_environment_is_the_jobs(source):
    (source / "a.py").touch()
    environment = Environment("old")
    environment.as_of = "2018-12-31"
    environment.python.conda_dependencies.add_pip_package("chainer==5.1.0")
    config = ScriptRunConfig(str(source), "a.py", environment=environment)
    job = compile(config, experiment="e")
    assert job.environment["as_of"] == "2018-12-31T23:59:59Z"
    assert job.environment["recipe"] == "chainer-5.1.0"
    assert Environment.from_document(environment.to_document()).as_of == "2018-12-31"
    assert "asOf" not in Environment("new").to_document()

    environment.python.conda_dependencies.add_pip_package("chainer==4.4.0")
    job = compile(config, experiment="e")
    assert (job.environment["recipe"], job.environment["pip"]) == ("plain", ["chainer==4.4.0"])

    environment.as_of = "2018"
    with pytest.raises(UserErrorException, match="as_of is '2018'"):
        compile(config, experiment="e")
    environment.python.user_managed_dependencies = True
    with pytest.raises(UserErrorException, match="with user_managed=True nothing is"):
        compile(config, experiment="e")


def test_a_lock_on_the_environment_says_it_all(source, tmp_path):
    (source / "a.py").touch()
    lock = {
        "schema": 1, "kind": "venv", "recipe": "chainer-5.1.0", "as_of": None, "notes": ["a note"],
        "interpreter": {"path": "/p", "version": "3.6.15", "abi": "cp36m", "from": "user"},
        "packages": [{"name": "six", "version": "1.12.0", "hash": []}], "build": {},
    }  # fmt: skip
    file = tmp_path / "my.lock"
    jsonl.write_atomic(file, {**lock, "digest": identity(lock)})
    environment = Environment("old")
    environment.lock = str(file)
    config = ScriptRunConfig(str(source), "a.py", environment=environment)
    made = compile(config, experiment="e").environment
    assert made["lock"] == {**lock, "digest": identity(lock)}
    assert (made["python"], made["pip"]) == ("3.6.15", ["six==1.12.0"])
    assert Environment.from_document(environment.to_document()).lock == str(file)

    chainer = Chainer(
        str(source),
        entry_script="a.py",
        compute_target="local",
        environment_definition=environment,
    )
    assert compile(chainer, experiment="e").environment == made
    with pytest.raises(UserErrorException, match=r"pip_packages=.*'numpy'.* the lock"):
        compile(
            Chainer(
                str(source), entry_script="a.py", compute_target="local", pip_packages=["numpy"]
            ),
            experiment="e",
            lock=str(file),
        )


def test_the_channels_of_an_environment_are_asked(code, home) -> None:
    environment = Environment("e")
    environment.python.conda_dependencies = dependencies = CondaDependencies()
    dependencies.add_conda_package("numpy=1.14")
    dependencies.add_channel("https://conda.example/lab")
    config = ScriptRunConfig(code, "train.py", environment=environment)
    asked = prepare(Experiment(Workspace.local(), "x"), config).plan()["environment"]["conda"]
    assert "https://conda.example/lab" in asked["channels"]
