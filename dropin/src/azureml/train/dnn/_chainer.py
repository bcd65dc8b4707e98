"""v1's `azureml.train.dnn._chainer`."""

from __future__ import annotations

from rechain.estimator import Chainer

__all__ = ["Chainer"]
