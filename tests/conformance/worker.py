"""Makes estimators on request: of the real SDK, or of the drop-in under the same names.

A line of JSON in is a constructor's keywords, and as `class` whose; a line out is what came of it:
the run configuration as JSON, or the exception, and the warnings that were logged.
`{"!": "Mpi", "process_count_per_node": 2}` stands for an object. Or a line is
`{"program": "..."}`: lines of Python, in a folder of their own, that leave in `r` what came of
them. Works on Python 3.9 with the SDK and on Rechain's Python with `rechain-azureml`.
"""

import copy
import inspect
import json
import logging
import os
import pathlib
import pickle
import shutil
import sys
import tempfile

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what the SDK prints is no answer

from azureml.core import (  # noqa: E402
    ContainerRegistry,
    Environment,
    RunConfiguration,
    ScriptRunConfig,
)
from azureml.core.compute import AmlCompute  # noqa: E402
from azureml.core.conda_dependencies import CondaDependencies  # noqa: E402
from azureml.core.environment import (  # noqa: E402
    DEFAULT_GPU_IMAGE,
    EnvironmentReference,
    PythonSection,
)
from azureml.core.runconfig import (  # noqa: E402
    DockerConfiguration,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from azureml.data.data_reference import DataReference  # noqa: E402
from azureml.data.datapath import DataPath, DataPathComputeBinding  # noqa: E402
from azureml.exceptions import AzureMLException  # noqa: E402
from azureml.train.dnn import Chainer, Gloo, Mpi, Nccl, ParameterServer  # noqa: E402
from azureml.train.estimator import Estimator  # noqa: E402

SDK = sys.argv[1] == "v1"
CLASSES = {"Chainer": Chainer, "Estimator": Estimator, "ScriptRunConfig": ScriptRunConfig}


class Heard(logging.Handler):
    """Keeps the warnings that are logged."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.warnings = []

    def emit(self, record):
        self.warnings.append([record.name, record.levelname, record.getMessage()])


heard = Heard()
logging.getLogger().addHandler(heard)


def compute(name):
    """Return a pool as a workspace has it; no service and no workspace is asked for it."""
    made = object.__new__(AmlCompute)
    made.name = name
    if SDK:
        made.type, made.location = "AmlCompute", "westeurope"
        made.cluster_location = made.location
    return made


def datastore():
    if SDK:
        from azureml.data.azure_storage_datastore import AzureBlobDatastore

        return AzureBlobDatastore(None, "workspaceblobstore", "c", "a", account_key="k")
    from azureml.core import Datastore, Workspace

    return Datastore(Workspace.at(os.path.join(os.getcwd(), ".rechain")))


def environment(name="mine", docker=False, image=None, user_managed=False, variables=None):
    made = Environment(name)
    made.python.user_managed_dependencies = user_managed
    if docker:
        made.docker.enabled = True
    if image:
        made.docker.base_image = image
    if variables is not None:
        made.environment_variables = variables
    return made


def registry(**values):
    made = ContainerRegistry()
    for name, value in values.items():
        setattr(made, name, value)
    return made


MAKE = {
    "AmlCompute": compute,
    "ContainerRegistry": registry,
    "DataPath": lambda path: DataPath(datastore(), path),
    "DataReference": lambda **given: DataReference(datastore(), **given),
    "Datastore": datastore,
    "DockerConfiguration": DockerConfiguration,
    "Environment": environment,
    "Gloo": Gloo,
    "Mpi": Mpi,
    "MpiConfiguration": MpiConfiguration,
    "Nccl": Nccl,
    "ParallelTaskConfiguration": ParallelTaskConfiguration,
    "ParameterServer": ParameterServer,
    "PyTorchConfiguration": PyTorchConfiguration,
    "RunConfiguration": RunConfiguration,
    "TensorflowConfiguration": TensorflowConfiguration,
    "bytes": lambda text: text.encode(),
    "object": object,
    "tuple": lambda items: (*items,),
}


def decode(value):
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, dict):
        plain = {name: decode(item) for name, item in value.items()}
        return MAKE[plain.pop("!")](**plain) if "!" in plain else plain
    return value


def document(run_config):
    if not SDK:
        return run_config.to_document()
    from azureml.core._serialization_utils import _serialize_to_dict

    return _serialize_to_dict(run_config)


def answer(call):
    del heard.warnings[:]
    if "program" in call:
        return outcome_of(call["program"])
    return {**made_of(call), "warnings": list(heard.warnings)}


def change(run_config, path, value):
    """Set an attribute of a run configuration, or call a method: `a.b`, `a.b()`."""
    *parents, name = path.split(".")
    for parent in parents:
        run_config = getattr(run_config, parent)
    if name.endswith("()"):
        getattr(run_config, name[:-2])(*value)
    else:
        setattr(run_config, name, value)


def overridden(made, given):
    """Return the estimator with what a submission says in place of it."""
    if SDK:
        made._override_params(**given)
        return made
    from rechain.estimator.overrides import overridden

    return overridden(made, given)[0]


def shown(value):
    """Return a value as JSON: objects as what they say of themselves."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, dict):
        return {str(name): shown(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)) or hasattr(value, "__next__"):
        return [shown(item) for item in value]
    if isinstance(value, CondaDependencies):
        return value.as_dict()
    if isinstance(value, (Chainer, Estimator)):
        return shown(value.run_config)
    if hasattr(value, "to_document") or type(value).__module__.startswith("azureml"):
        return document(value)
    return type(value).__name__ + " " + str(value)


# What programs may name.
NAMES = {
    **MAKE, **CLASSES,
    **{kind.__name__: kind for kind in (ContainerRegistry, Environment, RunConfiguration)},
    "CondaDependencies": CondaDependencies, "DataPathComputeBinding": DataPathComputeBinding,
    "EnvironmentReference": EnvironmentReference, "DEFAULT_GPU_IMAGE": DEFAULT_GPU_IMAGE,
    "DataReference": DataReference, "DataPath": DataPath, "PythonSection": PythonSection,
    "datastore": datastore, "document": document, "pool": compute, "copy": copy, "json": json,
    "os": os, "inspect": inspect, "pathlib": pathlib, "pickle": pickle,
}  # fmt: skip


def outcome_of(program):
    """Run a program in a folder with copies of the project's files."""
    project, folder = os.getcwd(), tempfile.mkdtemp()
    shutil.copytree(project, os.path.join(folder, "p"))
    os.chdir(os.path.join(folder, "p"))
    names = dict(NAMES)
    try:
        exec(program, names)
        return {"value": shown(names.get("r"))}
    except Exception as error:
        return {"error": [base.__name__ for base in type(error).__mro__], "message": str(error)}
    finally:
        os.chdir(project)
        shutil.rmtree(folder)


def made_of(call):
    kind = CLASSES[call.pop("class")]
    given = decode(call)
    changes, override = given.pop("then", []), given.pop("override", None)
    try:
        made = kind(given.pop("source_directory", "."), **given)
        for path, value in changes:
            change(made.run_config, path, value)
        if override is not None:
            made = overridden(made, override)
        if kind is ScriptRunConfig:
            return {
                "run_config": document(made.run_config),
                "conda_dependencies": {},
                "source_directory": made.source_directory,
                "script": made.script,
                "arguments": made.arguments,
                "command": made.command,
            }
        return {
            "run_config": document(made.run_config),
            "conda_dependencies": made.conda_dependencies.as_dict(),
            "same_run_config": made.run_config is made.run_config,
            "source_directory": made.source_directory,
            "framework_version": getattr(made, "framework_version", None),
        }
    except AzureMLException as error:
        # Rechain's own classes are kinds of v1's.
        bases = [base.__name__ for base in type(error).__mro__]
        kind = next(name for name in bases if name != "NotBuiltError")
        return {"error": kind, "message": error.message}
    except Exception as error:
        return {"crash": type(error).__name__, "message": str(error)}


for line in sys.stdin:
    answers.write(json.dumps(answer(json.loads(line)), default=str) + "\n")
