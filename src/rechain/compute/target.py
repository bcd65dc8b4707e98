"""The contract of a compute target: where attempts of a run are started.

A target is four functions. `plan` is pure: it looks at the job and answers with what would be
done, printable, the same every time. `start` is the effect. `poll` answers for many runs at once.
`cancel` is for what the run's own supervisor cannot do, because it does not run yet.

Whatever a target starts is the supervisor (`python -I -S .../rechain/supervisor/__main__.py RUN`),
which writes the run folder; a target knows nothing of scripts, metrics or logs. The conformance
suite for targets is `rechain.testing.TargetConformance`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rechain.record.paths import RunPaths

__all__ = ["EXPECTED", "Observation", "StartError", "Submission", "Target", "command_of"]

EXPECTED = ", expected to start at "
"""What stands in a reason before the moment at which the run will probably start."""


class Submission(NamedTuple):
    """What a target would do to start a run: the whole of it, and nothing secret.

    Attributes:
        target: the target's name.
        argv: the command that starts the supervisor.
        script: text of a generated batch script, or None.
        command: the script's own command line, for people: interpreter, script, arguments.
        environment: the variables the script gets beside the inherited ones.
    """

    target: str
    argv: tuple[str, ...]
    script: str | None
    command: tuple[str, ...]
    environment: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the submission as `submission.json` holds it."""
        return {"schema": 1, **self._asdict()}


class Observation(NamedTuple):
    """What a target knows of a run that has not ended by its own record.

    Attributes:
        alive: whether something of the run is queued or running; None if that cannot be known
            from here.
        reason: why it waits, in words; empty if it does not. Where `alive` is None: why that is.
        end: how the place says that it ended, as `cause`, `message` and perhaps `hint` and
            `tail` of an end event; None where it knows no more than that it is gone.
    """

    alive: bool | None
    reason: str = ""
    end: dict[str, Any] | None = None


class StartError(Exception):
    """A run could not be started; the message says why."""


def command_of(job: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a job's own command line as people read it, for `Submission.command`."""
    environment = job["environment"]
    if environment["kind"] == "user-managed":
        python = environment["python"]
    else:
        python = f"<{environment['recipe']}>/bin/python"
    return (python, *job["command"])


class Target(Protocol):
    """A place where attempts are started."""

    name: str

    def plan(self, run: RunPaths, job: Mapping[str, Any]) -> Submission:
        """Say what `start` would do. Pure: touches no file, asks no one.

        Args:
            run: where the run folder is or would be.
            job: the job's document (docs/run-folder.md).
        """

    def start(
        self, submission: Submission, run: RunPaths, payload: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Start an attempt and return once it is certain that it was taken.

        Args:
            submission: what `plan` returned.
            run: the run's folder; it is complete once `payload` has returned.
            payload: returns what must not be recorded: the environments, with their secrets. To
                be called once, before anything of the run starts; what it raises is passed on.

        Returns:
            The target's own handle on what it started, for `submission.json`.

        Raises:
            StartError: it could not be started. Nothing of it runs.
        """

    def poll(self, runs: Iterable[RunPaths]) -> dict[str, Observation]:
        """Say of each run, by id, whether anything of it still exists."""

    def cancel(self, run: RunPaths) -> None:
        """Take a run that has not started out of the queue; does nothing if there is none."""
