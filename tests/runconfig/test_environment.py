"""Environments: made from files, kept in folders and in a workspace."""

from __future__ import annotations

import json
import multiprocessing
import os

import pytest

from rechain.exceptions import NotBuiltError, UserErrorException
from rechain.job import snapshot
from rechain.runconfig import ContainerRegistry, Environment
from rechain.runconfig.docker import DEFAULT_CPU_IMAGE, DockerBuildContext
from rechain.workspace import Workspace

pytestmark = pytest.mark.fast

CONDA = "name: n\nchannels: [a]\ndependencies:\n- python=3.6.2\n- pip:\n  - Foo==1\n"
REQUIREMENTS = "# c\nfoo==1\n\n-i https://example.invalid\nbar # x\n"


@pytest.fixture
def files(home):
    (home / "c.yml").write_text(CONDA)
    (home / "r.txt").write_text(REQUIREMENTS)
    (home / "nopython.yml").write_text("dependencies: [numpy]\n")
    (home / "Dockerfile").write_text("FROM x\n")
    return home


def packages(environment: Environment) -> list[object]:
    return environment.python.conda_dependencies.as_dict()["dependencies"]


def test_from_a_conda_specification(files, caplog) -> None:
    assert packages(Environment.from_conda_specification("e", "c.yml")) == [
        "python=3.6.2",
        {"pip": ["Foo==1"]},
    ]
    assert not caplog.records
    assert packages(Environment.from_conda_specification("e", "nopython.yml")) == [
        "numpy",
        "python=3.10.18",
    ]
    assert "nopython.yml asks for no Python" in caplog.text


def test_from_pip_requirements(files) -> None:
    made = Environment.from_pip_requirements("e", "r.txt", pip_version="20.0")
    assert packages(made) == ["python=3.8.13", {"pip": REQUIREMENTS.splitlines()}, "pip=20.0"]


def test_from_a_docker_image(files) -> None:
    registry = ContainerRegistry()
    registry.address = "example.invalid"
    made = Environment.from_docker_image("e", "img:1", registry)
    assert (made.docker.base_image, made.docker.base_image_registry.address) == (
        "img:1",
        "example.invalid",
    )
    assert made.python.user_managed_dependencies is True
    made = Environment.from_docker_image("e", "img:1", conda_specification="c.yml")
    assert made.python.user_managed_dependencies is False
    assert packages(made)[0] == "python=3.6.2"
    with pytest.raises(UserErrorException, match="give one"):
        Environment.from_docker_image("e", "i", None, "c.yml", "r.txt")


def test_from_a_dockerfile(files) -> None:
    for given, text in (("Dockerfile", "FROM x\n"), ("FROM y", "FROM y")):
        made = Environment.from_dockerfile("e", given)
        assert (made.docker.base_dockerfile, made.docker.base_image) == (text, None)
        assert made.python.user_managed_dependencies is True


def test_from_a_build_context() -> None:
    context = DockerBuildContext(DockerBuildContext.LocationType.Git, "there")
    made = Environment.from_docker_build_context("e", context)
    assert made.to_document()["docker"]["buildContext"] == {
        "locationType": "git", "location": "there", "dockerfilePath": "Dockerfile",
    }  # fmt: skip
    assert made.docker.base_image is None


def test_from_an_existing_conda_environment_with_a_stand_in_for_conda(home, monkeypatch) -> None:
    """This machine has no conda: a script answers as conda does."""
    conda = home / "bin" / "conda"
    conda.parent.mkdir()
    export = {"name": "old", "dependencies": ["python=3.6.2", {"pip": ["x==1"]}], "prefix": "/p"}
    conda.write_text(
        "#!/bin/sh\nif [ $2 = list ]\n"
        f"then echo '{json.dumps({'envs': ['/opt/conda', '/opt/conda/envs/old']})}'\n"
        f"else echo '{json.dumps(export)}'\nfi\n"
    )
    conda.chmod(0o755)
    monkeypatch.setenv("PATH", f"{conda.parent}:{os.environ['PATH']}")
    made = Environment.from_existing_conda_environment("e", "old")
    assert packages(made) == ["python=3.6.2", {"pip": ["x==1"]}]
    assert Environment.from_existing_conda_environment("e", "new") is None
    conda.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    with pytest.raises(UserErrorException, match="failed: broken"):
        Environment.from_existing_conda_environment("e", "old")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserErrorException, match="no conda command"):
        Environment.from_existing_conda_environment("e", "old")


