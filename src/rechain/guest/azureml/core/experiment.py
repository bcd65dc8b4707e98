"""`azureml.core.experiment` inside a Rechain job."""

from rechain_guest.experiment import Experiment

__all__ = ["Experiment"]
