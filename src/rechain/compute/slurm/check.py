"""Try a Slurm target out with a small job, and say in words what is and is not as it should be."""

from __future__ import annotations

import os
import shutil
import time

from rechain.compute.slurm import probe, queue
from rechain.compute.slurm.commands import SlurmError, call
from rechain.compute.slurm.reasons import in_words, refused
from rechain.compute.slurm.script import batch, place_options
from rechain.compute.slurm.states import STATES
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from typing import Any

__all__ = ["Finding", "check"]

_LOOK = 0.01  # between looks at the folder; it is what is measured
_SLOW_FILES = 5.0  # seconds a file may take to be seen before that is worth a word
_CLOCKS = 30.0  # seconds that clocks may differ


class Finding:
    """One line of the report.

    Attributes:
        good: False if runs will fail of it; None if it only should be known.
        what: what was looked at.
        words: what was found, and what to do about it.
    """

    def __init__(self, good: bool | None, what: str, words: str) -> None:
        self.good = good
        self.what = what
        self.words = words


def check(request: Mapping[str, Any], folder: str, seconds: float) -> Iterator[Finding]:
    """Yield what there is to say of a target, as it is found.

    Args:
        request: what its jobs ask of the cluster.
        folder: where to make a folder for the job, among the run folders; it is removed again.
        seconds: how long the job may wait in the queue.
    """
    here = list(_commands())
    yield from here
    if any(finding.good is False for finding in here):
        return
    yield from _config(request)
    place = f"{folder}/check-{int(time.time())}-{os.urandom(4).hex()}"
    os.makedirs(place)
    try:
        yield from _Probe(request, place, seconds).findings()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _commands() -> Iterator[Finding]:
    try:
        yield Finding(True, "commands", call(["sbatch", "--version"]).strip())
        call(["squeue", "--version"])
        call(["scancel", "--version"])
    except SlurmError as error:
        yield Finding(False, "commands", error.message)


def _config(request: Mapping[str, Any]) -> Iterator[Finding]:
    """Say what the cluster's own settings mean for runs."""
    try:
        said = call(["scontrol", "show", "config"])
    except SlurmError as error:
        yield Finding(None, "settings", f"{error.message}; nothing is known of its settings")
        return
    pairs = (line.partition("=") for line in said.splitlines() if "=" in line)
    config = {key.strip(): value.strip() for key, _, value in pairs}
    kill_wait = config.get("KillWait", "30 sec")
    yield Finding(None, "grace", f"when Slurm ends a job, its script has {kill_wait} (KillWait)")
    accounting = config.get("AccountingStorageType", "")
    if accounting in ("", "(null)", "accounting_storage/none"):  # 24.11 says (null)
        age = config.get("MinJobAge", "300 sec")
        yield Finding(None, "accounting", f"none; an ended job is known for {age} (MinJobAge)")
    else:
        yield Finding(True, "accounting", accounting)
    wanted = request["partition"]
    try:
        said = call(["scontrol", "--all", "--oneliner", "show", "partition"])
    except SlurmError as error:
        yield Finding(False, "partition", error.message)
        return
    rows = [dict(word.partition("=")[::2] for word in line.split()) for line in said.splitlines()]
    there = [fields["PartitionName"] for fields in rows if "PartitionName" in fields]
    names = wanted.split(",") if wanted else []
    for name in names:
        if name not in there:
            known = ", ".join(there) or "none at all"
            yield Finding(False, "partition", f"there is no partition {name!r}; there is: {known}")
    for fields in rows:
        if fields.get("PartitionName") in names or (not names and fields.get("Default") == "YES"):
            state = fields.get("State", "UP")
            limit = fields.get("MaxTime", "UNLIMITED")
            default = fields.get("DefaultTime", "NONE")
            words = (
                f"{fields.get('PartitionName')}: {state}, {fields.get('TotalNodes')} nodes, time "
                f"limit {limit.lower()}"
            )
            if default not in ("NONE", limit):
                words += f", {default} for runs without --time-limit"
            yield Finding(state == "UP", "partition", words)


