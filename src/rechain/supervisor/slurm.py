"""The supervisor as a Slurm job: where its variables come from, and what Slurm says of its end.

The batch script becomes the guard (`__main__.py --slurm RUN`), so the job lasts as long as the
run's own processes. Slurm starts the same script again after a preemption or the loss of a node;
that is the run's next attempt.
"""

from __future__ import annotations

import os
import sys
import time

from rechain.environment import store
from rechain.record import jsonl
from rechain.record.causes import CAUSES
from rechain.record.journal import end_event, fold, fold_attempt
from rechain.record.paths import AttemptPaths, RunPaths
from rechain.supervisor import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["TO_PREPARE", "Slurm", "allotted", "reaches", "serve"]

# The submitter's variables by which packages and the engine of containers are found, and where
# packages are kept; the script of a managed job has not these.
TO_PREPARE = ("UV_", "PIP_", "RECHAIN_CACHE", "RECHAIN_ENGINE")

_REGISTRY = "RECHAIN_REGISTRY_PASSWORD"  # its name in the file of secrets

# What slurmstepd writes into the job's log when it ends one, and what follows the moment.
_MARK = "*** JOB "
_CANCELED = " CANCELLED AT "
_WHY = (
    ("DUE TO PREEMPTION", "preempted", "Slurm needed its nodes for another job"),
    ("DUE TO TIME LIMIT", "time_limit", "the time limit of its Slurm job"),
    ("DUE TO JOB REQUEUE", "preempted", "somebody had its Slurm job requeued"),
    ("FAILURE", "lost_node", "Slurm lost a node of the job"),
)

# So often a run goes on after it was preempted or lost a node.
_RETRIES = 3

_PATIENCE = 60  # seconds for one of Slurm's commands
_TIME = "%Y-%m-%dT%H:%M:%S"


class Slurm:
    """The job that an attempt runs in.

    Args:
        run: the run.
    """

    def __init__(self, run: RunPaths) -> None:
        self._run = run
        self._id = os.environ.get("SLURM_JOB_ID", "")
        self._log = run.slurm_log(self._id)
        self._offset = _size(self._log)
        self.facts: dict[str, Any] = {
            "job": self._id,
            "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
            "partition": os.environ.get("SLURM_JOB_PARTITION", ""),
            "nodes": os.environ.get("SLURM_JOB_NODELIST", ""),
        }

    def ended(self) -> tuple[str, str] | None:
        """Return cause and message if Slurm is ending the job; None if it is not.

        It signals the script and all else of the job at the same time, so a script may be gone
        before the supervisor has its own signal; but first it writes a line into the job's log.
        """
        try:
            with open(self._log, errors="replace") as file:
                file.seek(self._offset)
                said = file.read(1 << 16)
        except OSError:
            return None
        for line in said.split("\n"):
            if _MARK not in line or _CANCELED not in line:
                continue
            for words, cause, message in _WHY:
                if words in line and cause == "lost_node":
                    return cause, _lost(self.facts["nodes"]) or message
                if words in line:
                    return cause, message
            return "canceled", "canceled in Slurm (scancel)"
        return None

    def goes_on(self, cause: str) -> bool:
        """Return whether an attempt that ends so is followed by another one."""
        if cause not in ("preempted", "lost_node"):
            return False
        ends = [attempt.end or {} for attempt in fold(self._run).attempts]
        return sum(bool(end.get("requeue")) for end in ends) < _RETRIES

    def requeue(self) -> None:
        """Have Slurm start the job again, if it does not do so by itself."""
        if self.ended() is None:
            _ask("scontrol", "requeue", self._id)


def _lost(nodes: str) -> str:
    """Return which of some nodes Slurm has lost, for people; empty if it does not say."""
    said = _ask("sinfo", "-h", "-N", "-n", nodes, "-t", "down,fail", "-o", "%N").split()
    names = sorted(set(said))
    return f"Slurm lost node{'s' * (len(names) > 1)} {', '.join(names)}" if names else ""


def _first_node_lost(attempt: AttemptPaths, started: dict[str, Any]) -> str:
    """Return what speaks for the loss of an attempt's first node, for people; empty if nothing.

    It may be back when the next attempt begins: then Slurm does not call it down any more.
    """
    from rechain.supervisor.link import DEAF

    name = started["host"]["name"]
    said = _ask("scontrol", "--oneliner", "show", "node", name.partition(".")[0]).split()
    since = next((word[16:] for word in said if word.startswith("SlurmdStartTime=")), "")
    # Both are local times of this machine (scontrol(1), SLURM_TIME_FORMAT).
    if since[:1].isdigit() and since > time.strftime(_TIME, time.localtime(started["t"])):
        return f"node {name} was lost: its slurmd was started again at {since[11:]}"
    for log in sorted(os.listdir(attempt.root)):
        if log.startswith("node-") and log.endswith(".log"):
            with open(f"{attempt.root}/{log}", errors="replace") as file:
                if DEAF in file.read():
                    return f"node {name} was lost: node {log[5:-4]} did not hear it any more"
    return ""


