"""Azure's sizes of virtual machines, which give the virtual nodes of a pool their limits."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

from rechain.exceptions import ComputeTargetException
from rechain.recipes import read_toml

__all__ = ["Size", "find", "known"]

_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sizes.toml")


class Size(NamedTuple):
    """One size.

    Attributes:
        name: as Azure spells it.
        cpus: how many CPUs a node has.
        memory_gib: its memory in GiB.
        gpus: how many GPUs it has.
    """

    name: str
    cpus: int
    memory_gib: float
    gpus: int


@functools.cache
def known() -> tuple[Size, ...]:
    """Return all sizes there are."""
    return tuple(
        Size(name, *facts) for kind in read_toml(_FILE).values() for name, facts in kind.items()
    )


def find(name: str) -> Size:
    """Return a size by its name, in any case of letters, as Azure reads it.

    Raises:
        ComputeTargetException: there is none; the message lists those there are.
    """
    for size in known():
        if size.name.lower() == name.lower():
            return size
    listed = ", ".join(size.name for size in known())
    raise ComputeTargetException(f"vm_size is {name!r}, which is not known here; known: {listed}")
