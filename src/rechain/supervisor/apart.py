"""Nodes that do not see the run folder: they get what they need, and what they write comes back.

A node apart has a run folder of its own at the same path. What goes into it, and the environment,
comes through the datastore of the job's source (`rechain.data.apart`); what its ranks write goes
over the link into the record: logs and metrics as they grow, all else when the ranks have ended.
"""

from __future__ import annotations

import os
import sys
import time

from rechain.record import jsonl
from rechain.supervisor import linux
from rechain.supervisor.variables import SOURCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from rechain.record.journal import Journal
    from rechain.record.paths import AttemptPaths, RunPaths
    from rechain.supervisor.link import Hub, Line
    from rechain.supervisor.outcome import Outcome
    from rechain.supervisor.stage import Stage

__all__ = ["Apart", "OwnFolder", "make_own_folder", "sees"]

_CHUNK = 1 << 17  # bytes of a file in one row
_MOST = 1 << 20  # bytes that wait to be sent
_SEEN = 60.0  # seconds for a node to see a file of a file system that is shared

# These only grow, so what is new of them is enough.
_GROWING = (".out", ".err", ".log", ".jsonl")
_WHEN_ALL_IS_OVER = ("work", "data", "uploads")
_PASSED_OVER = (".packages", "__pycache__")

# What of a file tells that it has changed: size, modification time, inode.
_State = tuple[int, int, int]


def sees(run: RunPaths, attempt: AttemptPaths) -> bool:
    """Return whether this node sees the record; what another host has just written comes late."""
    until = time.monotonic() + _SEEN
    while not os.path.exists(attempt.journal):
        shared = os.path.exists(run.job) and not os.path.exists(run.apart)
        if not shared or time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def make_own_folder(run: RunPaths, attempt: AttemptPaths) -> None:
    """Make the folder of a run on a node that does not see the record, in place of an older one.

    Raises:
        OSError: that cannot be done; or something is there that no node apart has made.
    """
    if os.path.lexists(run.root):
        if not os.path.exists(run.apart):
            raise FileExistsError(
                17, "it is there, and is not this attempt's: not yet, or not at all", run.root
            )
        _remove(run)
    for folder in (run.work, run.requests, run.metrics, attempt.ranks):
        os.makedirs(folder)
    jsonl.write_new(run.apart, {"schema": 1})


def _remove(run: RunPaths) -> None:
    import shutil

    shutil.rmtree(run.root, ignore_errors=True)


