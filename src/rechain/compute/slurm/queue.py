"""What Slurm says of a user's jobs: one squeue for all of them, shared by all readers of a host.

The newest answer is a file of the user's cache. It is taken as it is while it is fresh; then one
reader gets the lease, asks and replaces it, and the others wait for that. The longer nothing
changes, and the longer Slurm takes to answer, the longer an answer counts as fresh. Losing these
files does no harm.
"""

from __future__ import annotations

import os
import time

from rechain.compute.slurm.commands import SlurmError, call
from rechain.compute.slurm.states import STATES
from rechain.environment import store
from rechain.record import host, jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["Job", "Snapshot", "accounted", "look", "parse"]

# The name comes last: it may hold anything. Ended jobs are listed for MinJobAge seconds.
_FORMAT = "%i|%T|%r|%N|%S|%j"
_SACCT = "JobIDRaw,State,Reason,NodeList,Start,JobName"
_FIELDS = 6

_FRESH, _LONGEST_FRESH = 1.0, 10.0  # seconds
_GROWTH = 1.3  # for each answer without news
_SHARE, _LONGEST_SHARE = 20, 60.0  # an answer that took 0.1 s is fresh for 2 s at least
_AFTER_FAILURE = 2.0  # seconds; doubled by each further one
_LONGEST_AFTER_FAILURE = 30.0
_PATIENCE, _LONG_PATIENCE = 10.0, 30.0  # for an answer; the second after a failure
_LEASE = 60.0  # seconds: longer than a call may take
_FIRST_WAIT, _LAST_WAIT = 0.02, 0.5  # between looks at another reader's answer


class Job:
    """A job as squeue or sacct tells of it.

    Attributes:
        id: Slurm's number.
        state: a state's full name.
        reason: the code of the reason that it waits for, or ended for.
        nodes: the nodes it runs or ran on, as Slurm writes them; or nothing.
        start: when it started or is expected to, or nothing.
        name: its name: the run's id.
    """

    __slots__ = ("id", "name", "nodes", "reason", "start", "state")

    def __init__(
        self, id: str, state: str, reason: str, nodes: str, start: str, name: str
    ) -> None:
        self.id = id
        self.state = state
        self.reason = "" if reason == "None" else reason
        self.nodes = "" if nodes == "None assigned" else nodes
        self.start = "" if start in ("N/A", "Unknown", "None", "NONE") else start
        self.name = name


