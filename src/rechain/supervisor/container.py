"""A script that runs in a container.

A container is its engine's child, not ours. So its first process is ours
(`rechain_guest/init.py`), and two FIFOs in the attempt's folder tie it to the supervisor. They
carry the script's variables to it, and how the script ended back; when the supervisor dies, the
kernel ends them, and thereby all that is in the container, whatever becomes of the engine. What
the engine keeps of a container is removed by its name, which is that of the attempt.
"""

from __future__ import annotations

import os
import time

from rechain.record import events, host, jsonl
from rechain.record.paths import AttemptPaths
from rechain.supervisor import linux, tree
from rechain.supervisor.engine import GUEST, PATIENCE, command, remove
from rechain.supervisor.linux import signal
from rechain.supervisor.outcome import Outcome, oom_kills, read_outcome, tail
from rechain.supervisor.script import LAST_WORDS, Script, redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from typing import Any

    from rechain.supervisor.nodes import Nodes

__all__ = ["Container", "end"]

# What a script inherits of this machine's user, and a container has of its own.
_OUTSIDE = (
    "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "PATH", "HOME", "SHELL", "TMPDIR",
    "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip

_F_SETPIPE_SZ = 1031  # fcntl(2)
_PIPE = 65536  # bytes that fit anyway


def end(attempt: AttemptPaths) -> None:
    """End the container of an attempt whose supervisor is gone, and wait until it has ended.

    Does nothing for an attempt that has none.

    Args:
        attempt: the attempt.
    """
    try:
        record = jsonl.read(attempt.container)
    except (OSError, ValueError):
        return
    remove(record)
    try:
        line = os.open(attempt.container_out, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    _await_end(line)
    os.close(line)
    _take_away(attempt)


def _take_away(attempt: AttemptPaths) -> None:
    """Remove the FIFOs: whoever copies a run folder would wait at them for ever."""
    for path in (attempt.container_in, attempt.container_out):
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


class Container(Script):
    """A script in a container; see `Script` for the methods.

    Args:
        *args: as for `Script`.
        job: the job's document.
        launcher: returns what is run in it in place of the script, if that is several processes.

    Attributes:
        gone: whether its first process has been there, and has ended.
        end: what that said of the end; None if nothing.
        refused: why it could not start what is run in it.
    """

    def __init__(
        self,
        *args: Any,
        job: Mapping[str, Any],
        launcher: Callable[[], tuple[list[str], dict[str, str]]] | None = None,
    ) -> None:
        super().__init__(*args)
        self._launcher = launcher
        self._facts: dict[str, Any] = self._stage.container or {}
        self._job = job
        self._options: dict[str, Any] = job["container"]
        name = f"rechain-{self._run.run_id}-{self._attempt.number}"
        # Engines take ASCII; what makes a run's id unique is.
        self._name = "".join(
            x if x.isascii() and (x.isalnum() or x in "_.-") else "-" for x in name
        )
        self._in = self._out = -1
        self._unread = b""
        self._started: dict[str, int] | None = None
        self.end: dict[str, Any] | None = None
        self.refused = ""
        self.gone = False

    @property
    def descriptors(self) -> Collection[int]:  # type: ignore[override]
        """The line from the container, as long as its other end is held."""
        return [] if self.gone else [self._out]

    def ready(self) -> bool:
        """Lay the line to the container, with what it is to run in it."""
        attempt = self._attempt
        record = {"schema": 1, "name": self._name, **self._facts}
        jsonl.write_new(attempt.container, record)
        for path in (attempt.container_in, attempt.container_out):
            os.mkfifo(path, 0o600)
        # Both ends of the one: it can be opened, and filled, before somebody reads it.
        self._in = os.open(attempt.container_in, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._out = os.open(attempt.container_out, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        distribution = self._job["distribution"]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for rank in range(distribution["nodes"] * distribution["processes_per_node"]):
            os.close(os.open(attempt.stdout(rank), flags, 0o644))
            said = os.open(attempt.stderr(rank), flags, 0o644)
            linux.keep_room(said, LAST_WORDS)
            os.close(said)
        document = jsonl.dumps(self._document()).encode()
        document = b"%d\n%b" % (len(document), document)
        if len(document) > _PIPE:
            import fcntl

            fcntl.fcntl(self._in, _F_SETPIPE_SZ, len(document))
        os.write(self._in, document)
        return True

    def _document(self) -> dict[str, Any]:
        argv, variables = (self._launcher or self._stage.command)()
        for path in self._facts["pip"][:1]:
            variables.setdefault("PIP_CONFIG_FILE", path)  # HOME is another one
        for name in _OUTSIDE:
            if name not in self._job["variables"] and name not in self._job["secrets"]:
                variables.pop(name, None)
        outputs = self._attempt.mpi_log, self._attempt.mpi_log
        if self._launcher is None:
            variables.update(RECHAIN_RANK="0", RECHAIN_WORLD_SIZE="1")
            outputs = self._attempt.stdout(0), self._attempt.stderr(0)
        umask = os.umask(0)
        os.umask(umask)
        return {
            "argv": argv,
            "variables": variables,
            "path": "" if "PATH" in variables else self._stage.programs,
            "folder": self._run.work,
            "stdout": outputs[0],
            "stderr": outputs[1],
            "umask": umask,
            "deaf": bool(self._job.get("slurm")),
            "launcher": self._launcher is not None,
        }

    def start_on(self, nodes: Nodes | None, refusal: int) -> None:
        """Become the engine's client; called in a fresh child."""
        applied = nodes.applied if nodes is not None else {}
        limits = applied.get("cores") or (), applied.get("memory_bytes")
        if self._job.get("slurm") and not self._facts["engine"]["rootless"]:
            from rechain.supervisor.slurm import allotted

            limits = allotted()
        self._start(*limits, refusal)

    def _start(self, cores: Iterable[int], memory: int | None, refusal: int) -> None:
        workspace = os.path.dirname(os.path.dirname(os.path.dirname(self._run.root)))
        outside = [_there(path) for path in (*self._options["mounts"], *self._stage.places)]
        mounts = dict.fromkeys((GUEST, *self._facts["pip"]), False)
        mounts |= dict.fromkeys([workspace, *outside], True)
        mounts |= dict.fromkeys(self._stage.read_only, False)
        argv = command(
            self._facts["engine"],
            self._facts["image"]["id"],
            self._name,
            python=self._stage.command()[0][0],
            line=(self._attempt.container_in, self._attempt.container_out),
            mounts=mounts.items(),
            options=self._options,
            cores=cores,
            memory=memory,
            gpus=self._stage.with_gpu,
            ranks=self._launcher is not None,
            groups=os.getgroups(),
        )
        try:
            redirect("/dev/null", os.O_RDONLY, 0)
            redirect(self._attempt.container_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)
            os.dup2(1, 2)
            os.chdir("/")
            os.execve(argv[0], argv, self._facts["engine"]["variables"])
        except OSError as error:
            os.write(refusal, str(error).encode())

    def started(self, pid: int) -> None:
        """Take over the engine's client; the script reports by itself."""
        self._pid = pid

    def look(self) -> bool:
        """See what the container says."""
        if self._out < 0:
            return False
        try:
            data = os.read(self._out, 65536)
        except BlockingIOError:
            return False
        self._take(data)
        if not data and not self.gone and (self._started is not None or self.refused):
            self.gone = True
            self.due = time.monotonic() + PATIENCE  # for the engine to see it, too
        return False

    def _take(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            said = jsonl.loads(line.decode())
            if said["event"] == "started":
                self._started = self.locate(said["pid"]) or {}
                process = self._started or host.process(self._pid)
                if self._launcher is None:
                    pid, start = process["pid"], process["start"]
                    self._journal.write("rank", rank=0, pid=pid, start=start)
            elif said["event"] == "refused":
                self.refused = said["why"]
            else:
                self.end = said

    def locate(self, pid: int) -> dict[str, int] | None:
        """Return a process of the container as it is known outside; None if it cannot be seen.

        Args:
            pid: its number inside.
        """
        mark = f"\0RECHAIN_ATTEMPT={self._run.run_id}/{self._attempt.number}\0"
        return _on_this_machine(pid, mark.encode())

    def processes(self) -> list[int]:
        """Return the script's pid on this machine, if it can be seen and still runs."""
        found = self._started
        return [found["pid"]] if found and not self.end and host.is_alive(found) else []

    def ask_to_end(self) -> None:
        """Have SIGTERM sent to the script and what is in its process group."""
        self.due = None
        self._say("term")

    def was_asked(self) -> None:
        """Have SIGTERM sent, unless Slurm's own reaches into the container."""
        if self.reached():
            self.due = None
        else:
            self.ask_to_end()

    def reached(self) -> bool:
        """Return whether Slurm signals what is in the container as it does all else of its job."""
        from rechain.supervisor.slurm import reaches

        return bool(self._started and reaches(self._started["pid"]))

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

    def ended(self, status: int) -> int:
        """See to it that nothing of the container is left."""
        self.look()
        alone = self.end is not None and os.WIFEXITED(status)  # it and its client, by themselves
        os.close(self._in)
        self._in = -1
        if self._started is not None or self.end is not None:
            self._take(_await_end(self._out))
        if not alone:
            remove({"name": self._name, **self._facts})
        _await_engine()
        self.settle()
        return self.end["status"] if self.end is not None else status

    def settle(self) -> None:
        """Take the line away again: the script will not be started."""
        for descriptor in (self._in, self._out):
            if descriptor >= 0:
                os.close(descriptor)
        self._in = self._out = -1
        _take_away(self._attempt)

    def outcome(self, status: int, refused: str) -> Outcome:
        """Say how it ended."""
        title = self._facts["engine"]["name"]
        if refused:
            return Outcome("environment", f"{title} cannot be started: {refused}")
        if self.refused:
            return Outcome("environment", f"the interpreter cannot be started: {self.refused}")
        if self.end is not None:
            errors = self._attempt.stderr(0)
            return self.explain(read_outcome(status, errors, self._run.work, self.oom_before()))
        said = tail(self._attempt.container_log)
        if self._started is None:
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

    def explain(self, outcome: Outcome) -> Outcome:
        """Say what may have ended a script in a container only."""
        if outcome.signal == signal.SIGBUS:
            size = self._options["shm_size"]
            outcome.hint = (
                f"/dev/shm of the container has {size}, and what does not fit there ends so: "
                "raise shm_size (--shm-size)."
            )
        return outcome

    def leftover(self, ended: int) -> int:
        """Return how many processes the script left behind in the container."""
        return self.end["leftover"] if self.end is not None else 0


def _there(path: str) -> str:
    """Return a path that is there and leads to one that may not be: an output, say."""
    while not os.path.exists(path) and os.path.dirname(path) not in ("/", ""):
        path = os.path.dirname(path)
    return path


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
