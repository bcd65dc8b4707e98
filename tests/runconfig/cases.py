"""The same calls for v1 and for Rechain: run by either's Python, prints what each call gave.

`python cases.py v1` imports azureml; `python cases.py rechain` imports Rechain.
"""

# ruff: noqa: F403, F405
from __future__ import annotations

import json
import logging
import os
import sys
import tempfile

logging.disable(logging.CRITICAL)
if sys.argv[1] == "v1":
    from azureml.core import Environment, ScriptRunConfig
    from azureml.core.conda_dependencies import CondaDependencies
    from azureml.core.container_registry import ContainerRegistry, RegistryIdentity
    from azureml.core.environment import DockerBuildContext, RCranPackage, RSection, SparkPackage
    from azureml.core.runconfig import *
    from azureml.core.runconfig import RunConfiguration
    from azureml.data import datapath as data_path
    from azureml.data.azure_storage_datastore import AzureBlobDatastore
    from azureml.data.data_reference import DataReference
    from azureml.data.dataset_consumption_config import DatasetConsumptionConfig
    from azureml.data.output_dataset_config import OutputFileDatasetConfig
    from azureml.train.dnn import Chainer, Mpi
else:
    from rechain.data import (
        DataReference,
        DatasetConsumptionConfig,
        Datastore,
        OutputFileDatasetConfig,
        data_path,
    )
    from rechain.estimator import Chainer, Mpi, ScriptRunConfig
    from rechain.runconfig import (
        CondaDependencies,
        ContainerRegistry,
        Environment,
        RunConfiguration,
    )
    from rechain.runconfig.container_registry import RegistryIdentity
    from rechain.runconfig.data import *
    from rechain.runconfig.distributed import *
    from rechain.runconfig.docker import *
    from rechain.runconfig.docker import DockerBuildContext
    from rechain.runconfig.r_section import RCranPackage, RSection
    from rechain.runconfig.settings import *
    from rechain.runconfig.spark import SparkPackage
    from rechain.workspace import Workspace

CASES = {}


def datastore():
    """Return a datastore named `workspaceblobstore`; v1's is never spoken to."""
    if sys.argv[1] == "v1":
        return AzureBlobDatastore(None, "workspaceblobstore", "c", "a", account_key="k")
    return Datastore(Workspace.at(os.path.join(os.getcwd(), ".rechain")))


def case(call):
    CASES[call.__name__] = call
    return call


def conda(*steps):
    """Return what a specification is after calls of its methods."""
    made = CondaDependencies()
    for name, *arguments in steps:
        getattr(made, name)(*arguments)
    return made.as_dict()


def saved(run, name="x", **options):
    """Return the file that a run configuration is saved to, as data."""
    os.makedirs(".azureml", exist_ok=True)
    run.save(".", name, **options)
    return document(os.path.join(".azureml", name))


def document(path):
    """Return the text of a YAML file; the test reads both by one reader."""
    with open(path) as file:
        return {"yaml": file.read()}


def texted(text):
    """Return the run configuration of a text."""
    os.makedirs(".azureml", exist_ok=True)
    with open(".azureml/t.runconfig", "w") as file:
        file.write(text)
    return RunConfiguration.load(".", "t")


def shown(config):
    run = config.run_config
    return {
        "source": config.source_directory, "script": config.script, "arguments": config.arguments,
        "run": json.loads(str(run)),
    }  # fmt: skip


@case
def run_configuration_by_default():
    return saved(RunConfiguration()), json.loads(str(RunConfiguration()))


@case
def run_configuration_with_everything():
    run = RunConfiguration("a.py", ["x", 1], "PySpark", "IntelMpi", command="c")
    run.data = {
        "my_in": Data(DataLocation(Dataset("i", "n", "1"), None, Uri("u")), options={"a_b": 1})
    }
    run.data_references = {"my_ref": DataReferenceConfiguration("d", "DOWNLOAD", "p", "c", True)}
    run.services = {"my_s": ApplicationEndpointConfiguration("SSH", 1, {"ssh_keys": "x"})}
    run.auto_cluster_compute_specification = {"a_b": 1}
    run.output_data = {
        "my_out": OutputData(
            DataLocation(data_path=DataPath("a", "b")), "mount",
            OutputOptions(
                "x", RegistrationOptions("n", "d", {"t_t": "1"}, DatasetRegistrationOptions("z")),
                UploadOptions(True, GlobsOptions(["a"])), MountOptions(),
            ),
        )
    }  # fmt: skip
    run.datacaches = [DatacacheConfiguration("a", "b", "c")]
    run.environment_variables = {"A_b": "1"}
    run.spark.configuration = {"a_b": 1}
    run.environment.r = RSection()
    run.environment.r.cran_packages = [RCranPackage()]
    run.environment.spark.packages = [SparkPackage("g", "a")]
    run.environment.docker.base_image_registry.registry_identity = RegistryIdentity()
    return saved(run)


