"""What others need to test against Rechain.

`TargetConformance` is the contract of a compute target as tests; `make_run` and `processes_of`
are what it is made of.
"""

from __future__ import annotations

from rechain.testing.runs import make_run, processes_of, wait_for, wait_for_end
from rechain.testing.targets import TargetConformance

__all__ = ["TargetConformance", "make_run", "processes_of", "wait_for", "wait_for_end"]
