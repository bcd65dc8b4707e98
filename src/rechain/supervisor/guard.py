"""The launcher and the guard: the two processes above the supervisor.

The launcher claims the attempt and forks the guard; the guard forks the supervisor and waits for
it. Whichever of guard and supervisor dies, the other ends the whole tree and writes why.

The launcher speaks to its caller on stdout: `ok` once the supervisor is up, anything else is an
error message, and silence until the end of file means that it was killed.
"""

from __future__ import annotations

import os
import sys

from rechain.record import host, jsonl
from rechain.record.journal import end_event, fold_attempt
from rechain.record.paths import AttemptPaths, RunPaths
from rechain.supervisor import linux, tree
from rechain.supervisor.linux import signal
from rechain.supervisor.supervise import Supervisor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from rechain.supervisor.slurm import Slurm

__all__ = ["begin", "guard", "launch"]


def launch(run_folder: str) -> NoReturn:
    """Start an attempt of a run, detached; never returns.

    Args:
        run_folder: the run.
    """
    run = RunPaths(run_folder)
    payload = _read_payload()
    if payload is None:
        os._exit(0)  # the submitter gave it up, or died
    try:
        attempt = begin(run)
    except OSError as error:
        _say(f"the attempt cannot be started: {error}")
        os._exit(1)
    os.closerange(3, 1 << 16)  # whatever the submitter had open is not ours to hold
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    code = 1
    try:
        code = guard(run, attempt, payload)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    os._exit(code)


def _say(text: str) -> None:
    os.write(1, text.encode())


def _read_payload() -> dict[str, Any] | None:
    chunks = []
    while chunk := os.read(0, 1 << 20):
        chunks.append(chunk)
    try:
        payload: dict[str, Any] = jsonl.loads(b"".join(chunks).decode())
    except ValueError:
        return None
    return payload


def begin(run: RunPaths) -> AttemptPaths:
    """Claim the next attempt, for this process or one that it forks.

    Raises:
        OSError: there is no room, say.
    """
    attempt = _claim(run)
    jsonl.write_new(attempt.launcher, host.process(os.getpid()) | {"host": host.identity()})
    log = os.open(attempt.supervisor_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 2)
    os.close(log)
    return attempt


def _claim(run: RunPaths) -> AttemptPaths:
    number = (run.numbers() or [0])[-1]
    while True:
        number += 1
        attempt = run.attempt(number)
        try:
            os.mkdir(attempt.root)
        except FileExistsError:
            continue
        return attempt


def guard(
    run: RunPaths, attempt: AttemptPaths, payload: dict[str, Any], slurm: Slurm | None = None
) -> int:
    """Be the guard of an attempt, and of those that follow on it, until the last has ended.

    Args:
        run: the run.
        attempt: the attempt, claimed.
        payload: what travelled by pipe.
        slurm: the Slurm job that this is; it starts further attempts itself.

    Returns:
        The exit code of this process.
    """
    linux.become_subreaper()
    me = os.getpid()
    told_to_stop = False
    supervisor = 0

    def pass_on(*_: object) -> None:
        nonlocal told_to_stop
        told_to_stop = True
        try:
            if supervisor:
                os.kill(supervisor, signal.SIGTERM)
        except ProcessLookupError:
            pass  # it has just ended

    signal.signal(signal.SIGTERM, pass_on)
    while True:
        # Held back until the supervisor listens: it must not be lost in between.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        supervisor = os.fork()
        if not supervisor:
            code = 1
            try:
                os.setsid()
                code = Supervisor(run, attempt, payload, slurm).run(me)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        if told_to_stop:
            os.kill(supervisor, signal.SIGTERM)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)
        os.waitpid(supervisor, 0)
        supervisor = 0
        tree.end_descendants()
        state = fold_attempt(attempt)
        if state.end is None:
            if os.path.exists(attempt.container):
                from rechain.supervisor import container

                container.end(attempt)  # those of several nodes are held by their guards
            if state.attempt and state.attempt["cgroup"]:
                tree.end_cgroup(state.attempt["cgroup"])
            _write_end(attempt)
            from rechain.supervisor.rest import send_rest

            send_rest(run, attempt, payload)
            return 0
        if slurm is not None or not state.end.get("requeue"):
            return 0
        try:
            attempt = begin(run)
        except OSError as error:
            end = end_event("record", f"the next attempt cannot be started: {error}")
            jsonl.write_new(attempt.guard_end, end)
            return 0


def _write_end(attempt: AttemptPaths) -> None:
    """Say why the supervisor is gone, since it could not."""
    with open(attempt.supervisor_log, errors="replace") as file:
        said = [line for line in file.read().split("\n") if line.strip()]
    if said:
        end = end_event("internal", said[-1], tail=said[-20:])
    else:
        end = end_event("supervisor_lost", "the supervisor was killed; the guard ended its tree")
    jsonl.write_new(attempt.guard_end, end)