def test_files_that_are_not_there(home) -> None:
    for call in (Environment.from_conda_specification, Environment.from_pip_requirements):
        with pytest.raises(FileNotFoundError, match=r"nope: there is no such file"):
            call("e", "nope")
    with pytest.raises(FileNotFoundError, match=r"azureml_environment\.json"):
        Environment.load_from_directory("nope")


def test_a_folder_keeps_all_of_it(files) -> None:
    made = Environment.from_dockerfile("My Env", "Dockerfile", conda_specification="c.yml")
    made.save_to_directory("kept/here")
    assert sorted(os.listdir("kept/here")) == [
        "BaseDockerfile", "azureml_environment.json", "conda_dependencies.yml",
    ]  # fmt: skip
    assert Environment.load_from_directory("kept/here").to_document() == made.to_document()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        made.save_to_directory("kept/here")
    plain = Environment("plain")
    plain.save_to_directory("kept/here", overwrite=True)
    assert Environment.load_from_directory("kept/here").to_document() == plain.to_document()
    (files / "kept" / "here" / "azureml_environment.json").write_text("{")
    with pytest.raises(UserErrorException, match="is not JSON"):
        Environment.load_from_directory("kept/here")


def test_a_clone_has_another_name_and_shares_nothing() -> None:
    made = Environment("e")
    made.version = "3"
    clone = made.clone("other")
    clone.python.conda_dependencies.add_pip_package("x")
    assert (clone.name, clone.version, packages(made)) == (
        "other", None, ["python=3.8.13", {"pip": ["azureml-defaults"]}],
    )  # fmt: skip
    with pytest.raises(UserErrorException, match="new_name"):
        made.clone("")


def test_registered_environments_have_versions(home) -> None:
    workspace = Workspace.local()
    made = Environment("e")
    first = made.register(workspace)
    assert (first.version, made.version) == ("1", None)
    assert made.register(workspace).version == "1"  # the same is the same version
    for number in range(2, 12):
        made.python.conda_dependencies.set_python_version(f"3.{number}")
        assert made.register(workspace).version == str(number)
    assert Environment.get(workspace, "e").version == "11"
    assert Environment.get(workspace, "e", label="latest").version == "11"
    assert packages(Environment.get(workspace, "e", version="2"))[0] == "python=3.2"
    made.version = "own"
    assert made.register(workspace).version == "own"
    made.python.interpreter_path = "python3"
    with pytest.raises(UserErrorException, match="has a version 'own' already"):
        made.register(workspace)
    assert Environment.get(workspace, "e", "1").to_document() == first.to_document()
    assert workspace.environments["e"].name == "e"
    assert Environment.list(workspace)["AzureML-Chainer-7.0.0-CPU"].version == "1"


def _register(path: str, index: int) -> str:
    made = Environment("e")
    made.python.interpreter_path = f"python{index}"
    return made.register(Workspace.at(path)).version


def test_environments_registered_at_once_have_different_versions(home) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        calls = [(str(home / ".rechain"), index) for index in range(8)]
        versions = pool.starmap(_register, calls)
    assert sorted(versions, key=int) == [str(number) for number in range(1, 9)]


def test_what_is_not_registered(home) -> None:
    workspace = Workspace.local()
    Environment("e").register(workspace)
    with pytest.raises(UserErrorException, match=r"no version '2'; it has 1\."):
        Environment.get(workspace, "e", "2")
    with pytest.raises(UserErrorException, match=r"no environment '../x'.*Registered: e\."):
        Environment.get(workspace, "../x")
    with pytest.raises(UserErrorException, match="give one of them"):
        Environment.get(workspace, "e", "1", "latest")
    with pytest.raises(UserErrorException, match="'latest' only"):
        Environment.get(workspace, "e", label="old")
    for name in ("../x", "", None, "AzureML-mine", "microsoft-mine"):
        with pytest.raises(UserErrorException, match="name"):
            Environment(name).register(workspace)


