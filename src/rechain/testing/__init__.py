"""What others need to test against Rechain.

`TargetConformance` is the contract of a compute target as tests; `make_run` and `processes_of`
are what it is made of. The suite needs pytest (`rechain[testing]`), all else does not.
"""

from __future__ import annotations

from rechain.testing.runs import make_run, processes_of, wait_for, wait_for_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.testing.targets import TargetConformance

__all__ = ["TargetConformance", "make_run", "processes_of", "wait_for", "wait_for_end"]


def __getattr__(name: str) -> object:
    if name == "TargetConformance":
        from rechain.testing.targets import TargetConformance

        return TargetConformance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
