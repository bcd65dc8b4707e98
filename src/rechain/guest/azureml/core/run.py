"""`azureml.core.run` inside a Rechain job."""

from rechain_guest.offline import _OfflineRun
from rechain_guest.run import Run, _SubmittedRun, get_run

__all__ = ["Run", "_OfflineRun", "_SubmittedRun", "get_run"]
