"""A run once more: its snapshot, its lock, its arguments and variables, as a new run."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException
from rechain.job.job import Job
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.workspace.run import Run
    from rechain.workspace.submit import Prepared

__all__ = ["prepare_replay"]


def prepare_replay(
    run: Run, variables: Mapping[str, object] | None = None, target: str | None = None
) -> Prepared:
    """Return the run that would repeat another; nothing is started or written.

    Args:
        run: the run to repeat.
        variables: environment variables with other values than they had.
        target: the compute target; the run's own if left out.

    Raises:
        ComputeTargetException: there is no such target.
        UserErrorException: it cannot be repeated: it was no script that Rechain started, its
            secrets are not in the environment, or what it read is not there any more.
    """
    from rechain.job import variables as job_variables
    from rechain.workspace.submit import Prepared

    fields = Job.from_json(run._job).to_json()
    del fields["schema"]
    if fields["kind"] != "script" or not (fields["source"] or {}).get("snapshot"):
        raise UserErrorException(
            f"the run {run.id} was led by a process that Rechain did not start: only what "
            "`rechain run` or submit() started can be replayed"
        )
    changed, secret = job_variables.split(variables or {})
    missing = [name for name in fields["secrets"] if name not in os.environ | secret]
    if missing:
        raise UserErrorException(
            f"the run {run.id} had the secret variables {', '.join(missing)}, which are nowhere "
            "recorded; set them and replay again"
        )
    gone = [path for path in fields["seen"] if not os.path.exists(path)]
    if gone:
        raise UserErrorException(
            f"the run {run.id} was given {', '.join(gone)}, and that path is not there any "
            "more; put it back to replay the run"
        )
    secrets = {name: os.environ[name] for name in fields["secrets"] if name not in secret}
    notes = [f"replay of {run.id}"]
    notes += [f"{name} has another value than in {run.id}" for name in {**changed, **secret}]
    placed: dict[str, Any] = {}
    if target is not None and target != fields["target"]:
        placed = _placed(run, target, fields["distribution"]["nodes"])
        notes.append(f"on {target}, and not on {fields['target']}")
    replaces = {
        "run_id": None, "workspace": None, "submitted": None, "parent": None,
        "replayed": run.id, "notes": notes, "tags": run.tags,
        "variables": {**fields["variables"], **changed},
        "environment": _environment(run, fields), **placed,
    }  # fmt: skip
    job = Job(secret_values={**secrets, **secret}, **{**fields, **replaces})
    return Prepared(run.experiment, job)


def _placed(run: Run, target: str, nodes: int) -> dict[str, Any]:
    """Return the fields of a job that say where it runs."""
    from rechain.workspace.place import place_of

    place: dict[str, Any] = {"target": target, "pool": None, "slurm": None}
    if target != "local":
        place |= place_of(
            run.experiment.workspace, target, vm_size=None, vm_priority=None, node_count=nodes
        )
    elif nodes > 1:
        raise UserErrorException(
            f"the run {run.id} takes {nodes} nodes, and this machine as it is (local) is one"
        )
    return place


def _environment(run: Run, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the environment that the run had: of its lock, or the interpreter that it found."""
    wanted: dict[str, Any] = fields["environment"]
    try:
        lock = jsonl.read(run._paths.lock)
    except FileNotFoundError:
        return wanted  # it never came so far
    except (OSError, ValueError) as error:
        raise UserErrorException(
            f"the lock of the run {run.id} cannot be read: {error}"
        ) from error
    image = {}  # it ran without a container, perhaps since there was no engine
    if "image" in lock:
        from rechain.environment.image.names import pinned_spec

        image = {"image": pinned_spec(wanted["image"], lock["image"])}
    if lock["kind"] == "user-managed":
        path = lock["interpreter"]["path"]
        if not image and not os.access(path, os.X_OK):
            path = wanted["python"]
        return {**wanted, "python": path, **image}
    from rechain.environment import locks

    spec = locks.lock_spec(
        locks.read(run._paths.lock),
        os.environ,
        ranks=fields["distribution"]["communicator"] != "None",
        mpi=wanted.get("mpi"),
        gpu=wanted.get("gpu"),
    )
    del spec["notes"]
    return {**spec, **image}