def allotted() -> tuple[list[int], int | None]:
    """Return what of this node Slurm has given to the job that this process is in.

    A container is its engine's and not in the job's own cgroup, so it has to be told.

    Returns:
        The cores, none for all; and how many bytes of memory, None if that is not limited.
    """
    cores = sorted(os.sched_getaffinity(0))
    each = [os.environ.get(name, "") for name in ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE")]
    megabytes = int(os.environ.get("SLURM_MEM_PER_NODE") or 0)
    if not megabytes and all(each):
        megabytes = int(each[0]) * int(each[1])
    return cores if len(cores) < (os.cpu_count() or 1) else [], (megabytes << 20) or None


def reaches(pid: int) -> bool:
    """Return whether Slurm signals a process of a container as it does all else of this job.

    It goes by cgroups, and an engine gives a container one of its own; or else by descent.

    Args:
        pid: the process, as this machine knows it.
    """
    if "slurm" in _cgroups(os.getpid()):
        return "slurm" in _cgroups(pid)
    return pid in tree.descendants(os.getpid())


def _cgroups(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cgroup", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _ask(*command: str) -> str:
    import subprocess

    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_PATIENCE,
            check=False,
            text=True,
            env={**os.environ, "SLURM_TIME_FORMAT": _TIME},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _close_earlier(run: RunPaths) -> bool:
    """Record the end of an attempt that could not; return whether the run may go on."""
    attempt = run.last_attempt()
    if attempt is None:
        return True
    state = fold_attempt(attempt)
    if state.end is None:
        started = state.attempt or {}
        slurm = started.get("slurm")
        if slurm and (lost := _lost(slurm["nodes"]) or _first_node_lost(attempt, started)):
            end = end_event("lost_node", f"{lost}, and the supervisor with it", requeue=True)
        else:
            message = "Slurm started the job again; its supervisor could not say why"
            end = end_event("supervisor_lost", message, requeue=True)
        jsonl.write_new(attempt.reader_end, end)
        if os.path.exists(attempt.container) or attempt.nodes():
            from rechain.supervisor import container

            container.end_all(attempt)  # they have ended; engines may still have a record
    return fold(run).end is None


def serve(run_folder: str) -> NoReturn:
    """Be the guard of the run's next attempt, in this process; never returns.

    Args:
        run_folder: the run.
    """
    from rechain.supervisor.guard import begin, guard

    run = RunPaths(run_folder)
    code = 125
    try:
        if not _close_earlier(run):
            os.write(2, f"rechain: {run.run_id} has ended: there is nothing to do\n".encode())
            os._exit(0)
        payload = _payload(run)
        attempt = begin(run)
    except (OSError, ValueError) as error:
        os.write(2, f"rechain: {os.uname().nodename}: {error}\n".encode(errors="replace"))
        os._exit(code)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)  # nobody waits for the supervisor's answer
    os.close(null)
    os.chdir("/")
    try:
        slurm = Slurm(run)
        guard(run, attempt, payload, slurm)
        end = fold_attempt(attempt).end
        code = _exit_code(end)
        if end and end.get("requeue"):
            slurm.requeue()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(code)


def _payload(run: RunPaths) -> dict[str, Any]:
    """Return what travels by pipe elsewhere.

    Raises:
        OSError: the file of secrets cannot be read.
        ValueError: a secret is missing; the message says which and where.
    """
    job = jsonl.read(run.job)
    request = job["slurm"] or {}
    managed = job["environment"]["kind"] != "user-managed" or "image" in job["environment"]
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not (managed and name.startswith(TO_PREPARE))
    }
    script = {**inherited, **job["variables"]}
    if job["secrets"]:
        script.update(_secrets(request.get("secrets"), job["secrets"]))
    registry = job["environment"].get("image", {}).get("registry") or {}
    password = None
    if "username" in registry:
        password = _secrets(request.get("secrets"), [_REGISTRY])[_REGISTRY]
    return {
        "password": password,
        "script": script,
        "prepare": dict(os.environ),
        "cache": request.get("store") or store.cache_root(),
    }


def _secrets(path: str | None, names: list[str]) -> dict[str, str]:
    if path is None:
        raise ValueError(
            f"the run needs the secret {names[0]}, and the target names no file of secrets "
            "(rechain target add --secrets)"
        )
    if os.stat(path).st_mode & 0o077:
        raise ValueError(f"others can read the file of secrets {path}: chmod 600 it")
    found = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            name, equals, value = line.rstrip("\n").partition("=")
            if equals and not name.lstrip().startswith("#"):
                found[name.strip().removeprefix("export ").strip()] = value
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"the file of secrets {path} has no {', '.join(missing)}")
    return {name: found[name] for name in names}


def _exit_code(end: dict[str, Any] | None) -> int:
    """Return what Slurm is to record: the script's own exit code, or the cause's."""
    if end is None:
        return 125
    code = CAUSES[end["cause"]].exit_code
    if code is not None:
        return code
    own: int | None = end.get("exit_code")
    return own if own is not None else 128 + int(end.get("signal") or 0)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
