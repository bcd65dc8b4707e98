"""v1's `azureml.train.hyperdrive.parameter_expressions`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Submit one run for each set of parameters, in a loop, and compare their metrics."

choice = planned(__name__, "choice", _MEANWHILE)
lognormal = planned(__name__, "lognormal", _MEANWHILE)
loguniform = planned(__name__, "loguniform", _MEANWHILE)
normal = planned(__name__, "normal", _MEANWHILE)
qlognormal = planned(__name__, "qlognormal", _MEANWHILE)
qloguniform = planned(__name__, "qloguniform", _MEANWHILE)
qnormal = planned(__name__, "qnormal", _MEANWHILE)
quniform = planned(__name__, "quniform", _MEANWHILE)
randint = planned(__name__, "randint", _MEANWHILE)
uniform = planned(__name__, "uniform", _MEANWHILE)

__all__ = [
    "choice",
    "lognormal",
    "loguniform",
    "normal",
    "qlognormal",
    "qloguniform",
    "qnormal",
    "quniform",
    "randint",
    "uniform",
]
