"""A workspace: the `.rechain` folder that holds experiments and their runs."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException
from rechain.record import index, jsonl
from rechain.record.paths import WorkspacePaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rechain.data.dataset import FileDataset
    from rechain.data.datastore import Datastore
    from rechain.runconfig.environment import Environment
    from rechain.workspace.compute_target import ComputeTarget
    from rechain.workspace.experiment import Experiment
    from rechain.workspace.run import Run

__all__ = ["Workspace"]

_FOLDER = ".rechain"
# Where the Azure ML SDK v1 looks for its own configuration file, in this order.
_AZURE_FOLDERS = (".azureml", "aml_config", "")
_AZURE_FILES = ("config.json", "project.json")


class Workspace:
    """A folder of experiments and runs on this machine. There is no account and no server.

    Use `Workspace.local()` or `Workspace.from_config()`.

    Nothing is written before the first run is submitted: looking makes no folders.

    Args:
        path: the `.rechain` folder; it is made with the first run.

    Attributes:
        name: the workspace's name.
        path: the `.rechain` folder, absolute.

    Raises:
        UserErrorException: the folder is there and cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._paths = WorkspacePaths(self.path)
        name = os.path.basename(os.path.dirname(self.path)) or "workspace"
        self._settings: dict[str, Any] = {"schema": 1, "name": name, **self._read()}
        self.name: str = self._settings["name"]

    def _read(self) -> dict[str, Any]:
        path = self._paths.settings
        try:
            settings = jsonl.read(path)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            raise UserErrorException(
                f"the workspace cannot be read: {error}. Restore that file, or remove it: it "
                "holds nothing but the workspace's name."
            ) from error
        if not isinstance(settings, dict) or not isinstance(settings.get("name"), str):
            raise UserErrorException(
                f"{path} does not name a workspace. Restore that file, or remove it: it holds "
                "nothing but the workspace's name."
            )
        if settings.get("schema") != 1:
            raise UserErrorException(
                f"{path} was written by a newer Rechain (schema {settings.get('schema')!r}; this "
                "one reads 1). Upgrade Rechain."
            )
        return settings

    def _make(self) -> None:
        """Make the folder, unless it is there.

        Raises:
            UserErrorException: it cannot be made.
        """
        if os.path.exists(self._paths.settings):
            if "id" not in self._settings:  # somebody else has made it meanwhile
                self._settings = {**self._read(), **self._settings}
            return
        settings = {"schema": 1, "name": self.name, "id": os.urandom(8).hex()}
        try:
            for folder in (self._paths.experiments, self._paths.index, self._paths.store):
                os.makedirs(folder, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            ignore = os.open(self._paths.ignore, flags, 0o644)
            try:
                if not os.fstat(ignore).st_size:
                    os.write(ignore, b"*\n")
            finally:
                os.close(ignore)
            jsonl.write_new(self._paths.settings, settings)  # or somebody else's have won
        except OSError as error:
            raise UserErrorException(
                f"the workspace {self.path} cannot be made: {error.strerror}. Run in a folder you "
                "can write to, or name one with RECHAIN_HOME."
            ) from error
        self._settings = {**self._read(), **self._settings}

    @classmethod
    def local(cls, path: str | os.PathLike[str] | None = None) -> Workspace:
        """Return the workspace of a folder: the nearest `.rechain` upward, else one in it.

        Args:
            path: where to look from; the current folder if left out. `RECHAIN_HOME`, where set,
                is the workspace when no path is given.

        Raises:
            UserErrorException: `path` does not exist.
        """
        home = os.environ.get("RECHAIN_HOME")
        if path is None and home:
            return cls(home)
        try:
            start = os.path.abspath(os.fspath(path) if path is not None else os.getcwd())
        except FileNotFoundError:
            raise UserErrorException("the current folder is not there any more") from None
        if not os.path.isdir(start):
            raise UserErrorException(f"path={path!r}: there is no such folder")
        folder = start
        while True:
            if os.path.isdir(f"{folder}/{_FOLDER}"):
                return cls(f"{folder}/{_FOLDER}")
            parent = os.path.dirname(folder)
            if parent == folder:
                return cls(f"{start}/{_FOLDER}")
            folder = parent

    @classmethod
    def from_config(
        cls, path: str | None = None, auth: object = None, _file_name: str | None = None
    ) -> Workspace:
        """Return the workspace that Azure ML's `config.json` names, kept locally.

        The file is looked for as v1 does: in `.azureml`, `aml_config` and the folder itself,
        upward from `path`. The workspace lives beside it, or where `RECHAIN_HOME` says. Without
        any such file this is `Workspace.local()`.

        Args:
            path: a configuration file, or the folder to look from.
            auth: accepted for v1's sake; nobody is asked to log in.
            _file_name: another name of the file.

        Raises:
            UserErrorException: `path` does not exist, or the file lacks its keys.
        """
        start = os.path.abspath(path or os.getcwd())
        if not os.path.exists(start):
            raise UserErrorException(f"path={path!r}: there is no such file or folder")
        file = start if os.path.isfile(start) else _find_config(start, _file_name)
        if file is None:
            return cls.local(path)
        try:
            config = jsonl.read(file)
        except (OSError, ValueError) as error:
            raise UserErrorException(f"the configuration cannot be read: {error}") from error
        if isinstance(config, dict):
            config = config.get("Scope", config)
        if isinstance(config, str):  # v0's form: one long path
            parts = config.strip("/").split("/")
            config = {"workspace_name": parts[-1]} | {
                "subscription_id": _after("subscriptions", parts),
                "resource_group": _after("resourceGroups", parts),
            }
        name = config.get("workspace_name") if isinstance(config, dict) else None
        if not isinstance(name, str) or not name:
            raise UserErrorException(
                f"{file} names no workspace: it needs the key workspace_name, as in "
                '{"subscription_id": ..., "resource_group": ..., "workspace_name": "mine"}'
            )
        folder = os.path.dirname(file)
        if os.path.basename(folder) in _AZURE_FOLDERS:
            folder = os.path.dirname(folder)
        home = os.environ.get("RECHAIN_HOME")
        workspace = cls(home) if home else cls.local(folder)
        return workspace._called(name, config.get("subscription_id"), config.get("resource_group"))

    @classmethod
    def get(
        cls,
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        cloud: str | None = None,
        id: str | None = None,
    ) -> Workspace:
        """Return `Workspace.local()` under a name, as v1's scripts ask for their workspace.

        Args:
            name: the name.
            auth: accepted for v1's sake; nobody is asked to log in.
            subscription_id: the Azure subscription, for the record.
            resource_group: likewise the resource group.
            location: accepted for v1's sake.
            cloud: accepted for v1's sake.
            id: accepted for v1's sake.

        Raises:
            UserErrorException: the name is none.
        """
        if not isinstance(name, str) or not name:
            raise UserErrorException(f"name is {name!r}; it must be a text that is not empty")
        return cls.local()._called(name, subscription_id, resource_group)

    def _called(
        self, name: str, subscription_id: str | None, resource_group: str | None
    ) -> Workspace:
        """Take the names that Azure has for this workspace; return it."""
        self.name = name
        if subscription_id:
            self._settings["subscription_id"] = subscription_id
        if resource_group:
            self._settings["resource_group"] = resource_group
        return self

    @property
    def subscription_id(self) -> str:
        """The Azure subscription of the configuration file; `local` without one."""
        return str(self._settings.get("subscription_id", "local"))

    @property
    def resource_group(self) -> str:
        """The Azure resource group of the configuration file; `local` without one."""
        return str(self._settings.get("resource_group", "local"))

    @property
    def location(self) -> str:
        """Where the workspace is: this machine."""
        return "local"

    @property
    def experiments(self) -> dict[str, Experiment]:
        """The experiments there are, by name."""
        from rechain.workspace.experiment import Experiment, is_name

        try:
            names = sorted(os.listdir(self._paths.experiments))
        except FileNotFoundError:
            names = []
        return {name: Experiment(self, name) for name in names if is_name(name)}

    @property
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """The compute targets there are beside `local`, by name."""
        from rechain.workspace.compute_target import ComputeTarget

        return {target.name: target for target in ComputeTarget.list(self)}

    def get_default_datastore(self) -> Datastore:
        """Return the default datastore: `workspaceblobstore`, a folder of this workspace."""
        from rechain.data.datastore import Datastore

        return Datastore(self)

    @property
    def datastores(self) -> dict[str, Datastore]:
        """The datastores, by name."""
        from rechain.data.datastore import Datastore

        return {name: Datastore(self, name) for name in Datastore._names(self)}

    @property
    def datasets(self) -> dict[str, FileDataset]:
        """The newest version of each registered dataset, by name."""
        from rechain.data.dataset import Dataset

        return Dataset.get_all(self)

    @property
    def environments(self) -> dict[str, Environment]:
        """The environments that are registered here, and the curated ones, by name."""
        from rechain.runconfig.environment import Environment

        return Environment.list(self)

    def get_run(self, run_id: str) -> Run:
        """Return a run by its id, or by a beginning of it that names only one.

        Raises:
            UserErrorException: there is no such run, or more than one.
        """
        from rechain.workspace.experiment import Experiment
        from rechain.workspace.run import Run

        try:
            paths = self._paths.run(run_id)
            if os.path.exists(paths.job):
                return Run(Experiment(self, os.path.basename(os.path.dirname(paths.root))), run_id)
        except ValueError:
            pass  # not a whole id
        found = [run.id for run in self.get_runs() if _means(run_id, run.id)] if run_id else []
        if not found:
            raise UserErrorException(
                f"there is no run {run_id!r} in the workspace {self.path}; `rechain runs` lists "
                "those there are"
            )
        if len(found) > 1:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise UserErrorException(
                f"{run_id!r} is the beginning of {len(found)} runs: {', '.join(found[:5])}{more}; "
                "give more of the id"
            )
        return self.get_run(found[0])

    def get_runs(self) -> Iterator[Run]:
        """Yield the runs of all experiments, newest first."""
        from rechain.record.paths import experiment_of
        from rechain.workspace.experiment import Experiment
        from rechain.workspace.run import Run

        for run_id in index.newest(self._paths):
            try:
                experiment = Experiment(self, experiment_of(run_id))
                run = Run(experiment, run_id)
            except (ValueError, UserErrorException):
                continue  # no run's entry, or deleted since
            yield run

    def __repr__(self) -> str:
        return f"Workspace(name={self.name!r}, path={self.path!r})"


def _means(given: str, run_id: str) -> bool:
    """Return whether a beginning of a run id, or of its last part, means this run."""
    return run_id.startswith(given) or run_id.rpartition("_")[2].startswith(given)


def _after(word: str, parts: list[str]) -> str | None:
    return parts[parts.index(word) + 1] if word in parts[:-1] else None


def _find_config(start: str, name: str | None) -> str | None:
    folder = start
    while True:
        for inside in _AZURE_FOLDERS:
            for file in (name,) if name else _AZURE_FILES:
                path = os.path.join(folder, inside, file)
                if os.path.isfile(path):
                    return path
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent
