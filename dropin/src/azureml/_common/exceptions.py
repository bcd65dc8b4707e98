"""v1's `azureml._common.exceptions`."""

from __future__ import annotations

from rechain.exceptions import AzureMLAggregatedException, AzureMLException

__all__ = ["AzureMLAggregatedException", "AzureMLException"]
