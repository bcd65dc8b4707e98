"""Graphs in which nodes are called by their addresses in memory, as in Chainer's `cg.dot`."""

from __future__ import annotations

import re
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256

__all__ = ["compare"]

# As chainer/computational_graph.py writes them; Chainer 7 in an order that differs each time.
_NODE = re.compile(r'(\d{6,})\s*\[((?:[^]"]|"(?:[^"\\]|\\.)*")*)\]\s*;')
_EDGE = re.compile(r"(\d{6,})\s*->\s*(\d{6,})\s*;")


def compare(first: str, second: str) -> list[str] | None:
    """Return `[]` if two graphs are the same but for their nodes' numbers and order, else None.

    Args:
        first: the text of a graph.
        second: the text of another.
    """
    try:
        return [] if _form(first) == _form(second) else None
    except CycleError:
        return None


def _form(text: str) -> tuple[str, Counter[str], Counter[tuple[str, str]]]:
    """Return what does not depend on numbers and order: the rest, the nodes, the edges.

    A node is called by what is said of it and by what leads to it and from it, in rounds until
    no more nodes are told apart.

    Raises:
        CycleError: the graph has a cycle.
    """
    known: dict[str, str] = {}
    for number, said in _NODE.findall(text):
        known[number] = known.get(number, "") + said
    edges = _EDGE.findall(text)
    before: dict[str, list[str]] = {number: [] for number in known}
    after: dict[str, list[str]] = {number: [] for number in known}
    for tail, head in edges:
        before.setdefault(head, []).append(tail)
        after.setdefault(tail, []).append(head)
    order = list(TopologicalSorter(before).static_order())
    names = {number: known.get(number, "") for number in order}
    told = 0
    while (now := len(set(names.values()))) > told:
        told = now
        for way, sequence in ((before, order), (after, order[::-1])):
            for number in sequence:
                beside = sorted(names[one] for one in way.get(number, ()))
                names[number] = sha256(repr((names[number], beside)).encode()).hexdigest()
    rest = _NODE.sub("", _EDGE.sub("", text)).strip()
    return rest, Counter(names.values()), Counter((names[a], names[b]) for a, b in edges)
