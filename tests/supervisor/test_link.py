"""The link between a supervisor and its node guards: rows that are long, torn or the first."""

from __future__ import annotations

import socket

import pytest

from rechain.record import events
from rechain.supervisor.link import Hub, Line, call
from rechain.testing import wait_for

pytestmark = pytest.mark.fast

BEAT = 60.0


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def test_a_row_that_the_socket_does_not_take_at_once_comes_whole(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    one, other = (Line(end, BEAT) for end in ends)
    text = "x" * (8 << 20)
    one.say("long", text=text)
    one.say("short")
    assert one.flush() > 0
    rows = []
    while len(rows) < 2:
        events.wait([other.fileno()], 60)
        rows += other.hear()
        one.flush()
    assert [row["event"] for row in rows] == ["long", "short"]
    assert rows[0]["text"] == text
    assert one.flush() == 0
    assert not one.closed


def test_a_row_that_a_killed_process_left_half_said_hides_no_other(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[0].send(b'{"event": "file", "data": "AAAA')
    one, other = (Line(end, BEAT) for end in ends)
    one.begin_anew()
    one.say("killed", leftover=1)
    assert [row["event"] for row in other.hear()] == ["torn", "killed"]


@pytest.mark.parametrize("said", [b"{\n", b"[" * 100_000 + b"\n", b"x" * (1 << 17), b"[1]\n"])
def test_a_stranger_is_left_and_no_node_with_it(said: bytes) -> None:
    hub = Hub(1, BEAT)
    port = int(hub.address.partition(":")[0])
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(said)
        line = call(hub.address, ["127.0.0.1"], "n1")
        rows: list[dict[str, object]] = []

        def hung_up() -> bool:
            rows.extend(hub.hear())
            stranger.setblocking(False)
            try:
                return stranger.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionError:
                return True

        wait_for(hung_up, "it is left")
    wait_for(lambda: rows.extend(hub.hear()) or rows, "the node is heard")
    assert [(row["event"], row["node"]) for row in rows] == [("up", "n1")]
    line.close()
    hub.close()


def test_what_follows_the_first_row_at_once_is_heard_too() -> None:
    hub = Hub(1, BEAT)
    line = call(hub.address, ["127.0.0.1"], "n1", apart=True)
    line.say("brought", why="no room")
    rows: list[dict[str, object]] = []
    wait_for(lambda: rows.extend(hub.hear()) or len(rows) == 2, "both rows")
    assert [(row["event"], row["node"]) for row in rows] == [("up", "n1"), ("brought", "n1")]
    hub.close()


def test_who_has_not_the_password_is_none_of_the_nodes() -> None:
    hub = Hub(1, BEAT)
    port = int(hub.address.split(":")[0])
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b'nonsense\n{"event": "up", "node": "n1"}\n')
        stranger.setblocking(False)

        def hung_up() -> bool:
            hub.hear()
            try:
                return stranger.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True

        wait_for(hung_up, "the hub has hung up")
    assert not hub.nodes
    hub.close()


def test_who_leaves_waits_until_all_is_heard() -> None:
    hub = Hub(1, BEAT)
    line = call(hub.address, ["127.0.0.1"], "n1")
    wait_for(lambda: hub.hear() and hub.complete, "the node is up")
    hub.tell("beat")  # it is not read by then: without `part` this would take back what was said
    line.say("bye")
    wait_for(lambda: hub.hear() and hub.done, "its last word")
    line.part()
    assert line.closed
    hub.close()
