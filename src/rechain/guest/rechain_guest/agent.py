"""What an MPI in a container starts in place of ssh, to have a command run on another node.

    python -I -S agent.py [OPTIONS] NODE COMMAND...

It hands that over to the guard of its own node, whose socket RECHAIN_DESK names; the guard of the
other one runs it in its own node's container. As ssh does, it lasts as long as the command, ends
with its exit code, and leaves it to a shell to take the command apart.
"""

import json
import os
import signal
import socket
import struct
import sys

__all__ = ["main"]

_LOST = 137  # what a shell says of a process that was killed


def main(*arguments):
    """Have a command run on a node.

    Args:
        *arguments: options of ssh, which mean nothing here; the node; the command.

    Returns:
        Its exit code.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is Slurm's, and for the ranks
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        del rest[0]
    if len(rest) < 2:
        os.write(2, b"rechain: an agent needs a node and a command\n")
        return 125
    text = json.dumps({"launch": {"node": rest[0], "command": " ".join(rest[1:])}}).encode()
    desk = socket.socket(socket.AF_UNIX)
    try:
        desk.connect(b"\0" + os.environb[b"RECHAIN_DESK"])
        peer = desk.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", peer)[1] != os.getuid():
            raise OSError("somebody else answers in its place")
        desk.sendall(struct.pack("!I", len(text)))
        desk.sendall(text)
        said = desk.recv(1)
    except OSError as error:
        os.write(2, "rechain: no guard on this node: {}\n".format(error).encode())
        return 125
    return bytearray(said)[0] if said else _LOST


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
