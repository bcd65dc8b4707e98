"""v1's `azureml.core.linked_service`."""

from __future__ import annotations

from azureml.core import LinkedService, SynapseWorkspaceLinkedServiceConfiguration

__all__ = ["LinkedService", "SynapseWorkspaceLinkedServiceConfiguration"]
