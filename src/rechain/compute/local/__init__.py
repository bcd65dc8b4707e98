"""This machine as a compute target: a run is a pair of detached processes, nothing else."""

from __future__ import annotations

import os
import signal
import sys

from rechain.compute.target import Observation, StartError, Submission, command_of
from rechain.record import host, jsonl
from rechain.record.journal import fold_attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from rechain.record.paths import RunPaths

__all__ = ["LocalTarget"]

_SUPERVISOR = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
    "supervisor",
    "__main__.py",
)

_SYSTEMD = "/run/systemd/system"  # is there if and only if systemd runs the machine, sd_booted(3)
_LINGER = "/var/lib/systemd/linger"
_MAY_END_AT_LOGOUT = (
    "the run ends with your login session if this system ends users' processes at logout "
    "(KillUserProcesses); 'loginctl enable-linger' lets it go on"
)


class LocalTarget:
    """Starts attempts on this machine, detached from whoever submits them."""

    name = "local"

    def plan(self, run: RunPaths, job: Mapping[str, Any]) -> Submission:
        """Say what `start` would do."""
        return Submission(
            target=job["target"],
            argv=(sys.executable, "-I", "-S", _SUPERVISOR, run.root),
            script=None,
            command=command_of(job),
            environment=dict(job["variables"]),
        )

    def start(
        self, submission: Submission, run: RunPaths, payload: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Start the supervisor and wait until it is up.

        The run folder is made while the interpreter starts, which waits for its payload.

        Raises:
            StartError: it did not come up.
        """
        scope, note = _scope(run.run_id)
        try:
            launcher, feed, answer = _spawn([*scope, *submission.argv])
        except OSError as error:
            raise StartError(f"the supervisor cannot be started: {error}") from error
        try:
            said = _talk(feed, answer, payload)
        finally:
            _, status = os.waitpid(launcher, 0)
        if said != "ok":
            raise StartError(said or f"the launcher was killed (wait status {status})")
        return {"scope": run.run_id if scope else None, "note": note}

    def poll(self, runs: Iterable[RunPaths]) -> dict[str, Observation]:
        """Say of each run whether its guard, supervisor, launcher or submitter still lives."""
        here = host.identity()
        return {run.run_id: Observation(_lives(run, here)) for run in runs}

    def cancel(self, run: RunPaths) -> None:
        """Do nothing: a local run does not queue."""


def _spawn(command: list[str]) -> tuple[int, int, int]:
    """Start the launcher; return its pid, and the descriptors to feed it and to hear from it."""
    open_here: list[int] = []
    try:
        open_here += os.pipe()
        open_here += os.pipe()
        stdin, feed, answer, stdout = open_here
        # posix_spawn, not fork: the caller may be a notebook full of threads.
        launcher = os.posix_spawn(
            command[0],
            command,
            _launcher_environment(),
            file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)],
            setsid=True,
            setsigmask=[],
            setsigdef=signal.valid_signals(),  # nohup's, say, is not the script's
        )
        open_here = [stdin, stdout]
    finally:
        for descriptor in open_here:
            os.close(descriptor)
    return launcher, feed, answer


def _launcher_environment() -> dict[str, str]:
    # The interpreter is told to ignore everything; the script's own variables travel by pipe.
    names = ("PATH", "XDG_RUNTIME_DIR", "RECHAIN_POOL_DIR")
    return {name: os.environ[name] for name in names if name in os.environ}


def _talk(feed: int, answer: int, payload: Callable[[], Mapping[str, Any]]) -> str:
    """Give the launcher its payload, and return what it answers."""
    try:
        try:
            view = memoryview(jsonl.dumps(dict(payload())).encode())
            while view:
                view = view[os.write(feed, view) :]
        except BrokenPipeError:
            pass  # it died; what it said, or did not say, is read below
        finally:
            os.close(feed)  # without a payload, this tells the launcher to leave
        said = b""
        while chunk := os.read(answer, 4096):
            said += chunk
    finally:
        os.close(answer)
    return said.decode(errors="replace")


def _scope(run_id: str) -> tuple[list[str], str]:
    """Return the command that starts the attempt outside the login session, and what to say.

    Where systemd ends a user's processes at logout, a scope of the user's own manager survives
    only if the user lingers (loginctl(1)); otherwise nothing can be done here, and the run lives
    as long as the system lets the session's processes live.
    """
    if not os.path.isdir(_SYSTEMD):
        return [], ""
    manager = [] if os.getuid() == 0 else ["--user"]
    if manager:
        import pwd

        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            user = str(os.getuid())
        if not os.path.exists(f"{_LINGER}/{user}"):
            return [], _MAY_END_AT_LOGOUT
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        if os.access(f"{folder}/systemd-run", os.X_OK):
            program = f"{folder}/systemd-run"
            return [program, *manager, "--scope", "--quiet", "--collect", f"--unit={run_id}"], ""
    return [], _MAY_END_AT_LOGOUT


def _lives(run: RunPaths, here: dict[str, str]) -> bool | None:
    attempt = run.last_attempt()
    if attempt is None:
        return _answers(jsonl.read(run.job)["submitted"], here)
    started = fold_attempt(attempt).attempt
    if started is None:
        try:
            return _answers(jsonl.read(attempt.launcher), here)
        except (OSError, ValueError):
            return None
    if host.elsewhere(started["host"], here):
        return False if host.rebooted(started["host"], here) else None
    return host.is_alive(started["guard"]) or host.is_alive(started["supervisor"])


def _answers(recorded: dict[str, Any], here: dict[str, str]) -> bool | None:
    if host.elsewhere(recorded["host"], here):
        return False if host.rebooted(recorded["host"], here) else None
    return host.is_alive(recorded)
