"""v1's `azureml.train.hyperdrive.policy`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Submit one run for each set of parameters, in a loop, and compare their metrics."

BanditPolicy = planned(__name__, "BanditPolicy", _MEANWHILE)
EarlyTerminationPolicy = planned(__name__, "EarlyTerminationPolicy", _MEANWHILE)
MedianStoppingPolicy = planned(__name__, "MedianStoppingPolicy", _MEANWHILE)
NoTerminationPolicy = planned(__name__, "NoTerminationPolicy", _MEANWHILE)
TruncationSelectionPolicy = planned(__name__, "TruncationSelectionPolicy", _MEANWHILE)

__all__ = [
    "BanditPolicy",
    "EarlyTerminationPolicy",
    "MedianStoppingPolicy",
    "NoTerminationPolicy",
    "TruncationSelectionPolicy",
]