class _Probe:
    """A job that tries things out.

    Args:
        request: what its jobs ask of the cluster.
        place: the folder of the job.
        seconds: how long it may wait in the queue.
    """

    def __init__(self, request: Mapping[str, Any], place: str, seconds: float) -> None:
        self._request = request
        self._place = place
        self._seconds = seconds
        self._name = f"rechain-{os.path.basename(place)}"
        self._log = f"{place}/job.log"

    def findings(self) -> Iterator[Finding]:
        """Yield what a job on one node finds, and then one on two."""
        begun = time.monotonic()
        number = yield from self._submit(1, "")
        if number is None:
            return
        try:
            facts = yield from self._await("facts.json", "begin", self._seconds)
            if facts is None:
                return
            seen = time.time()
            yield Finding(True, "start", f"{time.monotonic() - begun:.1f} s from sbatch to Python")
            yield from _of_node(facts, seen)
            found = yield from self._await("found.json", "end", 60.0 * (probe.ROUNDS + 2))
            if found is None:
                return
            yield from _of_files(found)
            yield from self._of_index(found)
            yield from _of_containers(found["containers"])
        finally:
            _cancel(number)
        if facts["mpiexec"]:
            yield from self._pair()

    def _pair(self) -> Iterator[Finding]:
        """Prove what starts ranks on two nodes, or say why that could not be tried."""
        self._name += "-pair"
        self._log = f"{self._place}/pair.log"
        number = yield from self._submit(2, f" --pair {self._request['mpi']}", needed=False)
        if number is None:
            return
        try:
            found = yield from self._await("pair.json", "begin and end", self._seconds, False)
        finally:
            _cancel(number)
        if found is None:
            return
        if not found["tried"]:
            yield Finding(None, "two nodes", f"not tried: {found['mpi']}")
            return
        for tried in found["tried"]:
            how = f"two ranks on two nodes by {tried['kind']}, {found['mpi']}"
            words = f"in {tried['seconds']:.1f} s" if tried["works"] else f"no: {tried['why']}"
            yield Finding(True if tried["works"] else None, "two nodes", f"{how}: {words}")
        if not any(tried["works"] for tried in found["tried"]):
            yield Finding(
                False, "two nodes",
                "nothing starts ranks that find each other: name another with --mpi, load an MPI "
                "that was built for this Slurm in --prologue, or have one installed for the run "
                "(rechain run --mpi mpich)",
            )  # fmt: skip

    def _submit(
        self, nodes: int, arguments: str, needed: bool = True
    ) -> Generator[Finding, None, str | None]:
        options = {"job-name": self._name, "output": self._log, "chdir": self._place, "time": 10}
        options |= {"nodes": nodes, "ntasks-per-node": 1, **place_options(self._request, 1)}
        script = batch(
            options, self._place, self._request, probe.__file__,
            f'\nexec "$python" -I "$program" "$run"{arguments}\n',
        )  # fmt: skip
        try:
            said = call(["sbatch", "--parsable"], given=script)
        except SlurmError as error:
            words = refused(error.said) if error.said else error.message
            if needed:
                yield Finding(False, "job", words)
            else:
                yield Finding(None, "two nodes", f"not tried: {words}")
            return None
        return said.strip().splitlines()[-1].partition(";")[0]

    def _await(
        self, name: str, what: str, seconds: float, needed: bool = True
    ) -> Generator[Finding, None, Any]:
        """Return the job's document of that name, answering its files meanwhile."""
        topic = "job" if needed else "two nodes"
        until = time.monotonic() + seconds
        answered: set[str] = set()
        asked = 0.0
        while True:
            names = os.listdir(self._place)
            if name in names:
                return jsonl.read(f"{self._place}/{name}")
            for ping in (found for found in names if found.startswith("ping-")):
                if ping.endswith(".tmp") or ping in answered:
                    continue
                answered.add(ping)
                open(f"{self._place}/{ping.replace('ping', 'pong')}", "w").close()
            if time.monotonic() - asked > 1:
                asked = time.monotonic()
                job = queue.look(os.getuid()).jobs.get(self._name)
                gone = job is not None and not STATES.get(job.state, STATES["PENDING"]).alive
                if gone and name not in os.listdir(self._place):
                    yield self._of_end(job)
                    return None
            if time.monotonic() > until:
                reason = in_words(job.reason) if job is not None else "Slurm does not list it"
                words = f"it did not {what} within {seconds:g} s: {reason}"
                yield Finding(False if needed else None, topic, words)
                return None
            time.sleep(_LOOK)

    def _of_end(self, job: Any) -> Finding:
        try:
            with open(self._log, errors="replace") as file:
                lines = [line.strip() for line in file if line.strip()]
        except OSError:
            return Finding(
                False, "files",
                f"the job left nothing in {self._place} (state {job.state}): the nodes must see "
                "the workspace, by the same path",
            )  # fmt: skip
        said = lines[-1].removeprefix("rechain: ") if lines else "it said nothing"
        return Finding(False, "node", f"{said} (state {job.state})")

    def _of_index(self, found: Mapping[str, Any]) -> Iterator[Finding]:
        if not found["index"]:
            yield Finding(True, "packages", "a node reaches the package index")
        elif "No module named" in found["index"]:
            yield Finding(
                False, "packages",
                f"{found['index']}: name a Python that has Rechain and what it requires with "
                "--python",
            )  # fmt: skip
        elif self._request["prepare"] == "here":
            yield Finding(None, "packages", "not from a node; but they are fetched here (prepare)")
        else:
            yield Finding(
                False, "packages",
                f"a node cannot get packages: {found['index']}. Add the target again with "
                "--prepare here",
            )  # fmt: skip