class Snapshot:
    """One answer.

    Attributes:
        t: when the question was asked (unix seconds of this host).
        error: why there is no answer; empty if there is one.
        jobs: the newest job of each name.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.t: float = document["t"]
        self.error: str = document["error"]
        self.jobs: dict[str, Job] = {}
        for line in document["lines"]:
            for job in parse(line):
                other = self.jobs.get(job.name)
                if other is None or _number(other) < _number(job):
                    self.jobs[job.name] = job

    def fresh(self) -> bool:
        """Return whether nobody need ask again yet."""
        age = time.time() - self.t
        return bool(0 <= age < self.document["fresh"])


def _number(job: Job) -> int:
    digits = job.id.partition("_")[0].partition("+")[0]
    return int(digits) if digits.isdigit() else 0


def parse(text: str) -> Iterable[Job]:
    """Yield the jobs of squeue's lines in our format.

    A line of another form is left out: a site's wrapper may greet its users.
    """
    for line in text.splitlines():
        fields = line.split("|", _FIELDS - 1)
        if len(fields) == _FIELDS and fields[0][:1].isdigit():
            yield Job(*fields)


def look(user: int, newer_than: float = 0.0) -> Snapshot:
    """Return what Slurm says of a user's jobs.

    Args:
        user: the user's number.
        newer_than: the question must have been asked after this moment (unix seconds).
    """
    folder = _folder(user)
    wait = _FIRST_WAIT
    until = time.monotonic() + _LEASE
    while True:
        known = _read(folder)
        if known is not None and known.t > newer_than and known.fresh():
            return known
        if _take_lease(folder):
            try:
                return _ask(user, folder, known)
            finally:
                _give_lease_back(folder)
        if time.monotonic() > until:
            return _ask(user, folder, known)
        time.sleep(wait)
        wait = min(wait * 1.5, _LAST_WAIT)


def _folder(user: int) -> str:
    from hashlib import sha256

    which = f"{os.environ.get('SLURM_CONF', '')}\0{os.environ.get('SLURM_CLUSTERS', '')}"
    # By host: the moments in it are of that host's clock.
    name = f"{os.uname().nodename}-{sha256(which.encode()).hexdigest()[:12]}-{user}"
    return f"{store.cache_root()}/slurm/{name}"


# The newest answer that this process has read, by its file: a list of runs asks for each of them.
_kept: dict[tuple[str, int, int], Snapshot] = {}


def _read(folder: str) -> Snapshot | None:
    path = f"{folder}/squeue.json"
    try:
        status = os.stat(path)
        key = (path, status.st_ino, status.st_mtime_ns)
        if key not in _kept:
            document = store.read_known(path)
            if document is None:
                return None
            _kept.clear()
            _kept[key] = Snapshot(document)
        return _kept.get(key)
    except (OSError, KeyError, TypeError):
        return None


def _ask(user: int, folder: str, known: Snapshot | None) -> Snapshot:
    begun = time.time()
    error, lines = "", []
    try:
        said = call(
            ["squeue", "--noheader", "--states=all", f"--user={user}", f"--format={_FORMAT}"],
            # By itself it would try for a minute when slurmctld is not there.
            seconds=_LONG_PATIENCE if known is not None and known.error else _PATIENCE,
        )
        lines = sorted(said.splitlines())
    except SlurmError as failure:
        error = failure.message
    before = known.document if known is not None else {}
    fresh = _AFTER_FAILURE if error else _FRESH
    if before and error and before["error"]:
        fresh = min(before["pause"] * 2, _LONGEST_AFTER_FAILURE)
    elif before and not error and before["lines"] == lines:
        fresh = min(before["pause"] * _GROWTH, _LONGEST_FRESH)
    took = time.time() - begun
    if not error:
        fresh = max(fresh, min(took * _SHARE, _LONGEST_SHARE))
    document = {
        "schema": 1,
        "t": begun,
        "fresh": took + fresh,
        "pause": fresh,
        "error": error,
        "lines": lines,
    }
    try:
        os.makedirs(folder, exist_ok=True)
        jsonl.write_atomic(f"{folder}/squeue.json", document)
    except OSError:
        pass  # then everybody asks for themselves
    return Snapshot(document)


def _take_lease(folder: str) -> bool:
    path = f"{folder}/lease"
    mine = {"schema": 1, "t": time.time(), **host.process(os.getpid())}
    try:
        os.makedirs(folder, exist_ok=True)
        if jsonl.write_new(path, mine):
            return True
        holder = jsonl.read(path)
        if host.is_alive(holder) and 0 <= time.time() - holder["t"] < _LEASE:
            return False
        os.unlink(path)  # its owner is gone; at worst two ask
        return jsonl.write_new(path, mine)
    except FileNotFoundError:
        return False  # it was given back just now
    except (OSError, ValueError, KeyError, TypeError):
        return True  # no place for a lease: then everybody asks for themselves


def _give_lease_back(folder: str) -> None:
    try:
        os.unlink(f"{folder}/lease")
    except OSError:
        pass


def accounted(job_id: str | None, name: str, since: float) -> Job | None:
    """Return what Slurm's accounting says of one job that squeue has forgotten.

    Args:
        job_id: its number, if that is known.
        name: its name.
        since: a moment before its submission (unix seconds).

    Returns:
        The job; None if there is no accounting, or nothing in it.

    Raises:
        SlurmError: there is accounting, and it does not answer or has not got as far.
    """
    begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - 60))
    if job_id:
        which = [f"--jobs={job_id}"]
    else:
        # Without states, sacct leaves out what was canceled before it could have started.
        ended = [state for state, row in STATES.items() if not row.alive and state != "REVOKED"]
        which = [f"--name={name}", f"--state={','.join(ended)}", "--endtime=now+1hour"]
    try:
        said = call(
            ["sacct", "--noheader", "--parsable2", "--allocations", f"--starttime={begin}",
             *which, f"--format={_SACCT}"]
        )  # fmt: skip
    except SlurmError as error:
        # Without slurmdbd: "Slurm accounting storage is disabled".
        if error.missing or "disabled" in error.message:
            return None
        raise
    found = [job for job in parse(said) if job.name == name]
    if not found and job_id:
        raise SlurmError(f"sacct: Slurm's accounting does not have job {job_id} yet")
    if not found:
        return None
    found[-1].state = found[-1].state.partition(" ")[0]  # "CANCELLED by 1000"
    return found[-1]
