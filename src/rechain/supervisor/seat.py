"""The seat: what srun or mpirun starts on a node in place of a rank.

It hands what it was given (variables, open files, cores) to the guard of its node, which starts
the rank as its own descendant: nothing that the rank starts can leave that tree, whoever started
the seat. It ends as the rank does, and does not hear SIGTERM: that comes from Slurm, which sends
it to the rank as well, or from an MPI that has given up, and then the supervisor decides.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct

from rechain.record import jsonl
from rechain.supervisor.linux import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Desk", "Occupant", "desk_of", "sit"]

# Where PMI-1 and PMI-2 clients are told the number of the descriptor to their server.
_PMI = "PMI_FD"

_HIGH = 512  # descriptors of ours stay above this while the rank's are put in place


def desk_of(attempt_id: str) -> str:
    """Return the name of this node's socket: abstract, so that nothing is left of it (unix(7)).

    Args:
        attempt_id: the value of `RECHAIN_ATTEMPT`.
    """
    run_id, _, number = attempt_id.rpartition("/")
    unique = f"{run_id.rpartition('_')[2]}-{number}"
    return f"rechain-{os.getuid()}-{unique}-{os.uname().nodename[:50]}"


def _peer(connection: socket.socket) -> int:
    """Return the user at the other side: anybody may use an abstract name."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", data)[1])


def sit(attempt_id: str) -> NoReturn:
    """Have this node's guard start the rank that this process was started for; never returns.

    Args:
        attempt_id: the value of `RECHAIN_ATTEMPT`.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"\0{desk_of(attempt_id)}")
        if _peer(connection) != os.getuid():
            raise OSError("somebody else answers in its place")
    except OSError as error:
        os.write(2, f"rechain: no guard on node {os.uname().nodename}: {error}\n".encode())
        os._exit(125)
    descriptors = [0, 1, 2]
    if _PMI in os.environ:
        descriptors.append(int(os.environ[_PMI]))
    text = jsonl.dumps(
        {"environment": dict(os.environ), "cores": sorted(os.sched_getaffinity(0))}
    ).encode()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    connection.sendmsg([struct.pack("!I", len(text))], [rights])
    connection.sendall(text)
    for descriptor in descriptors[3:]:
        os.close(descriptor)  # its end must be seen when the rank ends
    try:
        said = connection.recv(1)
    except OSError:
        said = b""
    os._exit(said[0] if said else 128 + signal.SIGKILL)


class Occupant:
    """A seat as the guard of its rank sees it.

    Args:
        connection: the connection to it.
        request: what it handed over.
        descriptors: the open files it handed over.

    Attributes:
        environment: the variables that it was given.
        launch: `{"node", "command"}` of an agent, which has no rank but wants that run there.
    """

    def __init__(
        self, connection: socket.socket, request: dict[str, Any], descriptors: list[int]
    ) -> None:
        self._connection = connection
        self.environment: dict[str, str] = request.get("environment", {})
        self.launch: dict[str, str] | None = request.get("launch")
        self._cores: list[int] = request.get("cores", [])
        self._descriptors = descriptors

    def move_in(self) -> None:
        """Give this process, a fresh child, the seat's open files, and no others."""
        targets = [0, 1, 2]
        if len(self._descriptors) > 3:
            targets.append(int(self.environment[_PMI]))
        high = [fcntl.fcntl(d, fcntl.F_DUPFD, _HIGH) for d in self._descriptors]
        mine = fcntl.fcntl(self._connection.fileno(), fcntl.F_DUPFD_CLOEXEC, _HIGH)
        self._connection = socket.socket(fileno=mine)
        os.closerange(3, _HIGH)
        for descriptor, target in zip(high, targets, strict=True):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.sched_setaffinity(0, self._cores)

    def close_pmi(self) -> None:
        """Close the way to MPI's server: it must see when the rank alone has ended."""
        if len(self._descriptors) > 3:
            os.close(int(self.environment[_PMI]))

    def leave(self) -> None:
        """Close in this process what was handed over: a child has it now."""
        self._connection.close()
        for descriptor in self._descriptors:
            os.close(descriptor)

    def fileno(self) -> int:
        """Return the descriptor, for `events.wait`: a seat says nothing, so it is gone then."""
        return self._connection.fileno()

    def answer(self, code: int) -> None:
        """Tell the seat what to exit with."""
        try:
            self._connection.send(bytes([code]))
        except OSError:
            pass  # nobody asks any more


class Desk:
    """Where a node's guard takes what the seats hand over.

    Args:
        attempt_id: the value of `RECHAIN_ATTEMPT`.

    Raises:
        OSError: another guard is there already.
    """

    def __init__(self, attempt_id: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"\0{desk_of(attempt_id)}")
        self._listener.listen(1024)
        self._listener.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor, for `events.wait`."""
        return self._listener.fileno()

    def take(self) -> Occupant | None:
        """Return the next seat, if there is one."""
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return None
        try:
            if _peer(connection) != os.getuid():
                raise OSError("another user's")
            size = socket.CMSG_SPACE(4 * array.array("i").itemsize)
            # A seat sends all at once; one that is killed in between closes its side.
            head, ancillary, _, _ = connection.recvmsg(4, size)
            descriptors = array.array("i")
            for _, _, data in ancillary:
                descriptors.frombytes(data)
            (length,) = struct.unpack("!I", head)
            text = b""
            while len(text) < length:
                more = connection.recv(length - len(text))
                if not more:
                    raise OSError("it ended")
                text += more
        except (OSError, struct.error):
            connection.close()
            return None
        return Occupant(connection, jsonl.loads(text.decode()), list(descriptors))
