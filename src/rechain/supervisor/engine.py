"""What an engine's client is told: to start a container, and to end it."""

from __future__ import annotations

import os
import time

from rechain.record import events
from rechain.supervisor.linux import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["GUEST", "INIT", "PATIENCE", "command", "remove"]

GUEST = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest")
"""What travels into a container."""

INIT = f"{GUEST}/rechain_guest/init.py"
"""The program of a container's first process."""

PATIENCE = 60.0
"""How long an engine may take to end a container, to see that it has ended, and to remove it."""


def command(
    engine: dict[str, Any],
    image: str,
    name: str,
    *,
    python: str,
    line: Iterable[str],
    mounts: Iterable[tuple[str, bool]],
    options: dict[str, Any],
    cores: Iterable[int] = (),
    memory: int | None = None,
    gpus: bool = False,
    ranks: bool = False,
    user: tuple[int, int] | None = None,
    groups: Iterable[int] = (),
    hostname: str = "",
) -> list[str]:
    """Return the command line that starts a container. Pure; nothing in it is a secret.

    Args:
        engine: the engine, as `Engine.to_json` describes it.
        image: the image's id.
        name: the container's name.
        python: the interpreter's path in it.
        line: the two FIFOs.
        mounts: folders of this machine, each with whether it can be written.
        options: the `container` of the job.
        cores: the cores that it may use; none for all.
        memory: how many bytes it may have; None for all.
        gpus: whether it gets this machine's GPUs.
        ranks: whether processes in it speak MPI.
        user: the user's and the group's number.
        groups: the numbers of the user's other groups.
        hostname: by which MPI is to find that it is on this node; else the machine's.
    """
    uid, gid = user or (os.getuid(), os.getgid())
    found = [engine["program"], "run", "--rm", "--pull=never", f"--name={name}"]
    # As without a container: other services of this machine are where they are for the user.
    found += ["--network=host", "--workdir=/", "--security-opt=label=disable", "--log-driver=none"]
    if engine["name"] == "docker" and engine["rootless"]:
        uid = gid = 0  # which is the user
    elif engine["rootless"]:
        found.append("--userns=keep-id")
    else:
        found += [f"--group-add={group}" for group in groups if group != gid]
    found.append(f"--user={uid}:{gid}")
    found += [_mount(path, writable) for path, writable in mounts]
    found.append(f"--shm-size={options['shm_size']}")
    if cores:
        found.append(f"--cpuset-cpus={','.join(map(str, cores))}")
    if memory is not None:
        found += [f"--memory={memory}", f"--memory-swap={memory}"]
    if gpus:
        # https://github.com/cncf-tags/container-device-interface; docker has its own word for it.
        docker = engine["name"] == "docker"
        found.append("--gpus=all" if docker else "--device=nvidia.com/gpu=all")
    if ranks and engine["name"] == "docker":
        # Ranks read each other's memory (process_vm_readv), which docker forbids without it.
        found.append("--cap-add=SYS_PTRACE")
    if hostname:
        found.append(f"--hostname={hostname}")
    found += options["arguments"]
    return [*found, f"--entrypoint={python}", image, "-I", "-S", INIT, *line]


def _mount(path: str, writable: bool) -> str:
    # The value is a line of CSV: so both engines read it.
    fields = ["type=bind", f"src={path}", f"dst={path}", *([] if writable else ["readonly"])]
    quoted = ['"' + field.replace('"', '""') + '"' for field in fields]
    return f"--mount={','.join(quoted)}"


def remove(record: dict[str, Any]) -> None:
    """Have the engine end and forget a container; it is no error if it has none."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if _call(record["engine"], "rm", "--force", record["name"]) is None:
            return
        # It may have been busy with the container: as podman is when that has just ended.
        if _call(record["engine"], "container", "inspect", record["name"]) != 0:
            return
        time.sleep(0.1)


def _call(engine: dict[str, Any], *arguments: str) -> int | None:
    """Run an engine's client; return its wait status, None if it cannot be run or is stuck."""
    null = "/dev/null", os.O_RDWR, 0
    try:
        pid = os.posix_spawn(
            engine["program"],
            [engine["program"], *arguments],
            engine["variables"],
            file_actions=[(os.POSIX_SPAWN_OPEN, n, *null) for n in (0, 1, 2)],
            setsigmask=[],
        )
    except OSError:
        return None  # it was removed: its container has ended with the supervisor all the same
    try:
        pidfd = os.pidfd_open(pid)
        stuck = not events.wait([pidfd], PATIENCE)
        if stuck:
            os.kill(pid, signal.SIGKILL)
        os.close(pidfd)
        status = os.waitpid(pid, 0)[1]
    except OSError:
        return None  # reaped already
    return None if stuck else status