@case
def environment_in_a_file_of_its_own():
    run = RunConfiguration()
    run.environment.name = "mine"
    first = saved(run, separate_environment_yaml=True)
    return first, document(".azureml/environment.yml"), document(".azureml/conda_dependencies.yml")


@case
def a_loaded_file_saved_again():
    run = texted(
        "script: a.py\nfoo: 3\nmpi: {processCountPerNode: 7}\nenvironment: {python: {}, name: q}\n"
    )
    return json.loads(str(run))


@case
def environment_is_a_reference():
    return type(texted("script: a\nenvironment: {name: q, version: '3'}").environment).__name__


@case
def numbers_in_files():
    run = texted("nodeCount: '3'\narguments: [1, 2]\nmpi:\nenvironment: {python: {}}\n")
    return run.node_count, run.arguments, run.mpi, run.history.directories_to_watch


@case
def environment_document():
    return json.loads(repr(Environment("e"))), str(Environment("e"))


@case
def environment_in_a_folder():
    made = Environment("e")
    made.docker.base_dockerfile = "FROM x\n"
    made.save_to_directory("kept")
    with open("kept/azureml_environment.json") as file:
        files = json.load(file)
    return (
        sorted(os.listdir("kept")),
        files,
        json.loads(repr(Environment.load_from_directory("kept"))),
    )


@case
def environments_from_files():
    with open("c.yml", "w") as file:
        file.write("name: n\ndependencies:\n- numpy=1\n- pip: [Foo==1]\n")
    with open("r.txt", "w") as file:
        file.write("# c\nfoo==1\n\n-i https://example.invalid\n")
    return [
        json.loads(repr(made))
        for made in (
            Environment.from_conda_specification("x", "c.yml"),
            Environment.from_pip_requirements("x", "r.txt", "20.0"),
            Environment.from_docker_image("x", "img"),
            Environment.from_docker_image("x", "img", pip_requirements="r.txt"),
            Environment.from_dockerfile("x", "FROM y"),
            Environment.from_docker_build_context(
                "x", DockerBuildContext(DockerBuildContext.LocationType.Git, "l")
            ),
        )
    ]


@case
def default_specification():
    return CondaDependencies().as_dict()


@case
def methods_of_specifications():
    return [
        conda(
            ("add_pip_package", "a==1"), ("add_pip_package", "a>=2"), ("add_pip_package", "b[x]")
        ),
        conda(("add_pip_package", "a[x]==1"), ("add_pip_package", "a")),
        conda(("add_pip_package", "git+https://x/y"), ("add_pip_package", "./a.whl")),
        conda(("remove_pip_package", "azureml-defaults")),
        conda(("remove_pip_package", "nope"), ("remove_conda_package", "nope")),
        conda(
            ("add_conda_package", "b=1"),
            ("add_conda_package", "b=1"),
            ("add_conda_package", "b=2"),
        ),
        conda(("add_conda_package", "b=1"), ("remove_conda_package", "b")),
        conda(("add_conda_package", "b=1"), ("remove_conda_package", "b=1")),
        conda(("add_conda_package", "python>=3.6"), ("add_conda_package", "pythonnet=1")),
        conda(("set_python_version", "3.6.2")),
        conda(("set_pip_option", "-i x"), ("set_pip_option", "-i y"), ("set_pip_option", "--pre")),
        conda(("set_pip_option", "-i x"), ("remove_pip_option", "-i")),
        conda(("set_pip_index_url", "--index-url x")),
        conda(("set_pip_requirements", ["-i x", "q"])),
        conda(("add_channel", "x"), ("add_channel", "x"), ("remove_channel", "anaconda")),
        conda(("add_tensorflow_pip_package",), ("add_tensorflow_conda_package", "gpu", "1.4")),
        conda(("add_cntk_package", "gpu")),
        CondaDependencies.merge_requirements(["a", "a==1", "b>1", "b<2"]),
        CondaDependencies().get_python_version(),
        CondaDependencies().get_default_number_of_packages(),
    ]


