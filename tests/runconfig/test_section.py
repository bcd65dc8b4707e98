"""What all sections do: hold values, refuse what they have not, become documents and come back."""

from __future__ import annotations

import copy

import pytest

from rechain.exceptions import UserErrorException
from rechain.runconfig import data, databricks, distributed, docker, r_section, settings, spark
from rechain.runconfig.container_registry import ContainerRegistry, RegistryIdentity
from rechain.runconfig.environment import Environment, EnvironmentReference
from rechain.runconfig.run_configuration import RunConfiguration

pytestmark = pytest.mark.fast

SECTIONS = [
    getattr(module, name)()
    for module in (data, databricks, distributed, docker, r_section, settings, spark)
    for name in module.__all__
    if not name.startswith("DEFAULT")
] + [ContainerRegistry(), RegistryIdentity(), Environment("e"), RunConfiguration()]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: type(section).__name__)
def test_a_section_comes_back_from_its_document(section) -> None:
    document = section.to_document()
    assert type(section).from_document(document).to_document() == document


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: type(section).__name__)
def test_a_misspelt_attribute_is_refused_as_in_v1(section) -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'misspelt'; it has "):
        section.misspelt = 1
    with pytest.raises(AttributeError):
        section.misspelt  # noqa: B018


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: type(section).__name__)
def test_two_sections_share_nothing(section) -> None:
    other = (
        type(section).from_document({}) if type(section) is not Environment else Environment("")
    )
    for name, value in vars(other).items():
        if isinstance(value, (list, dict)) and name in section._fields:
            assert value is not vars(section)[name]
    assert vars(copy.deepcopy(section)).keys() == vars(section).keys()


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("node_count", "two", "must be an int"),
        ("node_count", True, "must be an int"),
        ("node_count", 1.5, "must be an int"),
        ("script", 3, "must be a str"),
        ("arguments", "--a 1", "must be a list"),
        ("mpi", 3, "must be a MpiConfiguration"),
        ("environment", "cpu", "must be a EnvironmentReference or a Environment"),
        ("data", {"a": 1}, "an element of RunConfiguration.data is 1"),
        ("datacaches", [1], "must be a DatacacheConfiguration"),
        ("target", 3, "must be a str"),
        ("credential_passthrough", "yes", "must be True or False"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused(attribute, value, words) -> None:
    run = RunConfiguration()
    before = getattr(run, attribute)
    with pytest.raises(UserErrorException, match=words) as caught:
        setattr(run, attribute, value)
    assert f"RunConfiguration.{attribute}" in caught.value.message
    assert getattr(run, attribute) is before


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([1], "RunConfiguration is [1], a list"),
        ({"nodeCount": "x"}, "RunConfiguration.nodeCount is 'x'"),
        ({"mpi": 3}, "RunConfiguration.mpi is 3, a int; it must be a mapping"),
        ({"history": {"outputCollection": "yes"}}, "RunConfiguration.history.outputCollection"),
        ({"dataReferences": 3}, "RunConfiguration.dataReferences is 3"),
        ({"data": {"a": 3}}, "RunConfiguration.data.a is 3"),
        ({"datacaches": [{}, 3]}, "RunConfiguration.datacaches[1] is 3"),
        ({"environment": {"python": {"condaDependencies": {"x": 1}}}}, "condaDependencies has"),
    ],
)
def test_a_document_that_is_wrong_names_the_place(document, place) -> None:
    with pytest.raises(UserErrorException) as caught:
        RunConfiguration.from_document(document)
    assert place in caught.value.message


def test_what_a_document_lacks_has_the_default_and_null_is_none() -> None:
    run = RunConfiguration.from_document({"nodeCount": "3", "mpi": None, "unknown": 1})
    assert (run.node_count, run.mpi, run.communicator) == (3, None, "None")
    assert run.history.directories_to_watch == ["logs"]
    environment = Environment.from_document({"name": "e", "docker": {}, "version": 3})
    assert (environment.docker.base_image, environment.docker.shm_size) == (None, None)
    assert environment.version == "3"


def test_an_environment_of_name_and_version_alone_is_a_reference() -> None:
    run = RunConfiguration.from_document({"environment": {"name": "e", "version": "2"}})
    assert isinstance(run.environment, EnvironmentReference)
    assert run.to_document()["environment"] == {"name": "e", "version": "2"}


def test_a_target_is_taken_by_its_name() -> None:
    run = RunConfiguration()
    run.target = type("Cluster", (), {"name": "cpu"})()
    assert run.target == "cpu"
    run.target = None  # as in v1
    assert run.target == "cpu"


def test_a_path_and_a_numpy_integer_are_taken_as_what_they_mean(tmp_path) -> None:
    numpy_like = type("int64", (), {"__index__": lambda self: 4})()
    run = RunConfiguration()
    run.script, run.node_count, run.arguments = tmp_path / "a.py", numpy_like, ("x",)
    assert (run.script, run.node_count, run.arguments) == (str(tmp_path / "a.py"), 4, ["x"])


def test_one_image_replaces_the_other(caplog) -> None:
    section = docker.DockerSection()
    section.base_dockerfile = "FROM x"
    assert section.base_image is None
    section.base_image = "y"
    assert section.base_dockerfile is None
    section.build_context = docker.DockerBuildContext("git", "https://example.invalid/x.git")
    assert section.base_image is None
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert section.to_document()["buildContext"]["locationType"] == "git"


def test_what_v1_calls_deprecated_works_and_says_so(caplog) -> None:
    environment = Environment("e")
    environment.docker.enabled = True
    environment.docker.gpu_support = True
    environment.environment_variables = {"A": "b"}
    assert [record.name for record in caplog.records] == ["azureml.core.environment"] * 3
    assert environment.to_document()["docker"]["enabled"] is True


def test_a_password_is_in_no_repr() -> None:
    environment = Environment("e")
    environment.docker.base_image_registry.address = "example.invalid"
    environment.docker.base_image_registry.password = "hunter2"
    run = RunConfiguration()
    run.environment = environment
    for text in (repr(environment), repr(run), repr(environment.docker.base_image_registry)):
        assert "hunter2" not in text
    assert "hunter2" in str(environment.to_document())


def test_values_that_cannot_be_are_refused() -> None:
    from rechain.exceptions import RunConfigurationException

    with pytest.raises(RunConfigurationException, match="'Nccl' or 'Gloo'"):
        distributed.PyTorchConfiguration("smoke")
    with pytest.raises(UserErrorException, match="'git', 'storageAccount'"):
        docker.DockerBuildContext("nowhere")
    with pytest.raises(TypeError, match="must be a str"):
        Environment(3)