def _files(root: str, folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below a folder of the run, by their path in it."""
    try:
        entries = sorted(os.scandir(f"{root}/{folder}"), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _PASSED_OVER:
                yield from _files(root, path)
            continue
        try:
            yield path, entry.stat(follow_symlinks=False)
        except OSError:
            continue  # it has just gone


def _state(status: os.stat_result) -> _State:
    return status.st_size, status.st_mtime_ns, status.st_ino


class OwnFolder:
    """The run folder of a node apart.

    Args:
        run: the run.
        attempt: the attempt.
        line: the link to the supervisor.
    """

    def __init__(self, run: RunPaths, attempt: AttemptPaths, line: Line) -> None:
        self._run = run
        self._attempt = attempt
        self._line = line
        self._result = f"{run.root}/brought.json"
        self._sent: dict[str, _State] = {}  # as the record has it
        self._attempts = os.path.relpath(attempt.root, run.root)
        self.bringing = 0

    def bring(self, row: Mapping[str, Any]) -> None:
        """Start to bring all that the ranks need; see `brought`.

        Args:
            row: what the supervisor says of the run.
        """
        try:
            jsonl.write_atomic(self._run.job, row["job"])
            jsonl.write_atomic(self._run.lock, row["lock"])
            jsonl.write_atomic(self._run.apart, {"schema": 1, **row["wanted"]})
        except OSError as error:
            self._line.say("brought", why=_why(error))
            return
        code = f"import sys; sys.path.insert(0, {SOURCE!r}); import rechain.data.__main__"
        argv = [sys.executable, "-I", "-c", code, "bring-all", self._run.root, self._result]
        cache = {"RECHAIN_CACHE": row["wanted"]["cache"]}
        self.bringing = os.posix_spawn(argv[0], argv, {**os.environ, **cache})

    def brought(self, status: int) -> None:
        """Tell the supervisor what has become of it."""
        from rechain.environment import packed

        self.bringing = 0
        try:
            result = jsonl.read(self._result)
        except (OSError, ValueError):
            why = f"the process that brings the run's files died (wait status {status})"
            result = {"ok": False, "message": why}
        if result["ok"]:
            for folder in result["held"]:
                packed.hold(folder)
            for folder in _WHEN_ALL_IS_OVER:
                found = _files(self._run.root, folder)
                self._sent.update((path, _state(status)) for path, status in found)
        self._line.say("brought", why="" if result["ok"] else result["message"])

    def _all(self) -> Iterator[tuple[str, os.stat_result]]:
        for folder in (self._attempts, "metrics", *_WHEN_ALL_IS_OVER):
            yield from _files(self._run.root, folder)

    def report(self) -> None:
        """Send what is new of logs and metrics, as far as the supervisor takes it now."""
        for folder in (self._attempts, "metrics"):
            for path, status in _files(self._run.root, folder):
                if self._line.flush() > _MOST:
                    return
                self._send(path, status, lambda: self._line.flush() <= _MOST)

    def deliver(self) -> bool:
        """Send all that is new, as the ranks have ended; return whether it could be sent."""
        for path, status in self._all():
            if not self._send(path, status, lambda: self._line.drain(_MOST)):
                return False
        self._line.say("delivered")
        return self._line.drain()

    def remove(self) -> None:
        """Remove it, once the record has all of it; not that of a newer attempt."""
        if self._run.numbers() == [self._attempt.number]:
            _remove(self._run)

    def _send(self, path: str, status: os.stat_result, go_on: Callable[[], bool]) -> bool:
        """Send what is new of a file.

        Args:
            path: its path in the run.
            status: what it is like.
            go_on: called before each part; returns whether it is to be sent now.

        Returns:
            Whether all of it was sent.
        """
        import stat
        from binascii import b2a_base64

        before, now = self._sent.get(path), _state(status)
        if before == now or path.endswith(".tmp"):
            return True
        if stat.S_ISLNK(status.st_mode):
            self._sent[path] = now
            self._line.say("file", path=path, link=os.readlink(f"{self._run.root}/{path}"))
            return go_on()
        if not stat.S_ISREG(status.st_mode):
            return True
        grows = path.endswith(_GROWING) and path.startswith(("attempts/", "metrics/"))
        at = 0
        if grows and before is not None and before[2] == now[2] and before[0] <= now[0]:
            at = before[0]
        fields = {"mode": status.st_mode & 0o777, "mtime": status.st_mtime_ns, "grows": grows}
        try:
            with open(f"{self._run.root}/{path}", "rb") as file:
                file.seek(at)
                while go_on():
                    data = file.read(_CHUNK)
                    last = len(data) < _CHUNK
                    text = b2a_base64(data, newline=False).decode()
                    self._line.say("file", path=path, at=at, data=text, last=last, **fields)
                    at += len(data)
                    if grows:
                        self._sent[path] = (at, now[1] if last else 0, now[2])
                    if last:
                        self._sent[path] = (at if grows else now[0], now[1], now[2])
                        return True
        except OSError as error:
            os.write(2, f"{path} cannot be sent: {error}\n".encode(errors="replace"))
            return True
        return False


def _why(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


class Apart:
    """All nodes apart of an attempt, as the supervisor sees them.

    Args:
        run: the run.
        attempt: the attempt.
        stage: what stands around the script.
        journal: takes the events.
        job: the job's document.
        hub: the links to all nodes.
    """

    def __init__(
        self, run: RunPaths, attempt: AttemptPaths, stage: Stage, journal: Journal,
        job: Mapping[str, Any], hub: Hub,
    ) -> None:  # fmt: skip
        self._run = run
        self._attempt = attempt
        self._stage = stage
        self._journal = journal
        self._job = job
        self._hub = hub
        self._waiting: set[str] = set()  # for what they need
        self._lending: int | None = None
        self._before: dict[str, _State] = {}  # of the first node's files, at the start
        self._other: dict[str, list[str]] = {}
        self._unwritten: set[str] = set()
        self.nodes: set[str] = set()
        self.refusal: Outcome | None = None

    def take(self, row: Mapping[str, Any]) -> None:
        """Take over what a node says, if it is for this object."""
        node = row["node"]
        if row["event"] == "up" and row.get("apart"):
            self.nodes.add(node)
            self._waiting.add(node)
        elif row["event"] == "brought":
            self._waiting.discard(node)
            if row["why"]:
                self._refuse("input", f"node {node}: {row['why']}")
        elif row["event"] == "file" and node in self.nodes:
            try:
                self._receive(node, row)
            except OSError as error:
                if node not in self._unwritten:
                    self._unwritten.add(node)
                    text = f"not all that node {node} wrote could be written here: {_why(error)}"
                    self._journal.write("note", text=text)
        elif row["event"] == "delivered":
            self._tell_of(node)

    def _refuse(self, cause: str, message: str, hint: str = "") -> None:
        from rechain.supervisor.outcome import Outcome

        if self.refusal is None:
            self.refusal = Outcome(cause, message, hint=hint)

    def ready(self) -> bool:
        """Have all nodes apart get what they need; return whether all have, or one cannot."""
        if not self.nodes or self.refusal is not None:
            return True
        if self._lending is None:
            self._lending = self._begin()
        elif self._lending and not os.path.exists(f"/proc/{self._lending}"):
            self._lending = 0
            self._describe()
        return self.refusal is not None or not (self._lending or self._waiting)

    def _begin(self) -> int:
        """Have the environment sent to the datastore; return the pid of the process that does."""
        names = ", ".join(sorted(self.nodes))
        some = f"node{'s' * (len(self.nodes) > 1)} {names}"
        source = self._job["source"]
        if "copy" not in source:
            self._refuse(
                "environment",
                f"{some} cannot see the run's folder {self._run.root}",
                "Put the workspace on a file system that the nodes share, or name a datastore "
                "that all nodes reach: source_directory_data_store.",
            )
            return 0
        text = f"{some} cannot see the run's folder: what its ranks need goes through the "
        text += f"datastore {source['copy']['store']['name']}, and what they write is copied here"
        self._journal.write("note", text=text)
        for folder in _WHEN_ALL_IS_OVER:
            found = _files(self._run.root, folder)
            self._before.update((path, _state(status)) for path, status in found)
        folders = jsonl.dumps(self._stage.seen["folders"])
        return linux.start_child(lambda: self._stage.start_with_data("lend", folders))

    def _describe(self) -> None:
        """Tell the nodes apart all that they need to know of the run."""
        try:
            lent = jsonl.read(self._attempt.lent)
        except (OSError, ValueError):
            lent = {"ok": False, "message": f"see {self._attempt.prepare_log}"}
        if not lent["ok"]:
            self._refuse("input", f"the nodes cannot be lent the environment: {lent['message']}")
            return
        wanted = {**self._stage.seen, "lent": lent["lent"], "made": lent["made"]}
        lock = jsonl.read(self._run.lock)
        for node in self.nodes:
            self._hub.nodes[node].say("bring", job=self._job, lock=lock, wanted=wanted)

    # What comes back.

    def _receive(self, node: str, row: Mapping[str, Any]) -> None:
        """Write a part of a file that a node has sent.

        Raises:
            OSError: there is no room for it.
        """
        from binascii import a2b_base64

        path = row["path"]
        if os.path.isabs(path) or ".." in path.split("/"):
            return
        grows = row.get("grows", False)
        there = f"{self._run.root if grows else self._attempt.come_from(node)}/{path}"
        os.makedirs(os.path.dirname(there), exist_ok=True)
        if "link" in row:
            os.symlink(row["link"], there)
            self._place(node, path, there)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if row["at"] else os.O_TRUNC)
        descriptor = os.open(there, flags, row["mode"] | 0o200)
        try:
            data, at = memoryview(a2b_base64(row["data"])), row["at"]
            while data:
                written = os.pwrite(descriptor, data, at)
                data, at = data[written:], at + written
        finally:
            os.close(descriptor)
        if row["last"] and not grows:
            os.chmod(there, row["mode"])
            os.utime(there, ns=(row["mtime"], row["mtime"]))
            self._place(node, path, there)

    def _place(self, node: str, path: str, came: str) -> None:
        """Give a file that has come whole its place; beside another node's, if that differs."""
        final = f"{self._run.root}/{path}"
        os.makedirs(os.path.dirname(final), exist_ok=True)
        if not path.startswith("attempts/") and os.path.lexists(final):
            now = _state(os.lstat(final))
            if _same(came, final):
                os.unlink(came)
                return
            if self._before.get(path) != now:
                stem, dot, kind = os.path.basename(path).rpartition(".")
                name = f"{stem}.{node}.{kind}" if stem else f"{dot}{kind}.{node}"
                final = os.path.join(os.path.dirname(final), name)
                self._other.setdefault(node, []).append(os.path.relpath(final, self._run.work))
        os.replace(came, final)

    def _tell_of(self, node: str) -> None:
        import shutil

        shutil.rmtree(self._attempt.come_from(node), ignore_errors=True)
        if other := self._other.get(node):
            more = f" and {len(other) - 5} more" * (len(other) > 5)
            text = f"node {node} wrote other content than another node: it is in "
            self._journal.write("note", text=f"{text}{', '.join(other[:5])}{more}")


def _same(first: str, second: str) -> bool:
    if os.path.islink(first) or os.path.islink(second):
        both = os.path.islink(first) and os.path.islink(second)
        return both and os.readlink(first) == os.readlink(second)
    if not os.path.isfile(second) or os.path.getsize(first) != os.path.getsize(second):
        return False
    with open(first, "rb") as one, open(second, "rb") as other:
        while data := one.read(_CHUNK):
            if data != other.read(_CHUNK):
                return False
    return True