@case
def created_specification():
    made = CondaDependencies.create(pip_packages=["numpy"], conda_packages=["b", "python=3.7"])
    # v1 adds an index of its own choice as options; see docs.
    return list(made.pip_packages), list(made.conda_packages), list(made.conda_channels)


@case
def targets():
    run, found = RunConfiguration(), []
    for target in ("cpu", None):
        run.target = target
        found.append(run.target)
    return found


@case
def script_run_configs():
    return [
        shown(ScriptRunConfig(".")),
        shown(ScriptRunConfig(".", "a.py", ["x", 1, None, ""])),
        shown(ScriptRunConfig(".", "a.py", compute_target="cpu", environment=Environment("q"))),
        shown(ScriptRunConfig(".", "a.py", distributed_job_config=MpiConfiguration(3, 2))),
        shown(ScriptRunConfig(".", distributed_job_config=PyTorchConfiguration("Gloo", 4, 2))),
        shown(ScriptRunConfig(".", distributed_job_config=TensorflowConfiguration(2, 1))),
        shown(
            ScriptRunConfig(".", docker_runtime_config=DockerConfiguration(True, arguments=["-x"]))
        ),
        shown(ScriptRunConfig(".", max_run_duration_seconds=None)),
        shown(ScriptRunConfig(".", run_config=RunConfiguration("b.py", ["z"]))),
        shown(ScriptRunConfig(".", "a.py", ["q"], run_config=RunConfiguration("b.py", ["z"]))),
        shown(ScriptRunConfig(".", compute_target="c", run_config=RunConfiguration("b.py"))),
    ]


@case
def resumed():
    store = datastore()
    config = ScriptRunConfig(".", "a.py", ["--x"], resume_from=data_path.DataPath(store, "old"))
    return config.arguments, json.loads(str(config.run_config))["dataReferences"]


@case
def mpi():
    return str(Mpi(3)), Mpi(3).process_count_per_node, vars(Mpi(0))


def error(call):
    def name():
        try:
            call()
        except Exception as error:
            return type(error).__name__
        return None

    return name


def seen(reference):
    """Return a reference as data; a name by chance is only known by its length."""
    name = reference.data_reference_name
    return (
        name if len(name) < 32 else len(name), reference.path_on_datastore, reference.mode,
        reference.path_on_compute, str(reference).replace(name, "..."),
        reference.datastore.name,
    )  # fmt: skip


@case
def references():
    store = datastore()
    whole, part, named = store.path(), store.path("a/b"), store.path("a/b", "ref")
    config = RunConfiguration()
    config.data_references = {"x": named.as_download("q").to_config()}
    binding = data_path.DataPathComputeBinding("download", "x", True)
    path = data_path.DataPath(store, "a", "n")
    made = path.create_data_reference("r", binding)
    return [
        [seen(one) for one in (
            whole, part, named, store.path(""), store.path("./"), store.path("/a/", "r"),
            part.as_mount(), part.as_download(), part.as_download("x"), named.as_upload("x"),
            part.path("c"), named.path("c"), named.path("c", "m"), whole.path("c"),
            store.as_mount(), store.as_download("x"), store.as_upload(),
            DataReference(store), DataReference(store, "n", "p", "upload", "c", True),
            made, DataReference.create("n", path, binding),
        )],
        DataReference(store, overwrite=True).overwrite, made.overwrite, part.as_mount() is part,
        json.loads(str(config))["dataReferences"], path.datastore_name, path.path_on_datastore,
        data_path.DataPath.create_from_data_reference(named).path_on_datastore,
    ]  # fmt: skip


