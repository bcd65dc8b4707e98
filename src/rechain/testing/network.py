"""What the nodes of a throw-away cluster are joined by: the loopback device, or their own cables.

With cables there is a bridge, at which the controller is, and a pair of veth devices (veth(4)) for
each node: here it has the node's name, on the node it is `eth0`. All of it is in a network
namespace (network_namespaces(7)) without a name, which is gone with the last process in it.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess

from rechain.record import libc

__all__ = ["Cables", "Loopback", "free_ports"]

_CLONE_NEWNET = 0x40000000  # unshare(2)


class Loopback:
    """Nodes whose addresses are some of this machine's own."""

    def enter(self) -> None:
        """Move the calling thread, and what it starts from now on, to where the controller is."""

    def leave(self) -> None:
        """Move the thread back."""

    def address(self, number: int) -> str:
        """Return the address of a node, or of the controller, which is number 0."""
        return f"127.0.1.{number}" if number else "127.0.0.1"

    def plug_in(self, node: str, pid: int) -> None:
        """Join a node that has just been started.

        Args:
            node: its name.
            pid: a process there.
        """


class Cables(Loopback):
    """Nodes in a network of their own; needs root."""

    _outside = -1

    def enter(self) -> None:
        """Make the network, and move the calling thread there.

        Raises:
            OSError: the system refuses.
        """
        self._outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if libc.function("unshare")(_CLONE_NEWNET):
            raise libc.error("unshare")
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "bridge", "type", "bridge")
        _ip("address", "add", f"{self.address(0)}/24", "dev", "bridge")
        _ip("link", "set", "bridge", "up")

    def leave(self) -> None:
        """Move the thread back."""
        if self._outside >= 0:
            libc.function("setns")(self._outside, _CLONE_NEWNET)
            os.close(self._outside)
            self._outside = -1

    def address(self, number: int) -> str:
        """Return the address of a node, or of the controller, which is number 0."""
        return f"10.213.0.{number or 254}"

    def plug_in(self, node: str, pid: int) -> None:
        """Join a node that has just been started; it sets its own side up."""
        _ip("link", "add", node, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", node, "master", "bridge", "up")

    def cut(self, node: str) -> None:
        """Cut a node's cable."""
        _ip("link", "set", node, "down")

    def mend(self, node: str) -> None:
        """Mend a node's cable."""
        _ip("link", "set", node, "up")


def _ip(*command: str) -> None:
    ended = subprocess.run(["ip", *command], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise OSError(f"ip {' '.join(command)}: {ended.stderr.strip()}")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, below those that the system gives to clients.

    Raises:
        OSError: there are not so many.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(20000, 31000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"there are no {count} free ports between 20000 and 31000")
