"""v1's `azureml.core.compute.hdinsight`."""

from __future__ import annotations

from rechain.planned import planned

_MEANWHILE = "Use the pools of this machine, AmlCompute, or the Slurm cluster: docs/pools.md."

HDInsightCompute = planned(__name__, "HDInsightCompute", _MEANWHILE)

__all__ = ["HDInsightCompute"]
