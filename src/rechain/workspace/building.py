"""v1's `Environment.build_local`: what the first run would build, ahead of it."""

from __future__ import annotations

import contextlib
import copy
import os
import signal
import subprocess
import sys
import tempfile

from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.paths import RunPaths, WorkspacePaths
from rechain.supervisor.preparing import CODE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.job.job import Job
    from rechain.runconfig.environment import Environment
    from rechain.workspace.workspace import Workspace

__all__ = ["build_local"]


def build_local(workspace: Workspace, environment: Environment, docker: bool) -> None:
    """Build an environment as a run on this machine would, and print what is said meanwhile.

    Args:
        workspace: what keeps the folders that images are built from.
        environment: the environment; it is not changed.
        docker: whether an image is built.

    Raises:
        UserErrorException: it cannot be described, or not be built.
    """
    from rechain.estimator import ScriptRunConfig, compile

    environment = copy.deepcopy(environment)
    environment.docker.__dict__["enabled"] = docker
    with tempfile.TemporaryDirectory(prefix="rechain-") as folder:
        # Laid out as a workspace with a run: who builds finds the store from there.
        run = RunPaths(f"{WorkspacePaths(folder).experiments}/build/run")
        attempt = run.attempt(1)
        os.makedirs(attempt.root)
        os.makedirs(run.work)
        os.symlink(workspace._paths.store, WorkspacePaths(folder).store)
        os.symlink("/dev/stdout", attempt.image_log)  # what the engine says comes here as well
        with open(f"{run.work}/script.py", "w", encoding="utf-8"):
            pass
        job = compile(
            ScriptRunConfig(run.work, "script.py", environment=environment), experiment="x"
        )
        for note in job.notes:
            print(f"note: {note}", flush=True)
        jsonl.write_new(run.job, job.to_json())
        command = [sys.executable, "-I", "-c", CODE, run.job, attempt.prepare_result]
        _follow([*command, "", _gpus(job)], job.registry_password)
        try:
            said = jsonl.read(attempt.prepare_result)
        except OSError:
            raise UserErrorException("what builds the environment was killed") from None
    if not said["ok"]:
        hint = f"\n  {said['hint']}" if said["hint"] else ""
        raise UserErrorException(f"{said['message']}{hint}")
    for note in said["notes"]:
        print(f"note: {note}")
    made = said["container"]
    if made is not None:
        print(f"{made['engine']['name']} has the image {made['image']['reference']}")
    elif job.environment["kind"] == "user-managed":
        print("nothing is installed: it is what the user manages")


def _gpus(job: Job) -> str:
    """Return this machine's GPUs, for an environment that depends on them."""
    if "gpu" not in job.environment:
        return ""
    from rechain.environment import gpu

    found, why = gpu.look(dict(os.environ))
    if not found and job.environment["gpu"]["wanted"] == "required":
        raise UserErrorException(f"{why}; which CuPy is installed depends on the GPU")
    return jsonl.dumps(found)


def _follow(command: list[str], stdin: str | None) -> None:
    """Run a command, and print its lines as they come; it ends with this."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(stdin or "")
            for line in process.stdout:
                print(line, end="", flush=True)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
