"""The batch script of a run: made from its job alone, to be read by whoever runs the cluster."""

from __future__ import annotations

import shlex
import sys

from rechain.supervisor.stage import PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.record.paths import RunPaths

__all__ = ["render"]

# Minutes that Slurm's limit leaves beside the script's own: Slurm looks at the clock about once a
# minute, and an environment may have to be built first. The supervisor's timer is the exact one.
_SPARE_MINUTES = 2
_TO_PREPARE_MINUTES = 30

_HEAD = """\
#!/bin/bash
{options}

# One run of Rechain. What it runs, and how it ended, stands in the run folder.
run={run}
python={python}
supervisor={supervisor}

refuse() {{ echo "rechain: $(uname -n): $1" >&2; exit 125; }}
[ -d "$run/attempts" ] || refuse "the run folder $run cannot be seen: the workspace must be on a \
file system that the nodes share"
[ -r "$supervisor" ] || refuse "Rechain is not at $supervisor: install it where the nodes see it"
[ -x "$python" ] || refuse "there is no Python at $python: name one that the nodes have \
(rechain target add --python)"
"$python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  refuse "$python cannot run Rechain, which needs a Python 3.10 or newer"
"""

_PROLOGUE = """
# What the site wants to be done first.
prologue={prologue}
[ -r "$prologue" ] || refuse "the prologue $prologue cannot be read"
type module >/dev/null 2>&1 || . /etc/profile  # `module` is a function of login shells
. "$prologue" || refuse "the prologue $prologue ended with $?"
"""

_LAST = """
# The supervisor: it writes the run folder, and ends with the script's exit code.
exec "$python" -I -S "$supervisor" --slurm "$run"
"""


def render(run: RunPaths, job: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Return the batch script of a run.

    Args:
        run: where the run folder is or will be.
        job: the job's document.
        request: what the job asks of the cluster; see `settings.request`.
    """
    words = {
        "options": "\n".join(f"#SBATCH {option}" for option in _options(run, job, request)),
        "run": shlex.quote(run.root),
        "python": shlex.quote(request["python"] or sys.executable),
        "supervisor": shlex.quote(PROGRAM),
    }
    parts = [_HEAD.format(**words)]
    if request["prologue"]:
        parts.append(_PROLOGUE.format(prologue=shlex.quote(request["prologue"])))
    parts.append(_LAST)
    return "".join(parts)


def _options(run: RunPaths, job: Mapping[str, Any], request: Mapping[str, Any]) -> list[str]:
    distribution = job["distribution"]
    each = distribution["processes_per_node"]
    cpus, memory = request["cpus"], request["memory_gib"]
    found = {
        "job-name": run.run_id,
        "output": run.slurm_log("%j").replace("%", "%%").replace("%%j.log", "%j.log"),
        "open-mode": "append",
        "chdir": run.root,
        "nodes": distribution["nodes"],
        "ntasks-per-node": each,
        "cpus-per-task": max(1, cpus // each) if cpus else None,
        "mem": f"{int(memory * 1024)}M" if memory else None,
        "gres": request["gres"],
        "constraint": request["constraint"],
        "partition": request["partition"],
        "qos": request["qos"],
        "account": request["account"],
        "time": _minutes(job, request),
    }
    options = [f"--{name}={_quoted(str(value))}" for name, value in found.items() if value]
    return [*options, "--requeue", *request["options"]]


def _minutes(job: Mapping[str, Any], request: Mapping[str, Any]) -> int | None:
    """Return Slurm's time limit; None for the partition's own."""
    limits = job["limits"]
    if limits["seconds"] is None:
        return None
    venv = job["environment"]["kind"] != "user-managed"
    builds = int(venv and request["prepare"] == "job")
    spare = _SPARE_MINUTES + _TO_PREPARE_MINUTES * builds
    seconds: float = limits["seconds"] + limits["grace_seconds"]
    return int(-(-seconds // 60)) + spare


def _quoted(value: str) -> str:
    """Return a value as sbatch reads it from its script: in quotes if need be."""
    if all(letter.isalnum() or letter in "-_./:,%&|()[]*+=@~^" for letter in value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
