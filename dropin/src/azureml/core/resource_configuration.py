"""v1's `azureml.core.resource_configuration`."""

from __future__ import annotations

from rechain.planned import planned

ResourceConfiguration = planned(
    __name__, "ResourceConfiguration", "Leave it out: models are kept, and not served."
)

__all__ = ["ResourceConfiguration"]
