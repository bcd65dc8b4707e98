"""An experiment: a named series of runs."""

from __future__ import annotations

from rechain.exceptions import UserErrorException
from rechain.workspace.workspace import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rechain.workspace.run import Run

__all__ = ["Experiment", "has_labels", "is_name"]


class Experiment:
    """A named series of runs in a workspace.

    Args:
        workspace: the workspace.
        name: letters, digits, `_` and `-`, the first a letter or digit (as in v1), and 200 bytes
            at most.

    Raises:
        UserErrorException: the name is not one.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
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
        self.workspace = workspace
        self.name = name

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
    def id(self) -> str:
        """The experiment's id: its name."""
        return self.name

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
