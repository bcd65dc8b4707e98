"""`azureml.opendatasets` inside a Rechain job."""

from rechain_guest.datasets import MNIST

__all__ = ["MNIST"]
