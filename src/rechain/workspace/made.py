"""What a run made and was made from: metrics, files, models, its environment and snapshot."""

from __future__ import annotations

import os

from rechain.exceptions import SnapshotException, UserErrorException
from rechain.workspace.labelled import Labelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rechain.runconfig.environment import Environment
    from rechain.workspace.model import Model
    from rechain.workspace.run import Run

    Labels = dict[str, str] | str | None

__all__ = ["Made"]

# The property that names a snapshot which was taken later than the run was made; v1's name.
_SNAPSHOT = "ContentSnapshotId"


class Made(Labelled):
    """The part of `Run` that reads what it made."""

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
            runs: list[Any] = [self, *self.get_children(recursive=True)]
            return {run.id: run.get_metrics(name) for run in runs if run_type in (None, run.type)}
        metrics: dict[str, Any] = lines.read_metrics(self._paths.root)
        if name is not None:
            return {name: metrics[name]} if name in metrics else {}
        return metrics

    def get_file_names(self) -> list[str]:
        """Return the names of the run's files: logs, uploads, and all that the script wrote."""
        from rechain.workspace import files

        return [file.name for file in files.listing(self._paths)]

    def download_file(
        self, name: str, output_file_path: str | None = None, _validate_checksum: bool = False
    ) -> None:
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
            output_paths: the copies' names, one for each file. Of a list that is longer or
                shorter, or has a name twice, none counts, as in v1; a warning says so.
            batch_size: accepted for v1's sake.
            append_prefix: keep the folder's name in the copies' paths; as in v1 False means
                nothing without `output_directory`.
            timeout_seconds: accepted for v1's sake.

        Raises:
            UserErrorException: a file cannot be copied.
        """
        from rechain.guest.rechain_guest.files import copies

        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        names = [name for name in self.get_file_names() if name.startswith(folder)]
        chosen = copies(names, folder, output_directory, output_paths, append_prefix)
        for name, target in chosen:
            self.download_file(name, target)

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

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        datasets: Any = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        **kwargs: Any,
    ) -> Model:
        """Keep files of the run as the next version of a model of the workspace.

        Args:
            model_name: the model's name.
            model_path: a file of the run, or a folder of them; named like the model if left out.
            tags: the model's labels.
            properties: labels that stay as they are.
            model_framework: the framework it is of.
            model_framework_version: that framework's version.
            description: what to say of it.
            datasets: accepted for v1's sake, like all that follows.
            sample_input_dataset: see `datasets`.
            sample_output_dataset: see `datasets`.
            resource_configuration: see `datasets`.
            **kwargs: see `datasets`.

        Raises:
            ModelPathNotFoundException: the run has no such file or folder.
            WebserviceException: the name cannot be one.
        """
        from rechain.workspace.model import register_of_run

        return register_of_run(
            self, model_name, model_path, tags=tags, properties=properties,
            framework=model_framework, framework_version=model_framework_version,
            description=description,
        )  # fmt: skip

    # Its snapshot.

    def get_snapshot_id(self) -> str | None:
        """Return the digest of the source folder's snapshot; None if there is none."""
        own: str | None = (self._job.get("source") or {}).get("snapshot")
        return own or self.properties.get(_SNAPSHOT)

    def take_snapshot(self, file_or_folder_path: str) -> str:
        """Take the snapshot of a run that has none, as after `start_logging(None)`.

        Args:
            file_or_folder_path: a folder, or a file, which is taken alone.

        Returns:
            Its digest.

        Raises:
            SnapshotException: the run has one, or it cannot be stored.
        """
        from rechain.workspace.snapshots import take

        if self.get_snapshot_id() is not None:
            raise SnapshotException(f"the run {self.id} has a snapshot; a run has one.")
        digest = take(self.experiment.workspace, file_or_folder_path)
        self.add_properties({_SNAPSHOT: digest})
        return digest

    def restore_snapshot(self, snapshot_id: str | None = None, path: str | None = None) -> str:
        """Write a snapshot to a zip file.

        Args:
            snapshot_id: its digest; the run's own if left out.
            path: the folder for the file; the current folder if left out.

        Returns:
            The file's path.

        Raises:
            SnapshotException: there is no such snapshot.
        """
        from rechain.workspace.snapshots import restore

        wanted = snapshot_id or self.get_snapshot_id()
        if wanted is None:
            raise SnapshotException(f"the run {self.id} has no snapshot.")
        return restore(self.experiment.workspace, wanted, path or ".", self.id)

    def get_secret(self, name: str) -> str | None:
        """Return a secret, or None: Rechain passes them as variables of the environment."""
        return os.environ.get(name)

    def get_secrets(self, secrets: list[str]) -> dict[str, str | None]:
        """Return several secrets by name; see `get_secret`."""
        return {name: self.get_secret(name) for name in secrets}

    def start(self) -> None:
        """Do nothing: a run is started when it is made."""

    def clean(self) -> list[str]:
        """Return the files that were deleted: none, all that a run has is its record."""
        return []

    def get_environment(self) -> Environment:
        """Return the environment that the run has, or is to have, as it was resolved."""
        from rechain.workspace.environment_of import environment_of

        return environment_of(self._job, self._paths)

    def get_children(
        self,
        recursive: bool = False,
        tags: dict[str, str] | str | None = None,
        properties: dict[str, str] | str | None = None,
        type: str | None = None,
        status: str | None = None,
        _rehydrate_runs: bool = True,
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
        from rechain.workspace.run import Run

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