def _cancel(number: str) -> None:
    try:
        call(["scancel", "--quiet", number])
    except SlurmError:
        pass  # it ends by itself


def _of_node(facts: Mapping[str, Any], seen: float) -> Iterator[Finding]:
    libc = facts["libc"] or "no glibc"
    yield Finding(
        bool(facts["libc"]), "node",
        f"{facts['host']}: Python {facts['python']}, {libc}, {facts['cpus']} CPUs"
        + (f", GPUs {facts['gpus']}" if facts["gpus"] else ""),
    )  # fmt: skip
    here = os.confstr("CS_GNU_LIBC_VERSION") or ""
    if facts["libc"] and here and here != facts["libc"]:
        words = f"{here} here, {facts['libc']} there: what is built on one may fail on the other"
        yield Finding(None, "glibc", words)
    if abs(seen - facts["time"]) > _CLOCKS:
        yield Finding(None, "clock", f"it is {facts['time'] - seen:+.0f} s from this machine's")
    yield Finding(
        None, "mpi", facts["mpiexec"] or "no mpiexec on PATH: load one in --prologue, or have one "
        "installed with --mpi openmpi",
    )  # fmt: skip


def _of_containers(engines: list[Mapping[str, Any]]) -> Iterator[Finding]:
    for one in engines:
        if not one["works"]:
            words = f"{one['title']} starts none: {one['why'].removesuffix('.')}. {one['hint']}"
            yield Finding(None, "containers", words)
            continue
        words = f"{one['title']} starts one in {one['seconds']:.1f} s"
        if one["why"]:
            yield Finding(None, "containers", f"{words}, but not with limits: {one['why']}")
        else:
            yield Finding(True, "containers", f"{words}, with limits of memory and CPUs")
    if not engines:
        words = "no podman or docker on PATH, which only runs with use_docker or an image need"
        yield Finding(None, "containers", words)


def _of_files(found: Mapping[str, Any]) -> Iterator[Finding]:
    times = found["round_trips"]
    if len(times) < probe.ROUNDS:
        yield Finding(False, "files", "a file written here was not seen on the node within 60 s")
        return
    there_and_back = max(times)
    words = f"shared; at most {there_and_back / 2:.2f} s until the other side sees a file"
    slow = there_and_back / 2 > _SLOW_FILES
    yield Finding(None if slow else True, "files", words)
