"""`azureml.core.dataset` inside a Rechain job."""

from rechain_guest.datasets import Dataset

__all__ = ["Dataset"]
