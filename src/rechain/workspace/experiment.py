"""An experiment: a named series of runs."""

from __future__ import annotations

from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.workspace.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rechain.workspace.run import Run

    Labels = dict[str, str] | str | None
    # Inside of the class `list` is v1's method.
    Experiments = list["Experiment"]
    Names = list[str]

__all__ = ["Experiment", "ViewType", "has_labels", "is_name"]


class ViewType:
    """Which experiments `Experiment.list` returns."""

    ActiveOnly = "ActiveOnly"
    All = "All"
    ArchivedOnly = "ArchivedOnly"


class Experiment:
    """A named series of runs in a workspace.

    Args:
        workspace: the workspace.
        name: letters, digits, `_` and `-`, the first a letter or digit (as in v1), and 200 bytes
            at most.

    Raises:
        UserErrorException: the name is not one.
    """

    def __init__(
        self,
        workspace: Workspace,
        name: str,
        _skip_name_validation: bool = False,
        _id: str | None = None,
        _archived_time: str | None = None,
        _create_in_cloud: bool = True,
        _experiment_dto: object = None,
        **kwargs: object,
    ) -> None:
        if not isinstance(workspace, Workspace):
            raise UserErrorException(
                f"workspace={workspace!r}: an Experiment needs a Workspace, such as "
                "Workspace.local()"
            )
        if not is_name(name):
            raise UserErrorException(
                f"name={name!r}: an experiment's name is made of letters, digits, '_' and '-', "
                "begins with a letter or digit, and has 200 bytes at most"
            )
        self._workspace = workspace
        self._name = name

    def submit(self, config: Any, tags: dict[str, str] | None = None, **kwargs: Any) -> Run:
        """Start a run and return at once; the run goes on whatever becomes of this process.

        Args:
            config: an estimator, such as `Chainer(...)`.
            tags: labels for the run.
            **kwargs: in place of what an estimator says, for this run: `script_params` (those
                that it names; the others stay), `inputs` (further ones),
                `source_directory_data_store`.

        Raises:
            AzureMLException: nothing was started; the message says why.
        """
        from rechain.workspace.submit import submit

        return submit(self, config, tags=tags, overrides=kwargs)

    def start_logging(
        self,
        name: str | None = None,
        run_id: str | None = None,
        outputs: str | bool | None = None,
        snapshot_directory: str | None = ".",
        display_name: str | None = None,
    ) -> Run:
        """Start an interactive run, which this process leads: a notebook, or a script as it is.

        End it with `complete()`, `fail()`, `cancel()`, or by `with experiment.start_logging() as
        run:`, which also keeps what is printed meanwhile. What is left open ends with the process.

        Args:
            name: older name of `display_name`.
            run_id: its id; a new one by default.
            outputs: a folder whose files are kept when the run ends: `outputs` if it is None or
                True; False keeps none.
            snapshot_directory: a folder to take a snapshot of; None for none.
            display_name: what people call it.

        Raises:
            SnapshotException: the folder cannot be stored.
            UserErrorException: a value can never work, or the workspace cannot be written.
        """
        from rechain.workspace.interactive import start

        return start(
            self,
            run_id=run_id,
            name=display_name or name,
            outputs=outputs,
            snapshot_directory=snapshot_directory,
        )

    def get_runs(
        self,
        type: str | None = None,
        tags: dict[str, str] | str | None = None,
        properties: dict[str, str] | str | None = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """Yield the experiment's runs, newest first.

        Args:
            type: only runs of this type, such as `azureml.scriptrun`.
            tags: only runs with this tag, or with these tags and values.
            properties: the same for properties.
            include_children: also the runs made inside others, after their parents.
        """
        for run in self.workspace.get_runs():
            if run.experiment.name != self.name:
                continue
            for one in (run, *run.get_children(recursive=True)) if include_children else (run,):
                if (
                    type in (None, one.type)
                    and has_labels(one.tags, tags)
                    and has_labels(one.properties, properties)
                ):
                    yield one

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._name

    @property
    def workspace(self) -> Workspace:
        """The experiment's workspace."""
        return self._workspace

    @property
    def workspace_object(self) -> Workspace:
        """Older name of `workspace`."""
        return self._workspace

    @property
    def id(self) -> str:
        """The experiment's id: its name."""
        return self.name

    @property
    def identity(self) -> str:
        """v1's name for what a log line is about: the experiment's name."""
        return self.name

    @property
    def portal_url(self) -> str:
        """Where its runs are; v1 has a page for people there."""
        return f"file://{self.workspace._paths.experiments}/{self.name}"

    def get_portal_url(self) -> str:
        """Return where its runs are."""
        return self.portal_url

    @classmethod
    def get_docs_url(cls) -> str | None:
        """Return None: the documentation is in docs/, and `help(Experiment)`."""
        return None

    @staticmethod
    def list(
        workspace: Workspace,
        experiment_name: str | None = None,
        view_type: str = "ActiveOnly",
        tags: Labels = None,
    ) -> Experiments:
        """Return the experiments of a workspace, by name.

        Args:
            workspace: the workspace.
            experiment_name: only the one of this name.
            view_type: `ActiveOnly`, `ArchivedOnly` or `All`.
            tags: only those with this tag, or with these tags and values.

        Raises:
            UserErrorException: `view_type` is none of these.
        """
        views = {
            ViewType.ActiveOnly: (False,),
            ViewType.ArchivedOnly: (True,),
            ViewType.All: (False, True),
        }
        if view_type not in views:
            raise UserErrorException(
                f"view_type is {view_type!r}; it must be one of {', '.join(views)}."
            )
        return [
            one
            for name, one in workspace.experiments.items()
            if experiment_name in (None, name)
            and (one.archived_time is not None) in views[view_type]
            and has_labels(one.tags, tags)
        ]

    @staticmethod
    def from_directory(path: str, auth: object = None) -> Experiment:
        """Refuse: only Azure's projects have a folder of their own.

        Raises:
            UserErrorException: always.
        """
        raise UserErrorException(
            f"path={path!r}: folders are not bound to an experiment here; use "
            "Experiment(Workspace.from_config(), name)."
        )

    @staticmethod
    def delete(workspace: Workspace, experiment_id: str) -> None:
        """Delete an experiment that has no runs.

        Raises:
            UserErrorException: there is none, or it has runs.
        """
        import os

        one = workspace.experiments.get(experiment_id)
        if one is None:
            raise UserErrorException(
                f"experiment_id={experiment_id!r}: there is no such experiment in "
                f"{workspace.path}."
            )
        run = next(one.get_runs(), None)
        if run is not None:
            raise UserErrorException(
                f"the experiment {experiment_id!r} has runs, such as {run.id}; delete them first "
                "with run.delete(), or archive() it."
            )
        os.rmdir(f"{workspace._paths.experiments}/{experiment_id}")
        one._write(None)

    @property
    def tags(self) -> dict[str, str]:
        """The experiment's tags."""
        return dict(self._read().get("tags", {}))

    def tag(self, key: str, value: str | None = None) -> None:
        """Set a tag."""
        self.set_tags({key: value if value is not None else ""})

    def set_tags(self, tags: dict[str, str]) -> None:
        """Set several tags."""
        self._write({"tags": {**self.tags, **{str(k): str(v) for k, v in tags.items()}}})

    def remove_tags(self, tags: Names) -> None:
        """Take tags away."""
        self._write({"tags": {name: v for name, v in self.tags.items() if name not in tags}})

    @property
    def archived_time(self) -> str | None:
        """When it was archived, in UTC; None if it is not."""
        when: str | None = self._read().get("archived")
        return when

    def archive(self) -> None:
        """Leave it out of `Experiment.list`; its runs stay as they are."""
        import time

        self._write({"archived": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})

    def reactivate(self, new_name: str | None = None) -> None:
        """Take back `archive`.

        Args:
            new_name: not supported: a run's id has the experiment's name in it.

        Raises:
            UserErrorException: `new_name` is another name.
        """
        if new_name not in (None, self.name):
            raise UserErrorException(
                f"new_name={new_name!r}: the ids of the runs have the name {self.name!r} in them; "
                "leave new_name out."
            )
        self._write({"archived": None})

    def refresh(self) -> None:
        """Do nothing: every answer is read when asked."""

    def _read(self) -> dict[str, Any]:
        try:
            said: dict[str, Any] = jsonl.read(self.workspace._paths.experiment_labels(self.name))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserErrorException(
                f"what is said of the experiment {self.name!r} cannot be read: {error}", error
            ) from error
        return said

    def _write(self, changed: dict[str, Any] | None) -> None:
        """Keep what is said of it, or forget it all."""
        import contextlib
        import os

        path = self.workspace._paths.experiment_labels(self.name)
        if changed is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            return
        self.workspace._make()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        jsonl.write_atomic(path, {"schema": 1, **self._read(), **changed})

    def __repr__(self) -> str:
        return f"Experiment(Name: {self.name}, Workspace: {self.workspace.name})"


def is_name(name: object) -> bool:
    """Return whether this can be an experiment's name."""
    if not isinstance(name, str) or not name or not name[0].isalnum():
        return False
    if not all(letter.isalnum() or letter in "_-" for letter in name):
        return False
    # A run id repeats the name, and file names end at 255 bytes.
    return len(name.encode()) <= 200


def has_labels(labels: dict[str, str], wanted: dict[str, str] | str | None) -> bool:
    """Return whether there is a label of this name, or all these labels with these values."""
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return wanted in labels
    return all(labels.get(name) == value for name, value in wanted.items())
