"""v1's `azureml.core.conda_dependencies`."""

from __future__ import annotations

from rechain.runconfig import CondaDependencies

__all__ = ["CondaDependencies"]
