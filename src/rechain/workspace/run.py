"""A handle on a recorded run."""

from __future__ import annotations

import os
import sys

from rechain.exceptions import (
    ActivityFailedException,
    ExperimentExecutionException,
    UserErrorException,
)
from rechain.record import jsonl
from rechain.record.causes import TERMINAL
from rechain.record.follow import follow
from rechain.record.journal import fold
from rechain.workspace.details import describe, details
from rechain.workspace.made import Made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rechain.record.journal import RunState
    from rechain.workspace.compute_target import ComputeTarget
    from rechain.workspace.experiment import Experiment
    from rechain.workspace.workspace import Workspace

    Labels = dict[str, str] | str | None
    Names = list[str]  # inside of the class `list` is v1's method

__all__ = ["Run", "get_run"]

_TYPES = {"script": "azureml.scriptrun", "child": "azureml.run", "interactive": "azureml.run"}


class Run(Made):
    """A handle on a run, found by its id, in this process or any other.

    It holds nothing of the run itself: every answer is read from the run folder when asked.

    Args:
        experiment: the run's experiment.
        run_id: the run's id.
        outputs: accepted for v1's sake.
        **kwargs: accepted for v1's sake.

    Raises:
        UserErrorException: there is no such run.
    """

    RUN_TYPE = "azureml.scriptrun"

    def __init__(
        self, experiment: Experiment, run_id: str, outputs: object = None, **kwargs: object
    ) -> None:
        self._experiment = experiment
        self._id = run_id
        try:
            self._paths = experiment.workspace._paths.run(run_id)
            self._job: dict[str, Any] = jsonl.read(self._paths.job)
        except (OSError, ValueError):
            raise UserErrorException(
                f"run_id={run_id!r}: there is no such run in {experiment.workspace.path}"
            ) from None

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> Run:
        """Return a run of a workspace by its id.

        Raises:
            UserErrorException: there is no such run.
        """
        return workspace.get_run(run_id)

    @classmethod
    def get_context(
        cls, allow_offline: bool = True, used_for_context_manager: bool = False, **kwargs: Any
    ) -> Any:
        """Return the run this process is the script of, or an offline run outside of one.

        Raises:
            RunEnvironmentException: outside of a run, with `allow_offline=False`.
        """
        from rechain.guest.rechain_guest.run import Run as GuestRun

        return GuestRun.get_context(allow_offline, used_for_context_manager, **kwargs)

    @classmethod
    def get_submitted_run(cls, **kwargs: Any) -> Any:
        """Return the run this process is the script of.

        Raises:
            RunEnvironmentException: outside of a run.
        """
        return cls.get_context(allow_offline=False)

    @staticmethod
    def list(
        experiment: Experiment,
        type: str | None = None,
        tags: Labels = None,
        properties: Labels = None,
        status: str | None = None,
        include_children: bool = False,
        _rehydrate_runs: bool = True,
    ) -> Iterator[Run]:
        """Yield the runs of an experiment, newest first; see `Experiment.get_runs`."""
        for run in experiment.get_runs(type, tags, properties, include_children):
            if status in (None, run.get_status()):
                yield run

    @staticmethod
    def list_by_compute(
        compute: ComputeTarget,
        type: str | None = None,
        tags: Labels = None,
        properties: Labels = None,
        status: str | None = None,
    ) -> Iterator[Run]:
        """Yield the runs that were submitted to a compute target, newest first.

        Args:
            compute: the target.
            type: only runs of this type.
            tags: only runs with this tag, or with these tags and values.
            properties: the same for properties.
            status: only runs of this status.
        """
        for experiment in compute.workspace.experiments.values():
            for run in Run.list(experiment, type, tags, properties, status, True):
                if run._job["target"] == compute.name:
                    yield run

    # What it is.

    @property
    def id(self) -> str:
        """The run's id."""
        return self._id

    @property
    def experiment(self) -> Experiment:
        """The run's experiment."""
        return self._experiment

    @property
    def identity(self) -> str:
        """v1's name for what a log line is about: the run's id."""
        return self.id

    @property
    def name(self) -> str:
        """Older name of `display_name`."""
        return self.display_name

    @property
    def number(self) -> int:
        """The run's place in its experiment, from 1, in the order of submission."""
        number: int = self._guest().number
        return number

    @property
    def description(self) -> str | None:
        """What the run is for, or None. May be set."""
        text: str | None = self._guest().description
        return text

    @description.setter
    def description(self, text: str) -> None:
        self._guest().description = text

    @property
    def portal_url(self) -> str:
        """Where the record is; v1 has a page for people there."""
        return f"file://{self.folder}"

    def get_portal_url(self) -> str:
        """Return where the record is."""
        return self.portal_url

    @classmethod
    def get_docs_url(cls) -> str | None:
        """Return None: the documentation is in docs/, and `help(Run)`."""
        return None

    @property
    def folder(self) -> str:
        """The run folder: plain files, described in docs/run-folder.md."""
        return self._paths.root

    def submission(self) -> dict[str, Any]:
        """Return what the target planned and started; empty if it did not come to that."""
        try:
            submission: dict[str, Any] = jsonl.read(self._paths.submission)
        except (OSError, ValueError):
            return {}
        return submission

    @property
    def type(self) -> str:
        """v1's name for the kind of run."""
        return _TYPES.get(self._job["kind"], "azureml.run")

    @property
    def parent(self) -> Run | None:
        """The run that made this one."""
        parent = self._job.get("parent")
        return Run(self.experiment, parent) if parent else None

    @property
    def status(self) -> str:
        """The run's status; see `get_status`."""
        return self.get_status()

    # How it stands.

    def _state(self) -> RunState:
        state = fold(self._paths)
        if state.end is None:
            if not os.path.exists(self._paths.job):
                raise UserErrorException(f"the run {self.id} is not there any more: deleted")
            waiting = self._reconcile()
            state = fold(self._paths)
            state.waiting = waiting
        return state

    def _reconcile(self) -> str:
        """Write the end of the run if nobody else can; return why it waits, if it does."""
        return self._look()[0]

    def _look(self) -> tuple[str, str]:
        """Do what `_reconcile` does; return, too, why its cluster says nothing, if that is so."""
        from rechain.workspace.reconcile import reconcile

        seen = reconcile(self._paths, self._job)
        if seen is None:
            return "", ""
        silence = seen.reason if seen.alive is None and self._job.get("slurm") else ""
        # Where nothing is known of a run that a cluster has and that has not begun, it waits.
        waits = seen.alive or (self._job.get("slurm") and not self._paths.numbers())
        return seen.reason if waits else "", silence

    def _give_up(self) -> bool:
        """Record the end of a run whose cluster says nothing; False if that is not so."""
        from rechain.compute.ended import give_up

        return bool(self._look()[1]) and give_up(
            self._paths, "supervisor_lost", "given up: its cluster does not answer", here=False
        )

    def get_status(self) -> str:
        """Return v1's status: NotStarted, Preparing, Running, ..., Completed, Failed, Canceled."""
        return self._state().status

    @property
    def cause(self) -> str | None:
        """Why the run ended, in one line; None while it is under way."""
        end = self._state().end
        return describe(end) if end else None

    def get_details(self) -> dict[str, Any]:
        """Return what there is to know about the run, under v1's names."""
        return details(self)

    def get_details_with_logs(self) -> dict[str, Any]:
        """Return what `get_details` does, with the logs' content in place of their paths."""
        from rechain.workspace import files

        told = self.get_details()
        told["logFiles"] = {
            name: files.text(paths) for name, paths in files.logs(self._paths).items()
        }
        return told

    def get_detailed_status(self) -> dict[str, str | None]:
        """Return the status, and what the run waits for or ended with: `status`, `details`."""
        from rechain.workspace.details import nodes_in_words

        status = self.get_status()
        waits = "; ".join(nodes_in_words(self)) if status == "Queued" else None
        return {"status": status, "details": waits or self.cause}

    def wait_for_completion(
        self,
        show_output: bool = False,
        wait_post_processing: bool = False,
        raise_on_error: bool = True,
    ) -> dict[str, Any]:
        """Wait until the run has ended.

        Args:
            show_output: print the run's output and notes as they come.
            wait_post_processing: accepted for v1's sake: the end is always the end.
            raise_on_error: raise if the run failed. A canceled run never raises.

        Returns:
            What `get_details` returns.

        Raises:
            ActivityFailedException: the run failed; why, what to do, and the last it said.
            ExperimentExecutionException: interrupted from the keyboard; the run goes on.
        """
        import codecs

        if show_output:
            print(f"RunId: {self.id}\nFolder: {self.folder}\n", flush=True)
        decoders: dict[str, codecs.IncrementalDecoder] = {}
        notes, last = set[bytes](), b"\n"
        try:
            for stream, chunk in follow(self._paths, self._reconcile, output=show_output):
                if stream == "note":
                    if chunk not in notes:  # another attempt has most of them again
                        _show("\n" * (last != b"\n") + f"note: {chunk.decode(errors='replace')}\n")
                        last = b"\n"
                    notes.add(chunk)
                    continue
                last = chunk[-1:] or last
                decoder = decoders.setdefault(
                    stream, codecs.getincrementaldecoder("utf-8")("replace")
                )
                _show(decoder.decode(chunk))
            for decoder in decoders.values():
                _show(decoder.decode(b"", final=True))
        except KeyboardInterrupt:
            raise ExperimentExecutionException(
                f"interrupted while waiting; the run {self.id} goes on (run.cancel() ends it)"
            ) from None
        told = self.get_details()
        if show_output:
            print(f"\nExecution Summary\nRunId: {self.id}\nStatus: {self.cause}\n", flush=True)
        if raise_on_error and told["status"] == "Failed":
            error = told["error"]["error"]
            cure = [error["hint"]] if error["hint"] else []
            raise ActivityFailedException("\n".join([error["message"], *cure, *error["tail"]]))
        return told

    def replay(
        self, environment_variables: dict[str, str] | None = None, target: str | None = None
    ) -> Run:
        """Start the run once more, as a new run: same snapshot, lock, arguments and variables.

        Args:
            environment_variables: variables with other values than they had.
            target: the compute target; the run's own if left out.

        Raises:
            UserErrorException: it cannot be repeated; the message says why.
        """
        from rechain.workspace.replay import prepare_replay

        return prepare_replay(self, environment_variables, target).start()

    def differences(self, other: Run) -> dict[str, Any]:
        """Return in what this run and another differ: in what came out, and in what went in.

        Args:
            other: the other run; both have ended.

        Returns:
            `same`, `compared`, `outputs` and `changes`; see `workspace.differences`.

        Raises:
            UserErrorException: one of them has not ended, or a file cannot be read.
        """
        from rechain.workspace.differences import differences

        return differences(self, other)

    def delete(self) -> None:
        """Delete the run: its folder with all it made, and its entry in the index.

        Raises:
            UserErrorException: it, or a child of it, has not ended.
        """
        import shutil

        from rechain.record import index

        for run in (self, *self.get_children(recursive=True)):
            if run.get_status() not in TERMINAL:
                raise UserErrorException(f"the run {run.id} has not ended: cancel it first")
        children = [*self.get_children()]
        # Renamed first: a run is there as a whole or not at all.
        doomed = os.path.join(os.path.dirname(self.folder), f".deleted-{self.id}")
        os.rename(self.folder, doomed)
        index.remove(self.experiment.workspace._paths, self.id)
        shutil.rmtree(doomed)
        for child in children:
            child.delete()

    def __repr__(self) -> str:
        return (
            f"Run(Experiment: {self.experiment.name}, Id: {self.id}, Type: {self.type}, "
            f"Status: {self.get_status()})"
        )


def get_run(
    experiment: Experiment, run_id: str, rehydrate: bool = True, clean_up: bool = True
) -> Run:
    """Return a run of an experiment by its id.

    Args:
        experiment: the experiment.
        run_id: the run's id.
        rehydrate: not used: a run is always of the kind that it was started as.
        clean_up: not used.

    Raises:
        UserErrorException: the experiment has no such run.
    """
    return Run(experiment, run_id)


def _show(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except UnicodeEncodeError:  # a terminal of another language
        encoding = sys.stdout.encoding
        print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)
