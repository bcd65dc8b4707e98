"""The link between a supervisor and its node guards: one TCP connection for each node.

Each line is a JSON document. The supervisor tells what is to be done (`beat`, `stacks`, `term`,
`slurm`, `end`), a node guard what happens on its node (`up`, `beat`, `start`, `end`, ...). Both
sides take silence for the loss of the other: a heartbeat comes every 30 s, and three missed ones
are the end. A process that dies closes its side at once; only a machine or a network does not.
"""

from __future__ import annotations

import os
import socket
import time

from rechain.record import events, jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

__all__ = ["ADDRESS", "DEAF", "MISSED", "Hub", "Line", "call"]

# The variable that tells a node guard where the supervisor listens: port and password.
ADDRESS = "RECHAIN_LINK"

# So many heartbeats may be missed.
MISSED = 3

# What a node guard says when it ends for that reason.
DEAF = "there was no sign of life from the supervisor on it"

_CALL_SECONDS = 60.0

# Bytes that are taken from a connection at a time: others want to be heard, too.
_FIRST_ROW = 1 << 16
"""Bytes; a guard's first row is shorter."""
_MOST = 1 << 22


class Line:
    """One side of a connection.

    Args:
        connection: the socket, connected.
        beat: seconds between heartbeats.
    """

    def __init__(self, connection: socket.socket, beat: float) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._beat = beat
        self._begun = b""  # of a row that has not come whole
        self._unsent = bytearray()
        self._heard = self._said = time.monotonic()
        self.closed = False

    def fileno(self) -> int:
        """Return the descriptor, for `events.wait`."""
        return self._socket.fileno()

    @property
    def due(self) -> float:
        """When `keep` must be called, on the monotonic clock."""
        return min(self._said + self._beat, self._heard + MISSED * self._beat)

    def say(self, event: str, **fields: Any) -> None:
        """Send a row, or as much of it as the other side takes now; `flush` sends the rest."""
        self._said = time.monotonic()
        self._unsent += jsonl.dumps({"event": event, **fields}).encode() + b"\n"
        self.flush()

    def flush(self) -> int:
        """Send what was not taken before; return how many bytes of it are left."""
        try:
            while self._unsent and not self.closed:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        return 0 if self.closed else len(self._unsent)

    def drain(self, most: int = 0) -> bool:
        """Wait until the other side has taken all but some bytes; what it says is not heard.

        Returns:
            Whether it has; it may be gone.
        """
        while self.flush() > most and self.keep():
            self.hear()
            events.wait([self.fileno()], max(0.0, self.due - time.monotonic()), self.fileno())
        return not self.closed and self.flush() <= most

    def part(self) -> None:
        """Wait until the other side has heard all and hung up: who leaves before takes it back.

        A process that ends while something is left for it to read resets the connection, and what
        is on its way is lost (RFC 2525, 2.17).
        """
        self.drain()
        while self.keep():
            self.hear()
            events.wait([self.fileno()], max(0.0, self.due - time.monotonic()))

    def begin_anew(self) -> None:
        """End the row that another process, which is gone now, may have begun to send."""
        self._unsent += b"\n"

    def hear(self) -> list[dict[str, Any]]:
        """Return the rows that have come; `closed` says whether more can."""
        heard = 0
        while heard < _MOST:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            self._heard = time.monotonic()
            heard += len(data)
            self._begun += data
        *rows, self._begun = self._begun.split(b"\n")
        return [_read(row) for row in rows if row]

    def keep(self) -> bool:
        """Send a heartbeat if it is time; return whether the other side is still there."""
        now = time.monotonic()
        if self.flush():
            self._said = now  # it has enough to hear
        if now >= self._said + self._beat:
            self.say("beat")
        return not self.closed and not self.silent

    @property
    def silent(self) -> bool:
        """Whether nothing has been heard for as long as a node may be busy."""
        return time.monotonic() >= self._heard + MISSED * self._beat

    @property
    def begun(self) -> int:
        """How many bytes there are of a row that has not come whole."""
        return len(self._begun)

    def close(self) -> None:
        """Close this side."""
        self._socket.close()
        self.closed = True


