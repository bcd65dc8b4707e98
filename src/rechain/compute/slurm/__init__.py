"""A Slurm cluster as compute target: a run is a batch job whose name is the run's id.

So a job is found again by anybody who knows the run, whatever became of its submitter. What it
starts is the supervisor; this module only hands the job over, asks how it stands, and takes it
out of the queue.
"""

from __future__ import annotations

import os
import time

from rechain.compute.ended import give_up
from rechain.compute.slurm import queue
from rechain.compute.slurm.commands import SlurmError, call
from rechain.compute.slurm.reasons import REASONS, in_words, refused
from rechain.compute.slurm.states import STATES
from rechain.compute.target import EXPECTED, Observation, StartError, Submission, command_of
from rechain.job.variables import is_secret
from rechain.record import host, jsonl
from rechain.record.journal import fold
from rechain.supervisor.slurm import TO_PREPARE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from rechain.record.paths import RunPaths

__all__ = ["SlurmTarget"]

# How long a submitter on another host may take from the run folder to Slurm's answer, in seconds.
_SUBMITTING = 600.0
# How long a node may take to end a job that was canceled as it started, in seconds.
_LEAVING = 20.0
# How long a run without a sign of life waits for accounting that is late or down, in seconds.
_ACCOUNTING_LATE = 3600.0
# How far the clocks of two hosts may be apart, in seconds.
_CLOCKS = 30.0


