"""Runs led from this process: what is said to them, their children, their end.

Inside a job the guest does all this; here the same code does it, imported on use.
"""

from __future__ import annotations

import contextlib
import os
import sys

from rechain.exceptions import SnapshotException, UserErrorException
from rechain.record import index, requests
from rechain.record.causes import TERMINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, TextIO

    from rechain.record.paths import RunPaths
    from rechain.workspace.experiment import Experiment
    from rechain.workspace.run import Run

__all__ = ["Interactive", "start"]


def start(
    experiment: Experiment,
    *,
    run_id: str | None = None,
    name: str | None = None,
    outputs: str | bool | None = None,
    snapshot_directory: str | None = ".",
) -> Run:
    """Start an interactive run; see `Experiment.start_logging`."""
    from rechain import __version__
    from rechain.guest.rechain_guest import children
    from rechain.workspace.run import Run

    workspace = experiment.workspace
    source: dict[str, Any] = {"directory": os.getcwd(), "snapshot": None}
    properties: dict[str, str] = {}
    if outputs in (None, True):
        outputs = "outputs"
    elif outputs is not False and not isinstance(outputs, (str, os.PathLike)):
        raise UserErrorException(
            f"outputs={outputs!r}: it is a folder whose files are kept when the run ends, or False"
        )
    if snapshot_directory is not None:
        source["directory"] = os.path.abspath(snapshot_directory)
        if not os.path.isdir(source["directory"]):
            raise UserErrorException(
                f"snapshot_directory={snapshot_directory!r} is no folder; None takes no snapshot"
            )
    workspace._make()
    if snapshot_directory is not None:
        source["snapshot"], properties = _snapshot(source["directory"], workspace._paths.store)
    try:
        folder = children.make(
            os.path.join(workspace._paths.experiments, experiment.name),
            experiment.name,
            run_id=run_id,
            name=name,
            outputs=outputs or None,
            kind="interactive",
            workspace=workspace.name,
            source=source,
            properties=properties,
            rechain=__version__,
        )
        index.add(workspace._paths, os.path.basename(folder))
    except OSError as error:
        raise UserErrorException(
            f"the run cannot be recorded in {workspace.path}: {error.strerror or error}"
        ) from error
    return Run(experiment, os.path.basename(folder))


def _snapshot(directory: str, store: str) -> tuple[str, dict[str, str]]:
    """Return the digest of a folder's snapshot, and what git says of the folder."""
    from rechain.job import git, snapshot

    facts = git.start(directory)
    try:
        digest: str = snapshot.take(directory, store).digest
    except SnapshotException as error:
        raise SnapshotException(
            f"{error} Or start_logging(snapshot_directory=None) for a run without a snapshot."
        ) from error
    else:
        return digest, {} if facts is None else facts.result()[0]
    finally:
        if facts is not None:
            facts.close()


