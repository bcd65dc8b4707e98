"""What there is to tell of a run: its end in words, and v1's `get_details`."""

from __future__ import annotations

from rechain.compute.target import EXPECTED
from rechain.record.causes import CAUSES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.record.journal import RunState
    from rechain.workspace.run import Run

__all__ = [
    "EXPECTED",
    "describe",
    "details",
    "hint",
    "installed",
    "nodes_in_words",
    "queued_seconds",
    "ranks_in_words",
]


def details(run: Run) -> dict[str, Any]:
    """Return what there is to know about a run, under v1's names."""
    from rechain.workspace import files

    state = run._state()
    job = run._job
    logs = files.logs(run._paths).items()
    found: dict[str, Any] = {
        "runId": run.id,
        "target": job["target"],
        "status": state.status,
        "properties": run.properties,
        "tags": run.tags,
        "inputDatasets": [],
        "outputDatasets": [],
        "runDefinition": {
            "script": job["command"][0] if job["command"] else None,
            "arguments": job["command"][1:],
            "target": job["target"],
            "environment": job["environment"],
            "environmentVariables": job["variables"],
            "maxRunDurationSeconds": job["limits"]["seconds"],
            "nodeCount": job["distribution"]["nodes"],
            "communicator": job["distribution"]["communicator"],
            "mpi": {"processCountPerNode": job["distribution"]["processes_per_node"]},
        },
        "logFiles": {name: paths[0] for name, paths in logs},
        "submittedBy": job["submitted"]["user"],
        "warnings": [
            {"source": "Rechain", "message": note}
            for attempt in state.attempts
            for note in attempt.notes
        ],
    }
    if added := installed(run):
        found["installedByScript"] = added
    last = state.last
    if last and last.started:
        found["startTimeUtc"] = _utc(last.started)
    queued = queued_seconds(run, state)
    if queued is not None:
        found["queuedSeconds"] = round(queued, 3)
    if state.end:
        found["endTimeUtc"] = _utc(state.end["t"])
        if state.status == "Failed":
            found["error"] = _error(state.end)
    return found


def describe(end: dict[str, Any]) -> str:
    """Return an end in one line: `user error (exit 3, ValueError at train.py:41)`."""
    cause = CAUSES[end["cause"]]
    if cause.code == "completed" or not end.get("message"):
        return cause.words
    if end["message"].startswith(cause.words):
        return str(end["message"])
    return f"{cause.words} ({end['message']})"


def hint(end: dict[str, Any]) -> str:
    """Return what to do about an end; empty if there is nothing to say."""
    return end.get("hint") or CAUSES[end["cause"]].hint


def installed(run: Run) -> list[str]:
    """Return what the script has installed beside its environment, such as `tqdm 4.64.1`."""
    import glob
    import os

    found = []
    folders = f"{glob.escape(run._paths.work)}/.packages/lib/python*/site-packages"
    for path in glob.glob(f"{folders}/*.*-info") + glob.glob(f"{folders}/*.egg-link"):
        name, _, kind = os.path.basename(path).rpartition(".")
        words = name.split("-")[:2]
        found.append(f"{name}, editable" if kind == "egg-link" else " ".join(words))
    return sorted(found, key=str.lower)


def ranks_in_words(distribution: dict[str, Any], contained: bool = False) -> list[str]:
    """Return how a script is spread, such as `4 ranks on 2 nodes`; nothing for one process.

    Args:
        distribution: the job's.
        contained: whether there is a container on each node.
    """
    if distribution["communicator"] == "None":
        return []
    nodes = distribution["nodes"]
    ranks = nodes * distribution["processes_per_node"]
    text = f"{ranks} rank{'s' if ranks > 1 else ''}"
    each = ", in a container on each" * contained
    return [text if nodes == 1 else f"{text} on {nodes} nodes{each}"]


def nodes_in_words(run: Run) -> list[str]:
    """Return what a run waits for or what it has got, on a pool or a cluster; else nothing."""
    asked = run._job.get("pool")
    state = run._state()
    if run._job.get("slurm"):
        return [_job_in_words(run, state)]
    if not asked or state.last is None:
        return []
    where = run._job["target"] + (f", {asked['vm_size']}" if asked["vm_size"] else "")
    if state.status == "Queued":
        from rechain.supervisor import pool

        waits = pool.why(asked["name"] or run.id, run.id)
        return [f"{where}: {waits}" if waits else where]
    got = state.last.nodes
    if got is None:
        return [where]
    words = [where, f"{got['nodes']} node{'s' if got['nodes'] > 1 else ''}"]
    if got["cores"]:
        words.append(f"cores {', '.join(map(str, got['cores']))}")
    if got["gpus"]:
        words.append(f"GPUs {', '.join(got['gpus'])}")
    if got["memory_by"] == "cgroup":
        words.append(f"{got['memory_bytes'] / 2**30:.3g} GiB of memory in all")
    elif got["memory_by"]:
        words.append(f"{got['memory_bytes'] / 2**30:.3g} GiB of memory for each process")
    return [" · ".join(words)]


def _job_in_words(run: Run, state: RunState) -> str:
    """Return where the Slurm job of a run stands."""
    started = state.last.attempt if state.last else None
    if state.waiting or started is None:
        handle = run.submission().get("handle", {})
        job = f"job {handle['job']}" if handle.get("job") else ""
        if state.waiting.startswith(job):
            job = ""
        words = (run._job["target"], job, state.waiting)
    else:
        facts = started["slurm"]
        on = f"on {facts['nodes']}, partition {facts['partition']}"
        words = (run._job["target"], f"job {facts['job']}", on)
    return " · ".join(word for word in words if word)


def queued_seconds(run: Run, state: RunState) -> float | None:
    """Return how long a run has waited in a cluster's queue, all its attempts together.

    None for a run on this machine.
    """
    if not run._job.get("slurm"):
        return None
    since: float | None = run._job["submitted"]["time"]
    total = 0.0
    for attempt in state.attempts:
        left = attempt.attempt or attempt.end  # one that ended in the queue has only its end
        if left is not None and since is not None:
            total += max(0.0, left["t"] - since)
        since = attempt.end["t"] if attempt.end else None
    if state.waiting and since is not None:
        import time

        total += time.time() - since
    return total


def _error(end: dict[str, Any]) -> dict[str, Any]:
    code = "UserError" if end["cause"] == "user_error" else "ServiceError"
    return {
        "error": {
            "code": code,
            "cause": end["cause"],
            "message": describe(end),
            "detail": end.get("detail", ""),
            "hint": hint(end),
            "tail": end.get("tail", []),
        }
    }


def _utc(seconds: float) -> str:
    import time

    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{seconds % 1 * 1e6:06.0f}Z"
    )
