"""The node guard: the ancestor of all that an attempt runs on one node of several.

srun starts one on each node. Like guard and supervisor it is a pair: the keeper, which srun
started, and the guard proper. Whichever dies, the other ends the whole tree of this node. Both
end with the link to the supervisor, so nothing outlives the attempt.
"""

from __future__ import annotations

import os
import sys
import time

from rechain.environment import packed
from rechain.record import events, host, jsonl
from rechain.record.paths import RunPaths
from rechain.supervisor import link, linux, tree
from rechain.supervisor.apart import OwnFolder, make_own_folder, sees
from rechain.supervisor.linux import signal
from rechain.supervisor.rank import ASK, guard_seated
from rechain.supervisor.seat import Desk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from rechain.record.paths import AttemptPaths
    from rechain.supervisor.node_container import NodeContainer

__all__ = ["HELD", "guard_node"]

HELD = "RECHAIN_UNPACKED"
"""The variable that names the environment on the node's own disk, which it is to keep there."""

# How often to see whether a newer attempt has taken over, in seconds.
_LOOK = 5.0

# How long after the supervisor this node may hear from Slurm that the job must end, in seconds.
_HEARSAY = 3.0


def guard_node(run_folder: str, number: str) -> NoReturn:
    """Guard this node until the attempt has ended; never returns.

    Args:
        run_folder: the run.
        number: the attempt's number.
    """
    run = RunPaths(run_folder)
    name = os.uname().nodename
    keeper = os.getpid()
    linux.become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: None)  # the guard hears it, too, and says so
    attempt = run.attempt(int(number))
    apart = not sees(run, attempt)
    hosts = [os.environ.get(key, "") for key in ("SLURM_LAUNCH_NODE_IPADDR", "SLURM_SUBMIT_HOST")]
    hosts = [host for host in hosts if host]
    index = int(os.environ.get("SLURM_NODEID") or 0)
    line = link.call(os.environ.pop(link.ADDRESS), hosts, name, apart=apart, index=index)
    own = None
    try:
        if apart:
            make_own_folder(run, attempt)
            own = OwnFolder(run, attempt, line)
        log = os.open(attempt.node_log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        line.say("brought", why=f"{error.filename}: {error.strerror}")
        while line.keep() and all(row["event"] != "end" for row in line.hear()):
            events.wait([line.fileno()], 1.0)
        line.say("bye")
        line.part()
        os._exit(0)
    if held := os.environ.pop(HELD, ""):
        packed.hold(held)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor, stands_for in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, stands_for)
    guard = os.fork()
    if not guard:
        try:
            _Node(run, attempt, line, own).serve(keeper)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(1)
    _, status = os.waitpid(guard, 0)
    if status:
        line.begin_anew()
        line.say("killed")  # before others say what comes of that
    tree.end_descendants()
    if status:
        from rechain.supervisor import container

        container.end(attempt.node(name))
        line.say("bye")
        line.part()
    os._exit(0)


