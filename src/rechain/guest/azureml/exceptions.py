"""`azureml.exceptions` inside a Rechain job."""

from rechain_guest.exceptions import (
    AzureMLException,
    RunEnvironmentException,
    UserErrorException,
)

__all__ = ["AzureMLException", "RunEnvironmentException", "UserErrorException"]
