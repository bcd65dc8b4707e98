"""Build a run's environment on the submitting host, into a store that the nodes see."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile

from rechain.compute.target import StartError
from rechain.environment import store
from rechain.record import jsonl
from rechain.supervisor.variables import SOURCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.record.paths import RunPaths

__all__ = ["prepare_here"]

_CODE = "import sys; sys.path.insert(0, {!r}); import rechain.{}.__main__"


def prepare_here(run: RunPaths, request: Mapping[str, Any], payload: Mapping[str, Any]) -> None:
    """Build the environment of a run, or find it built, and bring its inputs.

    Args:
        run: the run.
        request: what the job asks of the cluster.
        payload: what the submitter gives: `prepare`, the variables for building, and `cache`.

    Raises:
        StartError: it cannot be done; the message says why.
    """
    job = jsonl.read(run.job)
    wanted = job["environment"]
    store.want(request["store"] or payload["cache"], wanted, run.root)
    # A user's own interpreter is looked for on the node, and its GPU decides what to build; its
    # engine has the image.
    if wanted["kind"] != "user-managed" and "gpu" not in wanted:
        bare = {key: value for key, value in wanted.items() if key != "image"}
        with tempfile.TemporaryDirectory(prefix="rechain-") as folder:
            jsonl.write_new(f"{folder}/job.json", {**job, "environment": bare})
            found = _child("environment", [f"{folder}/job.json"], request, payload)
        if not found["ok"]:
            raise StartError(f"the environment cannot be built here: {found['message']}")
    if job["inputs"] or job["outputs"] or "copy" in job["source"]:
        found = _child("data", ["bring", run.root], request, payload)
        if not found["ok"]:
            raise StartError(f"the data cannot be had: {found['message']}")


def _child(
    what: str, arguments: list[str], request: Mapping[str, Any], payload: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the outcome of one of the programs that prepare."""
    import subprocess

    cache = request["store"] or payload["cache"]
    with tempfile.TemporaryDirectory(prefix="rechain-") as folder:
        result = f"{folder}/result.json"
        code = _CODE.format(SOURCE, what)
        line = f"exec {shlex.join([sys.executable, '-I', '-c', code, *arguments, result])}"
        if request["prologue"]:
            line = f". {shlex.quote(request['prologue'])} && {line}"
        environment = {**payload["prepare"], "RECHAIN_CACHE": cache}
        with open(f"{folder}/log", "w+", errors="replace") as log:
            subprocess.run(
                ["bash", "-c", line], env=environment, cwd="/", stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, check=False,
            )  # fmt: skip
            log.seek(0)
            said = log.read().strip()
        if not os.path.exists(result):
            raise StartError(f"the {what} cannot be prepared here: {said[-500:]}")
        found: dict[str, Any] = jsonl.read(result)
    return found