class _AsInside:
    """A method of the guest's run, offered as it is, and imported on use."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, run: Interactive | None, owner: type | None = None) -> Any:
        if run is not None:
            return getattr(run._guest(), self._name)
        from rechain.guest.rechain_guest.run import Run

        return getattr(Run, self._name)


class Interactive:
    """What can be done to a run from outside of its script. Logging and uploads are as inside."""

    _paths: RunPaths
    _job: dict[str, Any]
    _inside: Any = None
    _copying: contextlib.ExitStack | None = None

    log = _AsInside()
    log_accuracy_table = _AsInside()
    log_confusion_matrix = _AsInside()
    log_image = _AsInside()
    log_list = _AsInside()
    log_predictions = _AsInside()
    log_residuals = _AsInside()
    log_row = _AsInside()
    log_table = _AsInside()
    upload_file = _AsInside()
    upload_files = _AsInside()
    upload_folder = _AsInside()
    flush = _AsInside()

    @property
    def id(self) -> str:
        """The run's id."""
        raise NotImplementedError

    @property
    def experiment(self) -> Experiment:
        """The run's experiment."""
        raise NotImplementedError

    def get_status(self) -> str:
        """Return the run's status."""
        raise NotImplementedError

    def _guest(self) -> Any:
        if self._inside is None:
            from rechain.guest.rechain_guest import experiment, run

            workspace = self.experiment.workspace
            around = experiment.Experiment(
                experiment.Workspace(workspace.name, folder=workspace.path), self.experiment.name
            )
            self._inside = run.Run(around, self.id, _folder=self._paths.root)
        return self._inside

    @property
    def display_name(self) -> str:
        """The run's name for people; its id, unless it was given another. May be set."""
        from rechain.guest.rechain_guest import lines

        return str(lines.read_display_name(self._paths.root) or self.id)

    @display_name.setter
    def display_name(self, name: str) -> None:
        self._guest().display_name = name

    def child_run(
        self, name: str | None = None, run_id: str | None = None, outputs: str | None = None
    ) -> Run:
        """Start a child run, led from this process; end it like an interactive run.

        Args:
            name: what people call it.
            run_id: its id; a new one by default.
            outputs: a folder whose files are kept when it ends.

        Raises:
            UserErrorException: `run_id` is not a run id of this experiment.
        """
        return self._outside(self._guest().child_run(name, run_id, outputs))

    def create_children(
        self,
        count: int | None = None,
        tag_key: str | None = None,
        tag_values: Sequence[str] | None = None,
    ) -> list[Run]:
        """Start several child runs: `count`, or one for each of `tag_values`.

        Raises:
            UserErrorException: the arguments do not say how many, contradict each other, or ask
                for more than 100.
        """
        made = self._guest().create_children(count, tag_key, tag_values)
        return [self._outside(child) for child in made]

    def submit_child(self, config: Any, tags: dict[str, str] | None = None, **kwargs: Any) -> Run:
        """Submit a run as a child of this one; see `Experiment.submit`."""
        from rechain.workspace.submit import submit

        return submit(self.experiment, config, tags=tags, overrides=kwargs, parent=self.id)

    def complete(self, _set_status: bool = True) -> None:
        """End an interactive run, or a child that a process made, well.

        Raises:
            UserErrorException: it is the run of a script, which ends with it.
        """
        self._be_led("complete")
        self._guest().complete()

    def fail(
        self,
        error_details: str | BaseException | None = None,
        error_code: str | None = None,
        _set_status: bool = True,
    ) -> None:
        """End an interactive run, or a child that a process made, as failed.

        Args:
            error_details: what went wrong.
            error_code: a name for the kind of error.

        Raises:
            TypeError: `error_details` is neither text nor an exception.
            UserErrorException: it is the run of a script, which ends with it.
        """
        self._be_led("fail")
        self._guest().fail(error_details, error_code)

    def cancel(self) -> None:
        """End the run: SIGTERM, a grace period, SIGKILL, to every process of it.

        A run that is led from a process is over, and the process goes on.
        """
        if self._job["kind"] != "script":
            self._guest().cancel()
        elif self.get_status() not in TERMINAL:
            requests.ask_to_stop(self._paths)
            self.get_status()  # takes it out of a queue, if it waits in one

    def __enter__(self) -> Interactive:
        """Copy what this process prints to the run's log; the end of the block ends the run."""
        self._be_led("with")
        attempt = self._paths.last_attempt()
        assert attempt is not None
        with contextlib.ExitStack() as stack:
            for stream, redirected, path in (
                (sys.stdout, contextlib.redirect_stdout, attempt.stdout(0)),
                (sys.stderr, contextlib.redirect_stderr, attempt.stderr(0)),
            ):
                file = stack.enter_context(open(path, "a", encoding="utf-8", errors="replace"))
                stack.enter_context(redirected(_Copied(stream, file)))
            self._copying = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._copying is not None
        if error is not None and not isinstance(error, SystemExit):
            import traceback

            with contextlib.suppress(OSError):
                attempt = self._paths.last_attempt()
                assert attempt is not None
                with open(attempt.stderr(0), "a", encoding="utf-8", errors="replace") as file:
                    traceback.print_exception(kind, error, trace, file=file)
        self._copying.close()
        self._guest().__exit__(kind, error, trace)

    def _be_led(self, what: str) -> None:
        if self._job["kind"] == "script":
            raise UserErrorException(
                f"{what}: the run {self.id} is that of a script and ends with it; cancel() ends "
                "it early"
            )

    def _outside(self, child: Any) -> Run:
        from rechain.workspace.run import Run

        return Run(self.experiment, child.id)


class _Copied:
    """A stream that also goes into a file, which is closed first when both come to their end."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream = stream
        self._file = file

    def write(self, text: str) -> int:
        if not self._file.closed:  # somebody, say a logging handler, has kept the stream
            self._file.write(text)
            self._file.flush()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
