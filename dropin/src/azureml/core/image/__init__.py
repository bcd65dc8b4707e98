"""v1's `azureml.core.image`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = (
    "Load the files of a run with `Run.download_file`, and serve them with a program of yours."
)

ContainerImage = planned(__name__, "ContainerImage", _MEANWHILE)
Image = planned(__name__, "Image", _MEANWHILE)

__all__ = ["ContainerImage", "Image"]
