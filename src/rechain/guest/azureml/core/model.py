"""`azureml.core.model` inside a Rechain job."""

from rechain_guest.models import Model

__all__ = ["Model"]
