"""v1's `azureml.core.webservice.webservice`."""

from __future__ import annotations

from azureml.core.webservice import Webservice

__all__ = ["Webservice"]
