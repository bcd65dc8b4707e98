"""v1's `azureml.core.databricks`."""

from __future__ import annotations

from rechain.runconfig.databricks import (
    DatabricksCluster,
    DatabricksSection,
    EggLibrary,
    JarLibrary,
    MavenLibrary,
    PyPiLibrary,
    RCranLibrary,
)

__all__ = [
    "DatabricksCluster",
    "DatabricksSection",
    "EggLibrary",
    "JarLibrary",
    "MavenLibrary",
    "PyPiLibrary",
    "RCranLibrary",
]
