"""The GPUs of this machine, as `nvidia-smi` reports them, and the environment that they make.

The supervisor asks before it looks for an environment, so this module imports next to nothing.
Which CuPy drives a GPU is in `cupy`.
"""

from __future__ import annotations

import os
import time

from rechain.record import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["VARIABLE", "look", "settled", "visible"]

VARIABLE = "CUDA_VISIBLE_DEVICES"

_PATIENCE = 60.0  # seconds; the first call after a boot may take several
_DYING = 10.0  # seconds
_SIGKILL = 9  # `signal` takes as long to import as all of this

# What is asked, the newest at the end: `compute_cap` came with the drivers of 2021, and who asks
# an older nvidia-smi for what it does not know gets no answer at all.
_FIELDS = {
    "index": "index",
    "uuid": "uuid",
    "name": "name",
    "driver_version": "driver",
    "compute_cap": "capability",
}


def look(environment: Mapping[str, str]) -> tuple[list[dict[str, str]], str]:
    """Return the GPUs that a script may use, and why there are none.

    Args:
        environment: the script's variables: it may have been told to use some of them only.

    Returns:
        For each GPU its `index`, `uuid`, `name`, `driver` and `capability`, the latter two as
        NVIDIA writes them (`535.104.05`, `8.6`), and empty where nvidia-smi does not say; and one
        line for people if there is no GPU, else "".
    """
    there, why = _ask()
    found = _visible(there, environment)
    if there and not found:
        count = "the GPU" if len(there) == 1 else f"all {len(there)} GPUs"
        why = f"{VARIABLE}={environment[VARIABLE]} hides {count} of this machine"
    return found, why


def visible(environment: Mapping[str, str]) -> list[str]:
    """Return the ids of this machine's GPUs that a script may use.

    Args:
        environment: see `look`.
    """
    return [gpu["uuid"] for gpu in _visible(_ask()[0], environment)]


def settled(spec: dict[str, Any], found: list[dict[str, str]] | None) -> dict[str, Any]:
    """Return the spec of the environment for the GPUs that were found.

    Args:
        spec: the `environment` of a job.json, of kind `venv`.
        found: what `look` returned, if the spec asks for a GPU.

    Returns:
        The spec with `gpus`, and with the `digest` that the environment is kept under. Without a
        GPU it is that of the same spec without `gpu`: the environment is the same.
    """
    if not found:
        return {**spec, "gpus": []}
    kinds = sorted({f"{gpu['driver']}-{gpu['capability']}" for gpu in found})
    return {**spec, "gpus": found, "digest": f"{spec['gpu']['digest']}-{'-'.join(kinds)}"}


def _visible(there: list[dict[str, str]], environment: Mapping[str, str]) -> list[dict[str, str]]:
    wanted = environment.get(VARIABLE)
    if wanted is None:
        return there
    found: list[dict[str, str]] = []
    for name in map(str.strip, wanted.split(",")):
        match = [
            gpu for gpu in there if name and (name == gpu["index"] or gpu["uuid"].startswith(name))
        ]
        if len(match) != 1 or match[0] in found:
            break  # CUDA, too, reads the list up to the first name that is none
        found += match
    return found


def _ask() -> tuple[list[dict[str, str]], str]:
    """Return what nvidia-smi says of each GPU, and why there are none."""
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        program = f"{folder}/nvidia-smi"
        if os.access(program, os.X_OK) and not os.path.isdir(program):
            break
    else:
        return [], "there is no nvidia-smi on PATH, which comes with NVIDIA's driver"
    for fields in (list(_FIELDS), list(_FIELDS)[:-1]):
        status, said = _run(program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
        if not status or status == _SIGKILL:
            break
    if status:
        last = said.strip().splitlines()[-1:] or [f"it ended with wait status {status}"]
        return [], f"nvidia-smi finds none: {last[0].strip()}"
    found = []
    for line in said.splitlines():
        values = [value.strip() for value in line.split(",")]
        values = ["" if value.startswith("[") else value for value in values]  # [N/A]
        if len(values) > 1:
            values += [""] * (len(_FIELDS) - len(values))
            found.append(dict(zip(_FIELDS.values(), values, strict=False)))
    return found, "" if found else "nvidia-smi lists none"


def _run(program: str, *arguments: str) -> tuple[int, str]:
    """Return the wait status of a program, and what it says."""
    reader, writer = os.pipe()
    try:
        actions = [
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_DUP2, writer, 2),
            (os.POSIX_SPAWN_CLOSE, reader),
        ]
        argv = [program, *arguments]
        child = os.posix_spawn(program, argv, os.environ, file_actions=actions)
    except OSError as error:
        os.close(reader)
        return error.errno or 1, f"{program}: {error.strerror}"
    finally:
        os.close(writer)
    said, until = b"", time.monotonic() + _PATIENCE
    while events.wait([reader], max(0.0, until - time.monotonic())):
        if chunk := os.read(reader, 65536):
            said += chunk
            continue
        os.close(reader)
        return os.waitpid(child, 0)[1], said.decode(errors="replace")
    os.kill(child, _SIGKILL)
    if events.wait([reader], _DYING):  # else it hangs in the driver, where no signal reaches it
        os.waitpid(child, 0)
    os.close(reader)
    return _SIGKILL, f"no answer within {_PATIENCE:g} s"
