"""v1's `azureml._restclient`."""

from __future__ import annotations
