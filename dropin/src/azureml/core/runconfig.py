"""v1's `azureml.core.runconfig`."""

from __future__ import annotations

from rechain.runconfig.conda_dependencies import CondaDependencies
from rechain.runconfig.container_registry import ContainerRegistry, RegistryIdentity
from rechain.runconfig.data import (
    Data,
    DatacacheConfiguration,
    DataLocation,
    DataPath,
    DataReferenceConfiguration,
    Dataset,
    DatasetRegistrationOptions,
    GlobsOptions,
    MountOptions,
    OutputData,
    OutputOptions,
    RegistrationOptions,
    UploadOptions,
    Uri,
)
from rechain.runconfig.distributed import (
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from rechain.runconfig.docker import (
    DEFAULT_CPU_IMAGE,
    DEFAULT_GPU_IMAGE,
    DockerConfiguration,
    DockerSection,
)
from rechain.runconfig.environment import Environment, EnvironmentReference
from rechain.runconfig.python_section import PythonSection
from rechain.runconfig.run_configuration import RunConfiguration
from rechain.runconfig.settings import (
    AmlComputeConfiguration,
    ApplicationEndpointConfiguration,
    HdiConfiguration,
    HistoryConfiguration,
    KubernetesComputeConfiguration,
)
from rechain.runconfig.spark import SparkConfiguration, SparkPackage, SparkSection

__all__ = [
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "AmlComputeConfiguration",
    "ApplicationEndpointConfiguration",
    "CondaDependencies",
    "ContainerRegistry",
    "Data",
    "DataLocation",
    "DataPath",
    "DataReferenceConfiguration",
    "DatacacheConfiguration",
    "Dataset",
    "DatasetRegistrationOptions",
    "DockerConfiguration",
    "DockerSection",
    "Environment",
    "EnvironmentReference",
    "GlobsOptions",
    "HdiConfiguration",
    "HistoryConfiguration",
    "KubernetesComputeConfiguration",
    "MountOptions",
    "MpiConfiguration",
    "OutputData",
    "OutputOptions",
    "ParallelTaskConfiguration",
    "PyTorchConfiguration",
    "PythonSection",
    "RegistrationOptions",
    "RegistryIdentity",
    "RunConfiguration",
    "SparkConfiguration",
    "SparkPackage",
    "SparkSection",
    "TensorflowConfiguration",
    "UploadOptions",
    "Uri",
]