class _Node:
    """The guard proper.

    Args:
        run: the run.
        attempt: the attempt.
        line: the link to the supervisor.
        own: the run's folder, if this node does not see the record.
    """

    def __init__(
        self, run: RunPaths, attempt: AttemptPaths, line: link.Line, own: OwnFolder | None
    ) -> None:
        self._name = os.uname().nodename
        self._run = run
        self._attempt = attempt
        self._line = line
        self._own = own
        self._ranks: dict[int, int] = {}  # by the pid of its guard; -1 until that is known
        self._scripts: dict[int, dict[str, Any]] = {}  # of all ranks of this node
        self._container: NodeContainer | None = None
        self._said: set[tuple[int, str]] = set()
        self._told = False
        self._asking: float | None = None  # when to ask the ranks, if Slurm has not by then
        self._wakeup, wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _on_term(self, *_: object) -> None:
        self._told = True

    def serve(self, keeper: int) -> None:
        """Serve until the end.

        Args:
            keeper: this process's parent.
        """
        linux.become_subreaper()
        linux.die_with_parent(signal.SIGTERM, keeper)
        self._desk = Desk(f"{self._run.run_id}/{self._attempt.number}")
        self._watch = events.Watch()
        self._watch.add(self._attempt.ranks)
        if self._own is not None:
            self._watch.add(self._attempt.root)
            self._watch.add(self._run.metrics)
        self._line.say("ready")
        told = False
        while True:
            if os.getppid() != keeper:
                self._line.say("killed")  # before others say what comes of that
                self._end()
                self._leave()
                return
            if self._told and not told:
                told = True
                self._line.say("told")
            while (seat := self._desk.take()) is not None:
                self._start(seat)
            self._report()
            self._reap()
            if self._own is not None:
                self._own.report()
            ending = any(self._obey(row) for row in self._line.hear())
            if self._asking is not None and (self._told or time.monotonic() >= self._asking):
                self._asking = None
                reached = self._container is None or self._container.reached()
                if not (self._told and reached):
                    self._ask()
            superseded = self._run.numbers()[-1:] != [self._attempt.number]
            if ending or superseded or not self._line.keep():
                break
            due = self._line.due if self._asking is None else min(self._line.due, self._asking)
            pause = min(_LOOK, max(0.0, due - time.monotonic()))
            watched = [self._wakeup, self._desk.fileno(), self._line.fileno()]
            watched += self._container.descriptors if self._container is not None else ()
            full = self._line.fileno() if self._line.flush() else -1
            events.wait([*watched, self._watch.fileno()], pause, full)
            self._watch.drain()
            try:
                os.read(self._wakeup, 4096)
            except BlockingIOError:
                pass
        leftover = self._end()
        self._report()
        why = "a newer attempt has taken over" if superseded else "the supervisor has hung up"
        if not ending and not superseded and not self._line.closed:
            why = link.DEAF
            os.write(2, f"{why}\n".encode())  # the next attempt may have nothing else to go by
        self._leave(leftover=leftover, **({} if ending else {"why": why}))

    def _end(self) -> int:
        """End all that is on this node; return how many processes that were."""
        if self._container is not None:
            self._container.end()
        return tree.end_descendants()

    def _leave(self, **fields: Any) -> None:
        delivered = self._own is not None and self._own.deliver()
        self._line.say("bye", **fields)
        self._line.part()
        if self._own is not None and delivered:
            self._own.remove()

    def _start(self, seat: Any) -> None:
        """Start the guard of a rank, or pass on what an agent wants to have run."""
        if seat.launch is not None:
            if self._container is not None:
                self._container.forward(seat)
            return
        me = os.getpid()
        pid = os.fork()
        if not pid:
            try:
                guard_seated(self._run, self._attempt, seat, me)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            os._exit(125)
        self._ranks[pid] = -1
        seat.leave()

    def _obey(self, row: dict[str, Any]) -> bool:
        """Do what the supervisor says; return whether all must end."""
        order: str = row["event"]
        if order == "bring" and self._own is not None:
            self._own.bring(row)
        elif order == "term":
            self._ask()
        elif order == "slurm":
            self._asking = time.monotonic() + _HEARSAY
        elif order == "stacks":
            for script in self._scripts.values():
                unseen = self._container is not None and script["pid"] == self._container.client
                if host.is_alive(script) and not unseen:
                    self._kill(script["pid"], signal.SIGUSR2)
        elif order == "prepare":
            from rechain.supervisor.node_container import NodeContainer

            self._container = NodeContainer(self._run, self._attempt, self._line, self._name)
            self._container.prepare(row)
        elif self._container is not None and order == "run":
            self._container.run(row)
        elif self._container is not None and order == "ran":
            self._container.answer(row)
        return order == "end"

    def _ask(self) -> None:
        for guard in self._ranks:
            self._kill(guard, ASK)
        if self._container is not None:
            self._container.ask()

    def _kill(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has just ended

    def _report(self) -> None:
        """Say what is new of this node's ranks: it is this host that has written it."""
        if self._container is not None:
            self._container.look()
        for name in sorted(os.listdir(self._attempt.ranks), reverse=True):  # start before end
            if not name.endswith((".start.json", ".end.json")):
                continue
            rank, what, _ = name.split(".")
            key = (int(rank), what)
            if key in self._said:
                continue
            found = jsonl.read(f"{self._attempt.ranks}/{name}")
            if what == "start" and found["node"] == self._name:
                if self._container is None:
                    self._ranks[found["guard"]["pid"]] = key[0]
                else:
                    self._container.locate(found)
                self._scripts[key[0]] = {"pid": found["pid"], "start": found["start"]}
            elif key[0] not in self._scripts:
                continue  # another node's
            elif what == "end" and self._container is not None:
                self._container.forget(key[0])
            self._said.add(key)
            self._line.say(what, **found)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self._own is not None and pid == self._own.bringing:
                self._own.brought(status)
            self._report()  # it may have written its end since
            if self._container is not None:
                self._container.reaped(pid, status)
            rank = self._ranks.pop(pid, -1)
            if rank >= 0 and (rank, "end") not in self._said:
                self._line.say("lost", rank=rank)
