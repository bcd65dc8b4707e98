"""v1's `azureml.core.run`."""

from __future__ import annotations

from rechain.guest.rechain_guest.offline import _OfflineRun
from rechain.guest.rechain_guest.run import _SubmittedRun
from rechain.workspace.run import Run, get_run

__all__ = ["Run", "_OfflineRun", "_SubmittedRun", "get_run"]
