"""What `rechain target check` runs on a node: `python -I -S probe.py FOLDER`.

It writes what it finds into the folder, which the submitting machine watches; so the way the files
take is the first thing that is tested.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

ROUNDS = 5
_PATIENCE = 60.0  # seconds for the other side to see a file

__all__ = ["ROUNDS"]


def _write(path: str, text: str) -> None:
    with open(f"{path}.tmp", "w") as file:
        file.write(text)
    os.rename(f"{path}.tmp", path)


def _facts() -> dict[str, object]:
    found = {name: shutil.which(name) for name in ("podman", "docker", "apptainer", "singularity")}
    mpi = {name: shutil.which(name) for name in ("mpiexec", "mpirun")}
    return {
        "host": os.uname().nodename,
        "python": sys.version.split()[0],
        "libc": os.confstr("CS_GNU_LIBC_VERSION"),
        "cpus": len(os.sched_getaffinity(0)),
        "engines": [name for name, path in found.items() if path],
        "mpiexec": next((path for path in mpi.values() if path), None),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "time": time.time(),
    }


def _round_trips(folder: str) -> list[float]:
    """Return how long a file took to be answered by a file of the other side, in seconds."""
    times: list[float] = []
    for number in range(ROUNDS):
        begun = time.monotonic()
        _write(f"{folder}/ping-{number}", "")
        while f"pong-{number}" not in os.listdir(folder):
            if time.monotonic() - begun > _PATIENCE:
                return times
            time.sleep(0.01)
        times.append(time.monotonic() - begun)
    return times


def _index() -> str:
    """Return why packages cannot be had on this node; nothing if they can."""
    command = [sys.executable, "-I", "-m", "uv", "pip", "compile", "--no-cache", "--quiet", "-"]
    try:
        done = subprocess.run(
            command, input="six\n", text=True, capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    lines = [line.strip(" ×├─▶╰│") for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else (lines[-1] if lines else "uv failed and said nothing")


def _main(folder: str) -> None:
    _write(f"{folder}/facts.json", json.dumps(_facts()))
    found = {"round_trips": _round_trips(folder), "index": _index(), "time": time.time()}
    _write(f"{folder}/found.json", json.dumps(found))


if __name__ == "__main__":
    _main(sys.argv[1])
