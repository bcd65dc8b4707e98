"""A container: what is run in it, and how that ended.

A container is its engine's child, not ours. So its first process is ours
(`rechain_guest/init.py`), and two FIFOs in the attempt's folder tie it to the process that started
it, a supervisor or a node's guard. They carry what it runs to it, and how that ended back; when
that process dies, the kernel ends them, and thereby all that is in the container, whatever becomes
of the engine. What the engine keeps of a container is removed by its name, which is that of the
attempt.
"""

from __future__ import annotations

import os
import time

from rechain.record import events, host, jsonl
from rechain.record.paths import NodePaths
from rechain.supervisor import tree
from rechain.supervisor.engine import GUEST, PATIENCE, command, remove
from rechain.supervisor.linux import signal
from rechain.supervisor.outcome import Outcome, oom_kills, tail
from rechain.supervisor.script import redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from rechain.record.paths import AttemptPaths

__all__ = ["Container", "end", "end_all", "take_away"]

_F_SETPIPE_SZ = 1031  # fcntl(2)
_PIPE = 65536  # bytes that fit anyway


def end(place: NodePaths) -> None:
    """End the container of an attempt whose holder is gone, and wait until it has ended.

    Does nothing for one that has none.

    Args:
        place: the attempt, or its node.
    """
    try:
        record = jsonl.read(place.container)
    except (OSError, ValueError):
        return
    remove(record)
    try:
        line = os.open(place.container_out, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    _await_end(line)
    os.close(line)
    take_away(place)


def end_all(attempt: AttemptPaths) -> None:
    """End the containers of an attempt whose supervisor is gone, as far as they are of this host.

    Those of other nodes have ended with their guards; what their engines remember of them cannot
    be removed from here.

    Args:
        attempt: the attempt.
    """
    end(attempt)
    for name in attempt.nodes():
        place = attempt.node(name)
        if name == os.uname().nodename:
            end(place)
        take_away(place)


def take_away(place: NodePaths) -> None:
    """Remove the FIFOs: whoever copies a run folder would wait at them for ever.

    Args:
        place: the attempt, or its node.
    """
    for path in (place.container_in, place.container_out):
        try:
            os.unlink(path)
        except OSError:
            pass  # it was never made


def _await_end(line: int) -> bytes:
    """Read what a container's first process says until it has ended."""
    said = b""
    until = time.monotonic() + PATIENCE
    while (left := until - time.monotonic()) > 0:
        try:
            # First of all: it is no event that a FIFO is without a writer when it is opened.
            data = os.read(line, 65536)
        except BlockingIOError:
            events.wait([line], left)
            continue
        if not data:
            break
        said += data
    return said


class Container:
    """A container.

    Args:
        attempt_id: the value of `RECHAIN_ATTEMPT`.
        place: where its line and its record are.
        facts: `{"engine", "image", "pip"}`, as the preparing process found them.
        node: the name of its node, if there are several.

    Attributes:
        started: what it runs in the first place, as this machine knows it; empty if it cannot be
            seen, None until it runs.
        gone: whether its first process has been there, and has ended.
        end: what that said of the end; None if nothing.
        refused: why it could not start what is run in it.
        due: when the engine must have seen that it is gone, on the monotonic clock.
    """

    def __init__(
        self, attempt_id: str, place: NodePaths, facts: Mapping[str, Any], node: str = ""
    ) -> None:
        self._place = place
        self._facts: dict[str, Any] = dict(facts)
        self._mark = f"\0RECHAIN_ATTEMPT={attempt_id}\0".encode()
        name = "-".join(["rechain", *attempt_id.split("/"), *[node] * bool(node)])
        # Engines take ASCII; what makes a run's id unique is.
        self._name = "".join(
            x if x.isascii() and (x.isalnum() or x in "_.-") else "-" for x in name
        )
        self._in = self._out = -1
        self._node = node
        self._unread = b""
        self._oom_before = oom_kills()
        self._options: dict[str, Any] = {}
        self._in_slurm = self._reached = False
        self.started: dict[str, int] | None = None
        self.end: dict[str, Any] | None = None
        self.refused = ""
        self.gone = False
        self.due: float | None = None

    @property
    def descriptors(self) -> Collection[int]:
        """The line from the container, as long as its other end is held."""
        return [] if self.gone or self._out < 0 else [self._out]

    def lay(self, what: Mapping[str, Any]) -> None:
        """Lay the line to the container, with what it is to run in it.

        Args:
            what: as `contained.describe` returned it.
        """
        place = self._place
        self._options = what["options"]
        document: dict[str, Any] = what["document"]
        self._in_slurm = document["deaf"]
        for path in self._facts["pip"][:1]:
            document["variables"].setdefault("PIP_CONFIG_FILE", path)  # HOME is another one
        jsonl.write_new(place.container, {"schema": 1, "name": self._name, **self._facts})
        for path in (place.container_in, place.container_out):
            os.mkfifo(path, 0o600)
        # Both ends of the one: it can be opened, and filled, before somebody reads it.
        self._in = os.open(place.container_in, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._out = os.open(place.container_out, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        text = jsonl.dumps(document).encode()
        text = b"%d\n%b" % (len(text), text)
        if len(text) > _PIPE:
            import fcntl

            fcntl.fcntl(self._in, _F_SETPIPE_SZ, len(text))
        os.write(self._in, text)

    def enter(
        self, what: Mapping[str, Any], cores: Iterable[int], memory: int | None, refusal: int
    ) -> None:
        """Become the engine's client; called in a fresh child.

        Args:
            what: as for `lay`.
            cores: the cores that the container may use; none for all.
            memory: how many bytes it may have; None for all.
            refusal: descriptor that closes when the client runs, or takes why it does not.
        """
        mounts = dict.fromkeys((GUEST, *self._facts["pip"]), False) | dict(what["mounts"])
        argv = command(
            self._facts["engine"],
            self._facts["image"]["id"],
            self._name,
            python=what["python"],
            line=(self._place.container_in, self._place.container_out),
            mounts=mounts.items(),
            options=self._options,
            cores=cores,
            memory=memory,
            gpus=what["gpus"],
            ranks=what["document"]["launcher"],
            groups=os.getgroups(),
            hostname=self._node,
        )
        try:
            redirect("/dev/null", os.O_RDONLY, 0)
            redirect(self._place.container_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)
            os.dup2(1, 2)
            os.chdir("/")
            if what["document"]["deaf"]:
                # Slurm sends it SIGTERM, and to conmon, which would end the container at once.
                signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
            os.execve(argv[0], argv, self._facts["engine"]["variables"])
        except OSError as error:
            os.write(refusal, str(error).encode())

    def allotted(self) -> tuple[list[int], int | None]:
        """Return the cores and the bytes that Slurm gives it, as far as its engine can limit."""
        if self._facts["engine"]["rootless"]:
            return [], None
        from rechain.supervisor.slurm import allotted

        return allotted()

    def look(self) -> None:
        """See what the container says."""
        while self._out >= 0 and not self.gone:
            try:
                data = os.read(self._out, 65536)
            except BlockingIOError:
                return
            self._take(data)
            if not data:
                self.gone = self.started is not None or bool(self.refused)
                if self.gone:
                    self.due = time.monotonic() + PATIENCE  # for the engine to see it, too
                return

    def _take(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            said = jsonl.loads(line.decode())
            if said["event"] == "started":
                self.started = self.locate(said["pid"]) or {}
                self._note_reach()
            elif said["event"] == "refused":
                self.refused = said["why"]
            else:
                self.end = said

    def locate(self, pid: int) -> dict[str, int] | None:
        """Return a process of the container as it is known outside; None if it cannot be seen.

        Args:
            pid: its number inside.
        """
        return _on_this_machine(pid, self._mark)

    def processes(self) -> list[int]:
        """Return the pid on this machine of what it runs, if that can be seen and still runs."""
        found = self.started
        return [found["pid"]] if found and not self.end and host.is_alive(found) else []

    def ask(self) -> None:
        """Have SIGTERM sent to what it runs and what is in its process group."""
        self.due = None
        self._say("term")

    def ask_process(self, pid: int) -> None:
        """Have SIGTERM sent to one process of the container.

        Args:
            pid: its number inside.
        """
        self._say(f"term {pid}")

    def _say(self, words: str) -> None:
        try:
            os.write(self._in, f"{words}\n".encode())
        except OSError:
            pass  # it does not listen any more

    def reached(self) -> bool:
        """Return whether Slurm signals what is in the container as it does all else of its job."""
        return self._reached

    def _note_reach(self) -> None:
        # Not when it is asked: the one that is looked at may just have ended, as Slurm wants it.
        if self.started and self._in_slurm:
            from rechain.supervisor.slurm import reaches

            self._reached = reaches(self.started["pid"])

    def ended(self, status: int) -> int:
        """See to it that nothing of the container is left; return how what it ran ended.

        Args:
            status: the wait status of the engine's client.
        """
        self.look()
        alone = self.end is not None and os.WIFEXITED(status)  # it and its client, by themselves
        os.close(self._in)
        self._in = -1
        if self.started is not None or self.end is not None:
            self._take(_await_end(self._out))
        if not alone:
            remove({"name": self._name, **self._facts})
        _await_engine()
        self.settle()
        return self.end["status"] if self.end is not None else status

    def settle(self) -> None:
        """Take the line away again: nothing runs in it any more, or ever will."""
        for descriptor in (self._in, self._out):
            if descriptor >= 0:
                os.close(descriptor)
        self._in = self._out = -1
        take_away(self._place)

    def outcome(self, status: int, refused: str) -> Outcome | None:
        """Say how it ended; None if its first process has said how what it ran did.

        Args:
            status: the wait status of the engine's client.
            refused: why that could not be started, if so.
        """
        title = self._facts["engine"]["name"]
        if refused:
            return Outcome("environment", f"{title} cannot be started: {refused}")
        if self.refused:
            return Outcome("environment", f"the interpreter cannot be started: {self.refused}")
        if self.end is not None:
            return None
        said = tail(self._place.container_log)
        if self.started is None:
            outcome = _not_started(title, said)
        elif os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            outcome = Outcome("killed", f"{title}, which held the container, got signal {number}")
            outcome.signal = number
        elif oom_kills() > self._oom_before:
            outcome = Outcome("out_of_memory", "the container was killed by the kernel")
            outcome.signal = signal.SIGKILL
        else:
            outcome = Outcome("killed", f"the container was ended, not by Rechain ({title})")
            outcome.signal = signal.SIGKILL
        outcome.tail = said
        return outcome

    def oom_before(self) -> int:
        """Return what `oom_kills()` was before it started, as the container itself counts."""
        oom = self.end["oom"] if self.end is not None else None
        return self._oom_before if oom is None else oom_kills() - bool(oom)


def _not_started(title: str, said: list[str]) -> Outcome:
    reason = next((line for line in reversed(said) if "rror" in line), said[0] if said else "")
    reason = reason.removeprefix("docker: ").removeprefix("Error: ")
    outcome = Outcome("environment", f"{title} cannot start the container: {reason}".rstrip(": "))
    outcome.hint = "`rechain doctor` starts a container with each engine and says what it lacks."
    if "executable file not found" in reason or "no such file or directory" in reason.lower():
        outcome.hint = "If the image's interpreter has another name, name it with --python."
    outcome.detail = "\n".join(said)
    return outcome


def _on_this_machine(pid: int, mark: bytes) -> dict[str, int] | None:
    """Return a process of a container as it is known outside; None if it cannot be seen.

    Args:
        pid: its number inside.
        mark: what its variables have.
    """
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/status", "rb") as file:
                numbers = file.read().partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
            if len(numbers) < 2 or int(numbers[-1]) != pid:
                continue
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in b"\0" + file.read():
                    return host.process(int(name))
        except OSError:
            continue
    return None


def _await_engine() -> None:
    """Wait for podman's own processes: they put away what the container has left.

    They are children of ours, since each has left its parent; killed, they would leave it there.
    """
    until = time.monotonic() + PATIENCE
    pause = 0.002
    while time.monotonic() < until:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if not any(_is_podmans(pid) for pid in tree.descendants(os.getpid())):
            return
        time.sleep(pause)  # they are at any depth: no event tells of all
        pause = min(pause * 1.5, 0.05)


def _is_podmans(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip() in ("conmon", "podman")
    except OSError:
        return False
