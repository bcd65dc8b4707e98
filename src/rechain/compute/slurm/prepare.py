"""Build a run's environment on the submitting host, into a store that the nodes see."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile

from rechain.compute.target import StartError
from rechain.record import jsonl
from rechain.supervisor.stage import SOURCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.record.paths import RunPaths

__all__ = ["prepare_here"]

_CODE = f"import sys; sys.path.insert(0, {SOURCE!r}); import rechain.environment.__main__"


def prepare_here(run: RunPaths, request: Mapping[str, Any], payload: Mapping[str, Any]) -> None:
    """Build the environment of a run, or find it built.

    Args:
        run: the run.
        request: what the job asks of the cluster.
        payload: what the submitter gives: `prepare`, the variables for building, and `cache`.

    Raises:
        StartError: it cannot be built; the message says why.
    """
    import subprocess

    wanted = jsonl.read(run.job)["environment"]
    if wanted["kind"] == "user-managed":
        return  # there is nothing to build, and its interpreter is looked for on the node
    if "gpu" in wanted:
        return  # the GPU of the node decides what to build
    with tempfile.TemporaryDirectory(prefix="rechain-") as folder:
        result = f"{folder}/result.json"
        command = [sys.executable, "-I", "-c", _CODE, run.job, result]
        line = f"exec {shlex.join(command)}"
        if request["prologue"]:
            line = f". {shlex.quote(request['prologue'])} && {line}"
        cache = request["store"] or payload["cache"]
        environment = {**payload["prepare"], "RECHAIN_CACHE": cache}
        with open(f"{folder}/log", "w+", errors="replace") as log:
            subprocess.run(
                ["bash", "-c", line], env=environment, cwd="/", stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, check=False,
            )  # fmt: skip
            log.seek(0)
            said = log.read().strip()
        if not os.path.exists(result):
            raise StartError(f"the environment cannot be built here: {said[-500:]}")
        found = jsonl.read(result)
    if not found["ok"]:
        raise StartError(f"the environment cannot be built here: {found['message']}")