class SlurmTarget:
    """Hands runs to Slurm.

    Args:
        name: the target's name.
        request: what a job asks of the cluster; see `settings.request`.
    """

    def __init__(self, name: str, request: Mapping[str, Any]) -> None:
        self.name = name
        self._request = dict(request)

    def plan(self, run: RunPaths, job: Mapping[str, Any]) -> Submission:
        """Return the batch script and how it is handed over."""
        from rechain.compute.slurm.script import render

        return Submission(
            target=job["target"],
            argv=("sbatch", "--parsable"),
            script=render(run, job, self._request),
            command=command_of(job),
            environment=dict(job["variables"]),
        )

    def start(
        self, submission: Submission, run: RunPaths, payload: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Hand the batch script to Slurm, and return the job's number.

        Raises:
            StartError: Slurm does not take it, or its environment cannot be built here.
        """
        given = payload()
        if not os.path.exists(run.job):
            raise StartError(f"there is no run folder {run.root}")
        job = jsonl.read(run.job)
        if job["secrets"] and not self._request["secrets"]:
            raise StartError(
                f"the run needs the secret {job['secrets'][0]}, which Slurm must not keep: name a "
                "file that jobs read it from (rechain target add --secrets FILE)"
            )
        registry = job["environment"].get("image", {}).get("registry") or {}
        if "username" in registry and not self._request["secrets"]:
            raise StartError(
                "the image's registry wants a password, which Slurm must not keep: name a file "
                "with a line RECHAIN_REGISTRY_PASSWORD=... (rechain target add --secrets FILE), "
                "or leave out image_registry_details and log in on the nodes"
            )
        if self._request["prepare"] == "here":
            from rechain.compute.slurm.prepare import prepare_here

            prepare_here(run, self._request, given)
        try:
            said = call(submission.argv, given=submission.script, environ=_exported(job, given))
        except SlurmError as error:
            found = None
            if "timed out" in error.message.lower():  # it may have been taken all the same
                found = queue.look(os.getuid(), time.time()).jobs.get(run.run_id)
            if found is None:
                message = refused(error.said) if error.said else error.message
                raise StartError(message) from error
            said = found.id
        number, _, cluster = said.strip().splitlines()[-1].partition(";")
        return {"job": number, "cluster": cluster or None, "note": ""}

    def poll(self, runs: Iterable[RunPaths]) -> dict[str, Observation]:
        """Say of each run how its job stands; Slurm is asked once for each user at most."""
        found = {}
        for run in runs:
            found[run.run_id] = Observation(False) if fold(run).end else self._observe(run)
        return found

    def _observe(self, run: RunPaths) -> Observation:
        submitted = jsonl.read(run.job)["submitted"]
        here = host.identity()
        known = bool(run.numbers()) or os.path.exists(run.submission)
        if not known and _submitting(submitted, here):
            return Observation(True, "it is being handed to Slurm")
        # What was asked before it was submitted cannot know it.
        clocks = 0.0 if submitted["host"]["boot_id"] == here["boot_id"] else _CLOCKS
        owner = os.stat(run.job).st_uid
        snapshot = queue.look(owner, submitted["time"] + clocks)
        if snapshot.error:
            return Observation(None, f"Slurm does not answer ({snapshot.error})")
        job = snapshot.jobs.get(run.run_id)
        if job is None and owner != os.getuid() and os.getuid() != 0:
            return Observation(None)  # Slurm may show each user their own jobs only
        number = _number(run)
        if job is None:
            try:
                job = queue.accounted(number, run.run_id, submitted["time"])
            except SlurmError as error:
                if _since_last_sign(run) < _ACCOUNTING_LATE:
                    return Observation(None, error.message)
        if job is None:
            message = "Slurm does not know the job any more, and its record has no end"
            end = _refusal(run, number) or {"cause": "supervisor_lost", "message": message}
            return Observation(False, "", end)
        state = STATES.get(job.state)
        if state is None:
            return Observation(None, f"Slurm calls its state {job.state}")
        if not state.alive:
            return Observation(False, "", _end(run, job))
        if job.state in ("PENDING", "REQUEUED", "EXPEDITING", "REQUEUE_HOLD", "SPECIAL_EXIT"):
            expected = f"{EXPECTED}{job.start}" if job.start else ""
            return Observation(True, f"job {job.id}: {in_words(job.reason)}{expected}")
        return Observation(True)

    def cancel(self, run: RunPaths) -> None:
        """Take a run out of the queue, and record its end, if it waits there."""
        try:
            call(
                ["scancel", "--quiet", "--state=PENDING", f"--name={run.run_id}",
                 f"--user={os.stat(run.job).st_uid}"]
            )  # fmt: skip
        except SlurmError:
            return  # the request in the run folder stands: its supervisor will see it
        until = time.monotonic() + _LEAVING
        while True:
            job = queue.look(os.stat(run.job).st_uid, time.time()).jobs.get(run.run_id)
            # It may have been about to start: then its node ends it first.
            if job is None or job.state != "COMPLETING" or time.monotonic() > until:
                break
            time.sleep(0.1)
        state = fold(run)
        if job is None or job.state != "CANCELLED" or state.end:
            return
        if state.last is None or (state.last.end or {}).get("requeue"):
            give_up(run, "canceled", "canceled while it waited in Slurm's queue", here=False)


def _exported(job: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, str]:
    """Return what the job inherits of the submitter's variables.

    Slurm keeps them with the job, so no secret may be among them; nor are the run's own variables,
    which its supervisor reads from the run folder.
    """
    own = {*job["variables"], *job["secrets"]}
    tools = {
        name: value for name, value in payload["prepare"].items() if name.startswith(TO_PREPARE)
    }
    return {
        name: value
        for name, value in {**tools, **payload["script"]}.items()
        if name not in own and not is_secret(name, value)
    }


def _submitting(submitted: Mapping[str, Any], here: Mapping[str, str]) -> bool:
    """Return whether a run's submitter may still be about to hand it over."""
    if host.elsewhere(submitted["host"], dict(here)):
        return bool(time.time() - submitted["time"] < _SUBMITTING)
    return host.is_alive(dict(submitted))


def _since_last_sign(run: RunPaths) -> float:
    """Return for how long nothing has been written of a run, in seconds."""
    attempt = run.last_attempt()
    paths = [run.job, run.submission, *([attempt.journal, attempt.root] if attempt else [])]
    return time.time() - max(os.stat(path).st_mtime for path in paths if os.path.exists(path))


def _number(run: RunPaths) -> str | None:
    try:
        number = jsonl.read(run.submission)["handle"]["job"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(number)


def _end(run: RunPaths, job: queue.Job) -> dict[str, Any]:
    """Return what is to be said of a job that has ended without a word of its supervisor."""
    end = STATES[job.state].end(job.nodes)
    if end["cause"] != "supervisor_lost":
        return end
    why = REASONS.get(job.reason)
    if why is not None and why.stuck and not run.numbers():
        return {"cause": "environment", "message": f"Slurm did not start it: {why.words}",
                "hint": why.advice[0].upper() + why.advice[1:] + "."}  # fmt: skip
    return _refusal(run, job.id) or end


def _refusal(run: RunPaths, number: str | None) -> dict[str, Any] | None:
    """Return what the batch script said when it could not start the supervisor."""
    if run.numbers() or number is None:
        return None
    try:
        with open(run.slurm_log(number), encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
    except OSError:
        return {
            "cause": "environment",
            "message": "the job ended before it could write anything",
            "hint": f"The nodes must see {run.root}: put the workspace on a file system that they "
            "share, and see `scontrol show job`.",
        }
    said = [line.removeprefix("rechain: ") for line in lines if line.startswith("rechain: ")]
    if not said:
        return None
    return {"cause": "environment", "message": said[-1], "tail": lines[-20:]}
