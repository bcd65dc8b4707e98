"""v1's `azureml.core.environment`."""

from __future__ import annotations

from rechain.runconfig.conda_dependencies import CondaDependencies
from rechain.runconfig.docker import (
    DEFAULT_CPU_IMAGE,
    DEFAULT_GPU_IMAGE,
    DockerBuildContext,
    DockerImagePlatform,
    DockerSection,
)
from rechain.runconfig.environment import Environment, EnvironmentReference
from rechain.runconfig.python_section import PythonSection
from rechain.runconfig.r_section import RCranPackage, RGitHubPackage, RSection
from rechain.runconfig.spark import SparkPackage, SparkSection

__all__ = [
    "DEFAULT_CPU_IMAGE",
    "DEFAULT_GPU_IMAGE",
    "CondaDependencies",
    "DockerBuildContext",
    "DockerImagePlatform",
    "DockerSection",
    "Environment",
    "EnvironmentReference",
    "PythonSection",
    "RCranPackage",
    "RGitHubPackage",
    "RSection",
    "SparkPackage",
    "SparkSection",
]
