"""v1's `azureml.core`."""

from __future__ import annotations

from azureml.core.image import Image
from azureml.core.webservice import Webservice
from rechain.data import Dataset, Datastore
from rechain.estimator import ScriptRunConfig
from rechain.runconfig import ContainerRegistry, Environment, RunConfiguration
from rechain.workspace import ComputeTarget, Experiment, Run, Workspace
from rechain.workspace import Run as ScriptRun
from rechain.workspace.keyvault import Keyvault
from rechain.workspace.model import Model
from rechain.workspace.run import get_run

# The release of the SDK whose behaviour is followed; the local part says who answers.
VERSION = "1.61.0+rechain"
__version__ = VERSION

__all__ = [
    "ComputeTarget",
    "ContainerRegistry",
    "Dataset",
    "Datastore",
    "Environment",
    "Experiment",
    "Image",
    "Keyvault",
    "Model",
    "Run",
    "RunConfiguration",
    "ScriptRun",
    "ScriptRunConfig",
    "Webservice",
    "Workspace",
    "get_run",
]
