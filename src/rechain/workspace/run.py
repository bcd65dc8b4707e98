"""A handle on a recorded run."""

from __future__ import annotations

import os
import sys

from rechain.exceptions import (
    ActivityFailedException,
    ExperimentExecutionException,
    UserErrorException,
)
from rechain.record import jsonl, requests
from rechain.record.causes import TERMINAL
from rechain.record.follow import follow
from rechain.record.journal import fold
from rechain.workspace.details import describe, details
from rechain.workspace.interactive import Interactive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rechain.record.journal import RunState
    from rechain.workspace.experiment import Experiment
    from rechain.workspace.workspace import Workspace

__all__ = ["Run", "get_run"]

_TYPES = {"script": "azureml.scriptrun", "child": "azureml.run", "interactive": "azureml.run"}


class Run(Interactive):
    """A handle on a run, found by its id, in this process or any other.

    It holds nothing of the run itself: every answer is read from the run folder when asked.

    Args:
        experiment: the run's experiment.
        run_id: the run's id.

    Attributes:
        id: the run's id.
        experiment: the run's experiment.

    Raises:
        UserErrorException: there is no such run.
    """

    def __init__(self, experiment: Experiment, run_id: str) -> None:
        self.experiment = experiment
        self.id = run_id
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

    @staticmethod
    def get_context(allow_offline: bool = True, **kwargs: Any) -> Any:
        """Return the run this process is the script of, or an offline run outside of one.

        Raises:
            RunEnvironmentException: outside of a run, with `allow_offline=False`.
        """
        from rechain.guest.rechain_guest.run import Run as GuestRun

        return GuestRun.get_context(allow_offline=allow_offline, **kwargs)

    # What it is.

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

    @property
    def tags(self) -> dict[str, str]:
        """The run's tags."""
        from rechain.guest.rechain_guest import lines

        tags: dict[str, str] = lines.read_tags(self._paths.root)
        return tags

    @property
    def properties(self) -> dict[str, str]:
        """The run's properties."""
        from rechain.guest.rechain_guest import lines

        properties: dict[str, str] = lines.read_properties(self._paths.root)
        return properties

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
        from rechain.workspace.reconcile import reconcile

        seen = reconcile(self._paths, self._job)
        return seen.reason if seen is not None and seen.alive else ""

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

    def wait_for_completion(
        self,
        show_output: bool = False,
        wait_post_processing: bool = False,
        raise_on_error: bool = True,
    ) -> dict[str, Any]:
        """Wait until the run has ended.

        Args:
            show_output: print the run's output as it comes.
            wait_post_processing: accepted for v1's sake: the end is always the end.
            raise_on_error: raise if the run failed. A canceled run never raises.

        Returns:
            What `get_details` returns.

        Raises:
            ActivityFailedException: the run failed.
            ExperimentExecutionException: interrupted from the keyboard; the run goes on.
        """
        import codecs

        if show_output:
            print(f"RunId: {self.id}\nFolder: {self.folder}\n", flush=True)
        decoders: dict[str, codecs.IncrementalDecoder] = {}
        try:
            for stream, chunk in follow(self._paths, self._reconcile, output=show_output):
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
            raise ActivityFailedException("\n".join([error["message"], *error["tail"]]))
        return told

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
        children = list(self.get_children())
        # Renamed first: a run is there as a whole or not at all.
        doomed = os.path.join(os.path.dirname(self.folder), f".deleted-{self.id}")
        os.rename(self.folder, doomed)
        index.remove(self.experiment.workspace._paths, self.id)
        shutil.rmtree(doomed)
        for child in children:
            child.delete()

    # What it made.

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: str | None = None,
        populate: bool = False,
    ) -> dict[str, Any]:
        """Return the metrics that the script logged and that Chainer reported.

        Args:
            name: only this one.
            recursive: also those of child runs; the result is then by run id.
            run_type: only of runs of this type.
            populate: accepted for v1's sake.
        """
        from rechain.guest.rechain_guest import lines

        if recursive:
            runs = [self, *self.get_children(recursive=True)]
            return {run.id: run.get_metrics(name) for run in runs if run_type in (None, run.type)}
        metrics: dict[str, Any] = lines.read_metrics(self._paths.root)
        if name is not None:
            return {name: metrics[name]} if name in metrics else {}
        return metrics

    def get_file_names(self) -> list[str]:
        """Return the names of the run's files: logs, uploads, and all that the script wrote."""
        from rechain.workspace import files

        return [file.name for file in files.listing(self._paths)]

    def download_file(self, name: str, output_file_path: str | None = None, **_: Any) -> None:
        """Copy one of the run's files.

        Args:
            name: as in `get_file_names`.
            output_file_path: the copy, or a folder for it; the file's own name in the current
                folder if left out.

        Raises:
            UserErrorException: the run has no such file, or it cannot be copied there.
        """
        from rechain.workspace import files

        target = output_file_path or os.path.basename(name)
        if os.path.isdir(target) or target.endswith("/"):
            target = os.path.join(target, os.path.basename(name))
        try:
            files.copy(self._paths, name, target)
        except LookupError:
            raise UserErrorException(
                f"name={name!r}: the run {self.id} has no such file; get_file_names() lists them"
            ) from None
        except OSError as error:
            raise UserErrorException(f"{name!r} cannot be copied: {error}") from error

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | None = None,
        output_paths: list[str] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: int | None = None,
    ) -> None:
        """Copy the run's files, or those in one folder of them.

        Args:
            prefix: the folder.
            output_directory: where to; the current folder if left out.
            output_paths: the copies' names, one for each file.
            batch_size: accepted for v1's sake.
            append_prefix: keep the folder's name in the copies' paths.
            timeout_seconds: accepted for v1's sake.

        Raises:
            UserErrorException: a file cannot be copied.
        """
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        names = [name for name in self.get_file_names() if name.startswith(folder)]
        if output_paths is not None and len(output_paths) != len(names):
            raise UserErrorException(
                f"output_paths has {len(output_paths)} names for {len(names)} files"
            )
        for number, name in enumerate(names):
            kept = name if append_prefix else name[len(folder) :]
            target = output_paths[number] if output_paths else kept
            self.download_file(name, os.path.join(output_directory or ".", target))

    def get_all_logs(self, destination: str | None = None) -> list[str]:
        """Copy the run's logs.

        Args:
            destination: where to; `assets/<run id>` in the current folder if left out.

        Returns:
            The copies' paths.
        """
        from rechain.workspace import files

        folder = destination or os.path.join("assets", self.id)
        copies = []
        for name in files.logs(self._paths):
            copies.append(os.path.join(folder, name))
            self.download_file(name, copies[-1])
        return copies

    # What is said of it.

    def tag(self, key: str, value: str | None = None) -> None:
        """Set a tag."""
        self.set_tags({key: value if value is not None else ""})

    def set_tags(self, tags: dict[str, str]) -> None:
        """Set several tags."""
        requests.set_labels(self._paths, "tag", {str(k): str(v) for k, v in tags.items()})

    def remove_tags(self, tags: list[str]) -> None:
        """Take tags away."""
        requests.set_labels(self._paths, "tag", {}, tuple(tags))

    def get_tags(self) -> dict[str, str]:
        """Return the tags."""
        return self.tags

    def add_properties(self, properties: dict[str, str]) -> None:
        """Add properties; those there are stay as they are.

        Raises:
            UserErrorException: one of them is there already.
        """
        there = self.properties
        for name in properties:
            if name in there:
                raise UserErrorException(f"the property {name!r} is set and cannot be changed")
        requests.set_labels(
            self._paths, "properties", {str(k): str(v) for k, v in properties.items()}
        )

    def get_properties(self) -> dict[str, str]:
        """Return the properties."""
        return self.properties

    def get_children(
        self,
        recursive: bool = False,
        tags: dict[str, str] | str | None = None,
        properties: dict[str, str] | str | None = None,
        type: str | None = None,
        status: str | None = None,
    ) -> Iterator[Run]:
        """Yield the runs that this run made, newest first.

        Args:
            recursive: also theirs.
            tags: only those with this tag, or with these tags and values.
            properties: the same for properties.
            type: only those of this type.
            status: only those of this status.
        """
        from rechain.workspace.experiment import has_labels

        try:
            names = sorted(os.listdir(self._paths.children), reverse=True)
        except FileNotFoundError:
            return
        for name in names:
            try:
                child = Run(self.experiment, name)
            except UserErrorException:
                continue  # deleted by itself
            if (
                has_labels(child.tags, tags)
                and has_labels(child.properties, properties)
                and type in (None, child.type)
                and status in (None, child.status)
            ):
                yield child
            if recursive:
                yield from child.get_children(True, tags, properties, type, status)

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
