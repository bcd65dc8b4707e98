"""Who may have nodes of a pool, and when: the rules, without the files.

A run starts only if no more nodes are then busy than each run on the pool was promised: where
workspaces give one pool name different sizes, the smallest among the runs under way counts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

__all__ = ["Decision", "Ticket", "decide", "line"]

_FIELDS: dict[str, Any] = {
    "pool": str, "run_id": str, "nodes": int, "max_nodes": int, "priority": str,
    "submitted": (int, float), "visible": list, "wants_gpus": int, "boot": str, "guard": dict,
    "supervisor": dict, "running": bool, "since": (int, float), "turn": int, "cores": list,
    "gpus": list,
}  # fmt: skip


class Ticket:
    """What an attempt asks of a pool, and what it has got.

    Args:
        name: the file's name.
        uid: whose it is: the file's owner.
        document: the file's content; each key is an attribute.

    Raises:
        ValueError: it is no ticket.

    Attributes:
        pool: the pool's name.
        run_id: the run.
        nodes: how many nodes it takes.
        max_nodes: how many nodes the pool has, as the run was told.
        priority: `dedicated` or `lowpriority`.
        submitted: when the run was submitted; its owner's runs start in this order.
        visible: the GPUs it may use.
        wants_gpus: how many of them it takes.
        boot, guard, supervisor: who must live for the ticket to count.
        running: whether it has its nodes.
        since: when it got them, in seconds since boot.
        turn: the number of the turn with which it got them; they count up on a pool.
        cores, gpus: which of the machine's cores and GPUs it has with them.
    """

    def __init__(self, name: str, uid: int, document: Mapping[str, Any]) -> None:
        if not isinstance(document, dict):
            raise ValueError("it is no object")
        for field, kind in _FIELDS.items():
            if not isinstance(document.get(field), kind):
                raise ValueError(f"{field} is {document.get(field)!r}")
        for field in ("guard", "supervisor"):
            if not all(isinstance(document[field].get(key), int) for key in ("pid", "start")):
                raise ValueError(f"{field} is {document[field]!r}")
        for field, kind in (("visible", str), ("gpus", str), ("cores", int)):
            if not all(isinstance(one, kind) for one in document[field]):
                raise ValueError(f"{field} is {document[field]!r}")
        self.name = name
        self.uid = uid
        self.document = dict(document)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.document[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        state = "running" if self.running else "waiting"
        return f"Ticket({self.name!r}, uid {self.uid}, {self.nodes} of {self.pool!r}, {state})"


class Decision:
    """Who may do what on a pool.

    Attributes:
        going: waiting tickets that may start now.
        giving_way: running ones that must stop for those that go first.
        running: all that have nodes, on any pool.
        blocked: the first in line that cannot start yet; nobody overtakes it.
    """

    __slots__ = ("blocked", "giving_way", "going", "running")

    def __init__(self, running: list[Ticket]) -> None:
        self.running = running
        self.going: list[Ticket] = []
        self.giving_way: list[Ticket] = []
        self.blocked: Ticket | None = None


def line(waiting: Iterable[Ticket], turns: Mapping[int, int]) -> Iterator[Ticket]:
    """Yield waiting tickets in the order in which they are to start.

    Dedicated runs go first; among those of one priority users take turns, the one who has waited
    longest for a turn first; among a user's own, the run that was submitted first.

    Args:
        waiting: the tickets.
        turns: by user, the number of their last turn; the numbers count up.
    """
    queues: dict[tuple[bool, int], list[Ticket]] = {}
    for ticket in sorted(waiting, key=lambda t: (-t.submitted, t.name)):
        queues.setdefault((ticket.priority != "dedicated", ticket.uid), []).append(ticket)
    turns = dict(turns)
    latest = max(turns.values(), default=0)
    while queues:
        key = min(queues, key=lambda key: (key[0], turns.get(key[1], 0), key[1]))
        yield queues[key].pop()
        if not queues[key]:
            del queues[key]
        latest += 1
        turns[key[1]] = latest


def decide(everyone: Iterable[Ticket], turns: Mapping[int, int], pool: str) -> Decision:
    """Say who may start on a pool and who must give way. Pure.

    Args:
        everyone: all tickets that count, of all pools: GPUs are shared among them.
        turns: see `line`.
        pool: the pool.
    """
    everyone = list(everyone)
    busy = [ticket for ticket in everyone if ticket.running]
    waiting = [ticket for ticket in everyone if ticket.pool == pool and not ticket.running]
    decision = Decision(list(busy))
    for head in line(waiting, turns):
        if _fits(head, busy):
            if decision.blocked is None:
                decision.going.append(head)
        elif head.priority != "dedicated":
            decision.blocked = decision.blocked or head
            break
        else:
            decision.blocked = decision.blocked or head
            leaving = _in_the_way(head, busy)
            if not leaving:
                break
            decision.giving_way += leaving
            busy = [ticket for ticket in busy if ticket not in leaving]
        busy.append(head)
    return decision


def _fits(ticket: Ticket, busy: list[Ticket]) -> bool:
    there = [other for other in busy if other.pool == ticket.pool]
    taken = {gpu for other in busy if other.running for gpu in other.gpus}
    if len(set(ticket.visible) - taken) < ticket.wants_gpus:
        return False
    nodes: int = sum(other.nodes for other in there) + ticket.nodes
    return nodes <= min(int(other.max_nodes) for other in [*there, ticket])


def _in_the_way(ticket: Ticket, busy: list[Ticket]) -> list[Ticket]:
    """Return whom to stop so that a ticket fits, the newest first; nobody if it would not."""
    stopped: list[Ticket] = []
    candidates = [
        other
        for other in busy
        if other.pool == ticket.pool and other.running and other.priority != "dedicated"
    ]
    for other in sorted(candidates, key=lambda t: (-t.since, t.name)):
        stopped.append(other)
        if _fits(ticket, [left for left in busy if left not in stopped]):
            return stopped
    return []
