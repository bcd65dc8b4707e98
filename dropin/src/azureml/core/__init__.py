"""v1's `azureml.core`."""

from __future__ import annotations

from azureml.core.image import Image
from azureml.core.webservice import Webservice
from rechain.data import Dataset, Datastore
from rechain.estimator import ScriptRunConfig
from rechain.planned import planned
from rechain.runconfig import ContainerRegistry, Environment, RunConfiguration
from rechain.workspace import ComputeTarget, Experiment, Run, Workspace
from rechain.workspace import Run as ScriptRun
from rechain.workspace.keyvault import Keyvault
from rechain.workspace.model import Model
from rechain.workspace.run import get_run

# The release of the SDK whose behaviour is followed; the local part says who answers.
VERSION = "1.61.0+rechain"
__version__ = VERSION

_MEANWHILE = (
    "Leave it out: a workspace is a folder of this machine, and its targets need no preparation."
)

LinkedService = planned(__name__, "LinkedService", _MEANWHILE)
PrivateEndPoint = planned(__name__, "PrivateEndPoint", _MEANWHILE)
PrivateEndPointConfig = planned(__name__, "PrivateEndPointConfig", _MEANWHILE)
SynapseWorkspaceLinkedServiceConfiguration = planned(
    __name__, "SynapseWorkspaceLinkedServiceConfiguration", _MEANWHILE
)
attach_legacy_compute_target = planned(__name__, "attach_legacy_compute_target", _MEANWHILE)
diagnostic_log = planned(__name__, "diagnostic_log", _MEANWHILE)
is_compute_target_prepared = planned(__name__, "is_compute_target_prepared", _MEANWHILE)
prepare_compute_target = planned(__name__, "prepare_compute_target", _MEANWHILE)
remove_legacy_compute_target = planned(__name__, "remove_legacy_compute_target", _MEANWHILE)

__all__ = [
    "ComputeTarget",
    "ContainerRegistry",
    "Dataset",
    "Datastore",
    "Environment",
    "Experiment",
    "Image",
    "Keyvault",
    "LinkedService",
    "Model",
    "PrivateEndPoint",
    "PrivateEndPointConfig",
    "Run",
    "RunConfiguration",
    "ScriptRun",
    "ScriptRunConfig",
    "SynapseWorkspaceLinkedServiceConfiguration",
    "Webservice",
    "Workspace",
    "attach_legacy_compute_target",
    "diagnostic_log",
    "get_run",
    "is_compute_target_prepared",
    "prepare_compute_target",
    "remove_legacy_compute_target",
]
