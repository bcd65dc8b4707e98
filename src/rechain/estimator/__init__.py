"""Estimators: v1's way to describe a training. An estimator compiles to a `Job`."""

from __future__ import annotations

from rechain.estimator.base import MMLBaseEstimator
from rechain.estimator.chainer import Chainer
from rechain.estimator.compiling import compile
from rechain.estimator.distributed import Mpi
from rechain.estimator.estimator import Estimator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.estimator.script_run_config import ScriptRunConfig as ScriptRunConfig

__all__ = ["Chainer", "Estimator", "MMLBaseEstimator", "Mpi", "ScriptRunConfig", "compile"]


def __getattr__(name: str) -> object:
    if name != "ScriptRunConfig":
        raise AttributeError(f"module 'rechain.estimator' has no attribute {name!r}")
    # On use: it brings all sections of a run configuration.
    from rechain.estimator.script_run_config import ScriptRunConfig

    return ScriptRunConfig
