"""v1's `azureml.core.webservice.aks`."""

from __future__ import annotations

from azureml.core.webservice import AksEndpoint, AksWebservice

__all__ = ["AksEndpoint", "AksWebservice"]