def test_a_registered_environment_holds_no_password(home, caplog) -> None:
    made = Environment("e")
    made.docker.base_image_registry.address = "example.invalid"
    made.docker.base_image_registry.password = "hunter2"
    made.register(Workspace.local())
    assert "password of example.invalid is not kept" in caplog.text
    for folder, _, names in os.walk(home / ".rechain"):
        for name in names:
            with open(os.path.join(folder, name)) as file:
                assert "hunter2" not in file.read()
    assert made.docker.base_image_registry.password == "hunter2"


def test_curated_environments_of_chainer(home) -> None:
    gpu = Environment.get(Workspace.local(), "AzureML-Chainer-5.1.0-GPU")
    assert packages(gpu) == [
        "python=3.6.2",
        {"pip": ["azureml-defaults", "chainer==5.1.0", "mpi4py==3.0.0", "cupy-cuda90==5.2.0"]},
    ]
    assert gpu.docker.base_image.endswith("cuda9.0-cudnn7-ubuntu16.04")
    cpu = Environment.get(Workspace.local(), "AzureML-Chainer-7.0.0-CPU", version="1")
    assert packages(cpu)[1] == {"pip": ["azureml-defaults", "chainer==7.0.0", "mpi4py==3.0.0"]}
    assert cpu.clone("mine").register(Workspace.local()).version == "1"
    with pytest.raises(UserErrorException, match="Curated are"):
        Environment.get(Workspace.local(), "AzureML-Chainer-1.0.0-CPU")


def test_texts_are_as_v1s() -> None:
    made = Environment("e")
    assert str(made) == "Environment(Name: e,\nVersion: None)"
    assert json.loads(repr(made)) == made.to_document()
    assert list(json.loads(repr(made))) == sorted(made.to_document())
    assert made.docker.base_image == DEFAULT_CPU_IMAGE


def test_images_are_not_built_yet(home) -> None:
    made, workspace = Environment("e"), Workspace.local()
    for call in (
        lambda: made.build(workspace),
        lambda: made.get_image_details(workspace),
        lambda: Environment.label(workspace, "e", "1", ["x"]),
        lambda: Environment.add_private_pip_wheel(workspace, "x.whl"),
    ):
        with pytest.raises(NotBuiltError, match=r"^Environment\.\w+ is not built yet: "):
            call()


def test_what_build_local_cannot_do_is_an_error(home) -> None:
    made, workspace = Environment("e"), Workspace.local()
    with pytest.raises(UserErrorException, match="platform is 'Windows'"):
        made.build_local(workspace, "Windows")
    with pytest.raises(UserErrorException, match="no parameter 'usedocker'; v1's are useDocker"):
        made.build_local(workspace, usedocker=True)


def test_what_the_user_manages_is_not_built(home, capfd) -> None:
    made = Environment("e")
    made.python.user_managed_dependencies = True
    made.docker.enabled = True
    made.build_local(Workspace.local(), "Linux", useDocker=False, pushImageToWorkspaceAcr=True)
    said = capfd.readouterr().out.splitlines()
    assert said[0] == "note: the workspace has no registry: an image stays on this machine"
    assert said[1:] == ["nothing is installed: it is what the user manages"]
    assert made.docker.enabled


def test_a_build_context_of_a_folder(home) -> None:
    from rechain.runconfig.docker import DockerBuildContext

    (home / "image").mkdir()
    workspace = Workspace.local()
    with pytest.raises(UserErrorException, match="image/Dockerfile, which is not a file"):
        DockerBuildContext.from_local_directory(workspace, "image")
    (home / "image" / "Dockerfile").write_text("FROM x")
    (home / "image" / ".gitignore").write_text("*.whl\n")
    (home / "image" / "own.whl").write_text("a wheel")
    program = home / "image" / "setup.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    made = DockerBuildContext.from_local_directory(workspace, "image", "./Dockerfile")
    (home / "image" / "Dockerfile").write_text("FROM y")
    assert made.location_type is DockerBuildContext.LocationType.StorageAccount
    snapshot.checkout(workspace._paths.store, made.location.partition(":")[2], str(home / "kept"))
    assert (home / "kept" / made.dockerfile_path).read_text() == "FROM x"
    assert (home / "kept" / "own.whl").read_text() == "a wheel"
    assert os.access(home / "kept" / "setup.sh", os.X_OK)
    (home / "Dockerfile").write_text("FROM z")
    with pytest.raises(UserErrorException, match="which is not in the folder image"):
        DockerBuildContext.from_local_directory(workspace, "image", "../Dockerfile")
