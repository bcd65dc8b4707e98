"""v1's `azureml.train.hyperdrive.sampling`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Submit one run for each set of parameters, in a loop, and compare their metrics."

BayesianParameterSampling = planned(__name__, "BayesianParameterSampling", _MEANWHILE)
GridParameterSampling = planned(__name__, "GridParameterSampling", _MEANWHILE)
HyperParameterSampling = planned(__name__, "HyperParameterSampling", _MEANWHILE)
RandomParameterSampling = planned(__name__, "RandomParameterSampling", _MEANWHILE)

__all__ = [
    "BayesianParameterSampling",
    "GridParameterSampling",
    "HyperParameterSampling",
    "RandomParameterSampling",
]