@case
def inputs_and_outputs():
    store, config = datastore(), RunConfiguration()
    given = DatasetConsumptionConfig("n", None)
    out = OutputFileDatasetConfig("o", (store, "p/{run-id}"), "s")
    outs = {
        "plain": OutputFileDatasetConfig("o"), "mounted": out.as_mount(True),
        "uploaded": out.as_upload(True, "*.x").register_on_complete("n", "d", {"a": "b"}),
        "patterns": out.as_upload(source_globs=["a", "b"]),
    }  # fmt: skip
    of_v1 = sys.argv[1] == "v1"
    config.output_data = {
        name: one._to_output_data() if of_v1 else one.to_output_data()
        for name, one in outs.items()
    }
    return [
        [
            (one.name, one.mode, one.path_on_compute, one.arg_val)
            for one in (given, given.as_mount("/x"), given.as_download(), out.as_input("i"))
        ],
        (out.name, out.mode, out.source, out.arg_val, out.as_mount() is out),
        len(OutputFileDatasetConfig().name), len(out.as_input().name),
        json.loads(str(config))["outputData"],
    ]  # fmt: skip


@case
def data_of_an_estimator():
    store = datastore()
    part, old = store.path("m", "part"), data_path.DataPath(store, "old")
    found = []
    for given in (
        {"script_params": {"--a": part, "--c": store, "--r": 3}},
        {"script_params": {part: "x"}},
        {"script_params": {"--r": 1}, "inputs": [part.as_download("x"), store]},
        {"script_params": {"--a": 1, "--flag": ""}, "resume_from": old},
        {"script_params": {"--resume-from": "x", "--a": 1}, "resume_from": old},
        {"resume_from": old},
        {"script_params": {"--o": OutputFileDatasetConfig("o", (store, "p"))}},
        {"source_directory_data_store": store},
    ):
        chainer = Chainer(
            ".", compute_target="local", entry_script="a.py", framework_version="7.0.0", **given
        )
        run = json.loads(str(chainer.run_config))
        names = ("arguments", "dataReferences", "data", "outputData", "sourceDirectoryDataStore")
        found.append([run[name] for name in names])
    return found


@case
def classes_of_errors():
    with open("bad.yml", "w") as file:
        file.write("foo: 1\n")
    with open("list.yml", "w") as file:
        file.write("[1]\n")

    def unknown(section):
        section.misspelt = 1

    os.makedirs("there", exist_ok=True)
    return [
        error(call)()
        for call in (
            lambda: unknown(RunConfiguration()),
            lambda: unknown(MpiConfiguration()),
            lambda: unknown(Environment("e").docker),
            lambda: unknown(ContainerRegistry()),
            lambda: PyTorchConfiguration("smoke"),
            lambda: Environment(3),
            lambda: Environment("e").clone(None),
            lambda: Environment("e").save_to_directory("there"),
            lambda: Environment.load_from_directory("nope"),
            lambda: Environment.get(None, "x", version="1", label="y"),
            lambda: Environment.from_docker_image("x", "i", None, "bad.yml", "bad.yml"),
            lambda: Environment.from_conda_specification("x", "nope.yml"),
            lambda: Environment.from_pip_requirements("x", "nope.txt"),
            lambda: CondaDependencies("bad.yml"),
            lambda: CondaDependencies("list.yml"),
            lambda: CondaDependencies("nope.yml"),
            lambda: CondaDependencies().add_pip_package("--pre"),
            lambda: CondaDependencies().set_pip_option("pre"),
            lambda: CondaDependencies().add_cntk_package("tpu"),
            lambda: CondaDependencies().save("no/where.yml"),
            lambda: RunConfiguration().save("there"),
            lambda: RunConfiguration.load("there", "nope"),
            lambda: RunConfiguration.delete("there", "nope"),
            lambda: ScriptRunConfig(".", distributed_job_config="mpi"),
            lambda: ScriptRunConfig(".", docker_runtime_config="docker"),
            lambda: ScriptRunConfig(".", "a.py", resume_from="x"),
            lambda: Chainer(".", compute_target="local", inputs=["x"]),
            lambda: Chainer(".", compute_target="local", resume_from=5),
            lambda: DataReference(datastore(), mode="copy"),
            data_path.DataPath,
            lambda: DataReference.create("n", data_path.DataPath(datastore())),
            lambda: DatasetConsumptionConfig("9n", None),
            lambda: DatasetConsumptionConfig("n", None, "copy"),
            lambda: OutputFileDatasetConfig("a b"),
            lambda: datastore().upload("nope"),
            lambda: datastore().upload_files(["nope"]),
            lambda: datastore().upload_files(["list.yml"], relative_root="there"),
        )
    ]


def main():
    results = {}
    for name, call in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                results[name] = call()
            except Exception as problem:
                results[name] = repr(problem)
            os.chdir("/")
    print(json.dumps(results))


main()
