"""v1's `azureml.core.webservice.aci`."""

from __future__ import annotations

from azureml.core.webservice import AciWebservice

__all__ = ["AciWebservice"]
