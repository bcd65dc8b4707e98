"""`azureml.core.workspace` inside a Rechain job."""

from rechain_guest.experiment import Workspace

__all__ = ["Workspace"]
