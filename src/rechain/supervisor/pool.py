"""The machine's queue for the virtual nodes of its pools.

There is no server. Every attempt that runs on a pool, whoever's it is, keeps a ticket in one
folder of the machine; each supervisor reads the tickets and finds out by the same rules
(`turns.py`) who may go on. It starts its script only after it has said so in its ticket, under a
lock. A ticket counts as long as the attempt's guard or supervisor lives, so nobody can take nodes
to the grave.
"""

from __future__ import annotations

import os
import time

from rechain.record import host, jsonl
from rechain.supervisor.turns import Decision, Ticket, decide, line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.record.events import Watch
    from rechain.record.paths import AttemptPaths

__all__ = ["Place", "folder", "tickets", "why"]

_LONGEST = 1 << 16  # bytes of a ticket


def _read(path: str) -> tuple[str, int]:
    """Return a file's text and its owner.

    Anybody may put anything there: a link is somebody else's file, a pipe would hold us up.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags)
    try:
        return os.read(descriptor, _LONGEST).decode(), os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)


def folder() -> str:
    """Return the folder of the queue: the machine's own, or `RECHAIN_POOL_DIR`."""
    return os.environ.get("RECHAIN_POOL_DIR") or "/var/tmp/rechain"


class _Queue:
    """The tickets of this machine, as files.

    Raises:
        OSError: the folder cannot be made or read.
    """

    def __init__(self) -> None:
        self._root = folder()
        self.tickets = f"{self._root}/tickets"
        self._turns = f"{self._root}/turns"
        self._boot = host.identity()["boot_id"]
        self._known: dict[tuple[str, int], Ticket] = {}

    def make(self) -> None:
        """Make the folders: anybody may add to them, and remove what is their own."""
        for path in (self._root, self.tickets, self._turns):
            try:
                os.mkdir(path)
                os.chmod(path, 0o1777)
            except FileExistsError:
                if os.path.islink(path) or not os.path.isdir(path):
                    raise NotADirectoryError(20, "it must be a folder", path) from None

    def put(self, name: str, document: dict[str, Any]) -> None:
        """Write a ticket."""
        self._publish(f"{self.tickets}/{name}", jsonl.dumps(document))

    def _publish(self, path: str, text: str) -> None:
        """Write a file for all to read, whatever the umask; nobody else's is ever touched.

        Made elsewhere, so that who watches the folder sees it once, and whole.
        """
        beside = f"{self._root}/{os.path.basename(path)}.{os.urandom(4).hex()}"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.fchmod(descriptor, 0o644)
            os.write(descriptor, text.encode())
            os.rename(beside, path)
        except OSError:
            os.unlink(beside)
            raise
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        try:
            os.unlink(f"{self.tickets}/{name}")
        except OSError:
            pass  # another user's, whose own processes or root will do it; or gone

    def read(self) -> list[Ticket]:
        """Return all tickets, also those of the dead."""
        known = {}
        try:
            with os.scandir(self.tickets) as entries:
                for entry in entries:
                    key = (entry.name, entry.inode())
                    ticket = self._known.get(key) or self._load(entry.name)
                    if ticket is not None:
                        known[key] = ticket
        except FileNotFoundError:
            pass
        self._known = known
        return list(known.values())

    def _load(self, name: str) -> Ticket | None:
        try:
            text, uid = _read(f"{self.tickets}/{name}")
            return Ticket(name, uid, jsonl.loads(text))
        except (OSError, ValueError, RecursionError):
            return None  # gone meanwhile, or no ticket

    def holds(self, ticket: Ticket) -> bool:
        """Return whether the ticket is still there."""
        return os.path.exists(f"{self.tickets}/{ticket.name}")

    def counts(self, ticket: Ticket) -> bool:
        """Return whether the ticket's attempt is still there; remove it if not."""
        if ticket.boot == self._boot and (
            host.is_alive(ticket.supervisor) or host.is_alive(ticket.guard)
        ):
            return True
        self.remove(ticket.name)
        return False

    def turns(self, pool: str) -> dict[int, int]:
        """Return the number of each user's last turn on a pool."""
        found = {}
        try:
            names = os.listdir(self._turns)
        except FileNotFoundError:
            return {}  # nobody has used a pool yet, or somebody tidied up
        for name in names:
            user, _, where = name.partition(".")
            if where != pool:
                continue
            try:
                found[int(user)] = int(_read(f"{self._turns}/{name}")[0])
            except (OSError, ValueError):
                continue
        return found

    def take_turn(self, pool: str) -> int:
        """Note that this user has a turn on a pool; return its number. Only under the lock."""
        number = max(self.turns(pool).values(), default=0) + 1
        self._publish(f"{self._turns}/{os.getuid()}.{pool}", str(number))
        return number

    def decide(self, pool: str) -> Decision:
        """Decide among the living; only of those who matter it is asked whether they live."""
        everyone = [ticket for ticket in self.read() if not ticket.running or self.counts(ticket)]
        while True:
            decision = decide(everyone, self.turns(pool), pool)
            asked = [*decision.going, *([decision.blocked] if decision.blocked else [])]
            dead = [ticket for ticket in asked if not self.counts(ticket)]
            if not dead:
                return decision
            everyone = [ticket for ticket in everyone if ticket not in dead]

    def lock(self) -> int:
        """Return a descriptor that holds the lock until it is closed."""
        import fcntl

        descriptor = os.open(self.tickets, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor


class Place:
    """An attempt's place in the queue, and then on the nodes.

    Args:
        job: the job's document.
        attempt: the attempt.
        guard: the pid of its guard.
        watch: tells of the tickets' changes from now on.
        visible: the GPUs that it may use.

    Attributes:
        ticket: the attempt's own ticket.

    Raises:
        OSError: the queue cannot be used.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        attempt: AttemptPaths,
        guard: int,
        watch: Watch,
        visible: list[str],
    ) -> None:
        pool = job["pool"]
        nodes = job["distribution"]["nodes"]
        self._cpus = (pool["cpus"] or 0) * nodes
        self._shared = pool["name"] is not None
        self._watch = watch
        self._queue = _Queue()
        self._queue.make()
        self._pidfds: list[int] = []
        name = f"{job['run_id']}.{attempt.number}"
        document = {
            "schema": 1,
            # A run's own pool is nobody else's: it is named by the run.
            "pool": pool["name"] or job["run_id"],
            "run_id": job["run_id"],
            "nodes": nodes,
            "max_nodes": pool["max_nodes"],
            "priority": pool["priority"],
            "submitted": job["submitted"]["time"],
            "visible": visible,
            "wants_gpus": min(pool["gpus"] * nodes, len(visible)),
            "boot": host.identity()["boot_id"],
            "guard": host.process(guard),
            "supervisor": host.process(os.getpid()),
            "running": False,
            "since": 0.0,
            "turn": 0,
            "cores": [],
            "gpus": [],
        }
        self.ticket = Ticket(name, os.getuid(), document)
        self._watch.add(self._queue.tickets)
        self._queue.put(name, document)

    def enter(self) -> bool:
        """Take the nodes if it is this attempt's turn; return whether it has them."""
        if not self._is_next():  # most who look need not wait for the lock
            return False
        lock = self._queue.lock()
        try:
            if not self._is_next():
                return False
            turn = self._queue.take_turn(self.ticket.pool) if self._shared else 0
            running = [other for other in self._queue.read() if other.running]
            running = [other for other in running if self._queue.counts(other)]
            self.ticket = Ticket(
                self.ticket.name,
                self.ticket.uid,
                self.ticket.document
                | {
                    "running": True,
                    "since": time.monotonic(),
                    "turn": turn,
                    "cores": self._least_used_cores(running),
                    "gpus": self._free_gpus(running),
                },
            )
            self._queue.put(self.ticket.name, self.ticket.document)
        finally:
            os.close(lock)
        self._let_go()
        if self.ticket.priority == "dedicated":
            self._watch.remove(self._queue.tickets)  # nothing that happens there concerns it
        return True

    def _is_next(self) -> bool:
        self._let_go()
        mine = self.ticket.name
        while True:
            decision = self._queue.decide(self.ticket.pool)
            if decision.going and decision.going[0].name == mine:
                return True
            awaited = decision.going[:1]  # one after the other: or who is quick takes two turns
            if decision.blocked is not None and not awaited:
                # The first in line waits for nodes; the others, for the first to go or give up.
                first = decision.blocked.name == mine
                awaited = decision.running if first else [decision.blocked]
            if all([self._await(ticket) for ticket in awaited]):
                return False
            self._let_go()  # somebody left while we looked

    def _await(self, ticket: Ticket) -> bool:
        """Wait for the end of a ticket's attempt; False if that has been."""
        pidfd = host.open_pidfd(ticket.supervisor)
        if pidfd is None:
            pidfd = host.open_pidfd(ticket.guard)
        if pidfd is None:
            if not self._queue.counts(ticket):
                return False
            pidfd = -1  # it lives, and no more descriptors can be had: look now and then
        self._pidfds.append(pidfd)
        return self._queue.holds(ticket)

    def _least_used_cores(self, running: list[Ticket]) -> list[int]:
        """Return the cores to run on; none if the machine has fewer than are wanted."""
        there = sorted(os.sched_getaffinity(0))
        if self._cpus > len(there):
            return []
        uses = [core for ticket in running for core in ticket.cores]
        return sorted(sorted(there, key=lambda core: (uses.count(core), core))[: self._cpus])

    def _free_gpus(self, running: list[Ticket]) -> list[str]:
        taken = {gpu for ticket in running for gpu in ticket.gpus}
        free = [gpu for gpu in self.ticket.visible if gpu not in taken]
        return free[: self.ticket.wants_gpus]

    @property
    def descriptors(self) -> list[int]:
        """What becomes readable when those it waits for end."""
        return self._pidfds

    def must_leave(self) -> bool:
        """Return whether the attempt must give its nodes to one that goes first."""
        if not self.ticket.running or self.ticket.priority == "dedicated":
            return False
        leaving = self._queue.decide(self.ticket.pool).giving_way
        return any(ticket.name == self.ticket.name for ticket in leaving)

    def leave(self) -> None:
        """Give the nodes back, or the place in the line."""
        self._let_go()
        self._queue.remove(self.ticket.name)

    def _let_go(self) -> None:
        for descriptor in self._pidfds:
            if descriptor >= 0:
                os.close(descriptor)
        self._pidfds = []


def tickets(pool: str) -> list[Ticket]:
    """Return the tickets of a pool that count: those with nodes, then the line in its order."""
    queue = _Queue()
    try:
        found = [ticket for ticket in queue.read() if ticket.pool == pool and queue.counts(ticket)]
        turns = queue.turns(pool)
    except OSError:
        return []  # it cannot be used: then nobody waits there
    running = sorted((t for t in found if t.running), key=lambda t: t.since)
    return [*running, *line((ticket for ticket in found if not ticket.running), turns)]


def why(pool: str, run_id: str) -> str:
    """Return why a run waits, in words; empty if it does not."""
    found = tickets(pool)
    waiting = [ticket.run_id for ticket in found if not ticket.running]
    if run_id not in waiting:
        return ""
    mine = next(ticket for ticket in found if ticket.run_id == run_id)
    held = [f"{t.run_id} ({_user(t.uid)}, {t.nodes})" for t in found if t.running]
    wants = f"{mine.nodes} node{'s' if mine.nodes > 1 else ''}"
    return (
        f"number {waiting.index(run_id) + 1} in line for {wants} of {pool}, which has "
        f"{mine.max_nodes}; they are with: {', '.join(held) or 'nobody, it is about to start'}"
    )


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
