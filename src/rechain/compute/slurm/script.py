"""The batch script of a run: made from its job alone, to be read by whoever runs the cluster."""

from __future__ import annotations

import shlex
import sys

from rechain.supervisor.variables import PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.record.paths import RunPaths

__all__ = ["batch", "place_options", "render"]

# Minutes that Slurm's limit leaves beside the script's own: Slurm looks at the clock about once a
# minute, and an environment may have to be built first. The supervisor's timer is the exact one.
_SPARE_MINUTES = 2
_TO_PREPARE_MINUTES = 30

_HEAD = """\
#!/bin/bash
{options}

# A job of Rechain. What it runs, and how it ended, stands in this folder.
run={run}
python={python}
program={program}

refuse() {{ echo "rechain: $(uname -n): $1" >&2; exit 125; }}
[ -d "$run" ] || refuse "the folder $run cannot be seen: the workspace must be on a \
file system that the nodes share"
[ -r "$program" ] || refuse "Rechain is not at $program: install it where the nodes see it"
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

_NODE_STORE = """
# The job's packages: packed to one file in the store, and unpacked from there to each node's own
# disk, once, where later jobs find them. The folder there is rechain-<uid>/ in {node_store}
"""

_LAST = """
# The supervisor: it writes the run folder, and ends with the script's exit code.
exec "$python" -I -S "$program" --slurm "$run"
"""


def render(run: RunPaths, job: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Return the batch script of a run.

    Args:
        run: where the run folder is or will be.
        job: the job's document.
        request: what the job asks of the cluster; see `settings.request`.
    """
    distribution = job["distribution"]
    options = {
        "job-name": run.run_id,
        "output": run.slurm_log("%j"),
        "open-mode": "append",
        "chdir": run.root,
        "nodes": distribution["nodes"],
        "ntasks-per-node": distribution["processes_per_node"],
        **place_options(request, distribution["processes_per_node"]),
        "time": _minutes(job, request),
        "requeue": True,
    }
    folder = request.get("node_store") if job["environment"]["kind"] != "user-managed" else None
    note = _NODE_STORE.format(node_store=folder) if folder else ""
    return batch(options, run.root, request, PROGRAM, note + _LAST)


def batch(
    options: Mapping[str, Any], folder: str, request: Mapping[str, Any], program: str, last: str
) -> str:
    """Return a batch script: options, what must be there, the site's prologue, and one program.

    Args:
        options: sbatch's, by name; those without a value are left out.
        folder: the folder that the job works on, which `%j` at the end of a name is not.
        request: what the job asks of the cluster.
        program: the Python program that is started in the end.
        last: the lines that start it.
    """
    lines = [f"--{name}" if value is True else f"--{name}={_value(value, folder)}"
             for name, value in options.items() if value]  # fmt: skip
    words = {
        "options": "\n".join(f"#SBATCH {line}" for line in [*lines, *request["options"]]),
        "run": shlex.quote(folder),
        "python": shlex.quote(request["python"] or sys.executable),
        "program": shlex.quote(program),
    }
    parts = [_HEAD.format(**words)]
    if request["prologue"]:
        parts.append(_PROLOGUE.format(prologue=shlex.quote(request["prologue"])))
    return "".join([*parts, last])


def place_options(request: Mapping[str, Any], each: int) -> dict[str, Any]:
    """Return the options that say where a job runs, and with how much of each node.

    Args:
        request: what the job asks of the cluster.
        each: how many processes a node has.
    """
    cpus, memory = request["cpus"], request["memory_gib"]
    return {
        "cpus-per-task": max(1, cpus // each) if cpus else None,
        "mem": f"{int(memory * 1024)}M" if memory else None,
        **{name: request[name] for name in ("gres", "constraint", "partition", "qos", "account")},
    }


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


def _value(value: object, folder: str) -> str:
    """Return a value as sbatch reads it from its script: in quotes if need be."""
    text = str(value)
    if text.startswith(folder) and "%" in folder and text != folder:
        text = folder.replace("%", "%%") + text[len(folder) :]  # a pattern, but not in there
    if all(letter.isalnum() or letter in "-_./:,%&|()[]*+=@~^" for letter in text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
