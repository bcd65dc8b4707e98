"""v1's `azureml.core.webservice.local`."""

from __future__ import annotations

from azureml.core.webservice import LocalWebservice

__all__ = ["LocalWebservice"]