class Hub:
    """The supervisor's side of all its links.

    Args:
        count: how many nodes there are.
        beat: seconds between heartbeats.

    Attributes:
        nodes: the nodes that have called, by name.
        lost: the nodes of which nothing is heard any more, with the reason.
        done: the nodes that have said that nothing is left on them.
    """

    def __init__(self, count: int, beat: float) -> None:
        dual = socket.has_dualstack_ipv6()
        self._listener = socket.create_server(
            ("", 0),
            family=socket.AF_INET6 if dual else socket.AF_INET,
            dualstack_ipv6=dual,
            backlog=count,
        )
        self._listener.setblocking(False)
        self._password = os.urandom(16).hex()
        self._count = count
        self._beat = beat
        self._strangers: list[Line] = []
        self.nodes: dict[str, Line] = {}
        self.lost: dict[str, str] = {}
        self.done: set[str] = set()

    @property
    def address(self) -> str:
        """The value of `ADDRESS`."""
        port = self._listener.getsockname()[1]
        return f"{port}:{self._password}:{self._beat}"

    @property
    def complete(self) -> bool:
        """Whether all nodes have called."""
        return len(self.nodes) == self._count

    @property
    def descriptors(self) -> Collection[int]:
        """What becomes readable when there is something to hear."""
        lines = [*self._strangers, *self._open().values()]
        return [self._listener.fileno(), *(line.fileno() for line in lines)]

    @property
    def due(self) -> float | None:
        """When `hear` must be called, on the monotonic clock."""
        return min((line.due for line in self._open().values()), default=None)

    def _open(self) -> Mapping[str, Line]:
        return {name: line for name, line in self.nodes.items() if not line.closed}

    def hear(self) -> list[dict[str, Any]]:
        """Return what the nodes have said, each row with its `node`; see who is lost."""
        first = self._accept() if self._listener.fileno() >= 0 else {}
        rows: list[dict[str, Any]] = []
        for name, line in self._open().items():
            for row in [*first.get(name, ()), *line.hear()]:
                if row["event"] == "bye":
                    self.done.add(name)
                    if "why" in row:  # nobody told it to go
                        self.lost[name] = row["why"]
                rows.append({**row, "node": name})
            if name in self.done:
                line.close()
            elif not line.keep():
                silent = f"there was no sign of life from it for {MISSED * self._beat:g} s"
                self.lost[name] = "its guard is gone" if line.closed else silent
                line.close()
        return rows

    def _accept(self) -> dict[str, list[dict[str, Any]]]:
        """Take new calls; return what those have said that are nodes of ours, by their names."""
        first: dict[str, list[dict[str, Any]]] = {}
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                break
            self._strangers.append(Line(connection, self._beat))
        for line in list(self._strangers):
            rows = line.hear()
            if rows or line.closed or line.begun > _FIRST_ROW or line.silent:
                self._strangers.remove(line)
                if rows and rows[0].get("password") == self._password:
                    self.nodes[rows[0]["node"]] = line
                    first[rows[0]["node"]] = rows
                else:
                    line.close()  # whoever it was, it is none of ours
        return first

    def tell(self, event: str) -> None:
        """Send a row to all nodes."""
        for line in self._open().values():
            line.say(event)

    def close(self) -> None:
        """Hang up: the node guards end what is left."""
        self._listener.close()
        for line in [*self._strangers, *self._open().values()]:
            line.close()


def _read(row: bytes) -> dict[str, Any]:
    try:
        found = jsonl.loads(row.decode())
    except ValueError:
        found = None
    # A process that is killed may leave half a row.
    return found if isinstance(found, dict) and "event" in found else {"event": "torn"}


def call(address: str, hosts: list[str], name: str, **fields: Any) -> Line:
    """Call the supervisor from a node.

    Args:
        address: the value of `ADDRESS`.
        hosts: names or addresses of its host, the best first.
        name: this node's name.
        **fields: what else there is to say of it.

    Raises:
        OSError: it cannot be reached.
    """
    port, password, beat = address.split(":")
    error = OSError("nobody said where the supervisor is")
    for host in hosts:
        try:
            connection = socket.create_connection((host, int(port)), timeout=_CALL_SECONDS)
        except OSError as why:
            error = OSError(f"the supervisor at {host}:{port} cannot be reached: {why}")
            continue
        line = Line(connection, float(beat))
        line.say("up", node=name, password=password, **fields)
        return line
    raise error
