"""A workspace: the `.rechain` folder that holds experiments and their runs."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException
from rechain.planned import azures
from rechain.record import index, jsonl
from rechain.record.paths import WorkspacePaths
from rechain.workspace.as_in_azure import AZURE_FILES, AZURE_FOLDERS, FOLDER, AsInAzure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rechain.data.dataset import FileDataset
    from rechain.data.datastore import Datastore
    from rechain.runconfig.environment import Environment
    from rechain.workspace.compute_target import ComputeTarget
    from rechain.workspace.experiment import Experiment
    from rechain.workspace.model import Model
    from rechain.workspace.run import Run

__all__ = ["Workspace"]


@azures(
    "A workspace is a folder of this machine.",
    "add_private_endpoint", "delete_connection", "delete_private_endpoint_connection",
    "diagnose_workspace", "get_connection", "list_connections", "list_keys", "set_connection",
    "sync_keys", "update_dependencies",
)  # fmt: skip
class Workspace(AsInAzure):
    """A folder of experiments and runs on this machine. There is no account and no server.

    Use `Workspace.local()` or `Workspace.from_config()`. v1's constructor and `Workspace.get`
    return the local workspace by the name that they are told.

    Nothing is written before the first run is submitted: looking makes no folders.

    Args:
        subscription_id: Azure's; recorded, like the next.
        resource_group: Azure's.
        workspace_name: what the workspace is called.
        auth: accepted for v1's sake, like all that follows; nobody is asked to log in.
        _location: see `auth`.
        _disable_service_check: see `auth`.
        _workspace_id: see `auth`.
        sku: see `auth`.
        tags: see `auth`.
        _cloud: see `auth`.

    Attributes:
        path: the `.rechain` folder, absolute.

    Raises:
        UserErrorException: the folder is there and cannot be read, or the name cannot be one.
    """

    path: str
    _paths: WorkspacePaths
    _settings: dict[str, Any]

    DEFAULT_CPU_CLUSTER_NAME = "cpu-cluster"
    DEFAULT_GPU_CLUSTER_NAME = "gpu-cluster"

    def __init__(
        self,
        subscription_id: str,
        resource_group: str,
        workspace_name: str,
        auth: object = None,
        _location: str | None = None,
        _disable_service_check: bool = False,
        _workspace_id: str | None = None,
        sku: str = "basic",
        tags: dict[str, str] | None = None,
        _cloud: str = "AzureCloud",
    ) -> None:
        if not isinstance(workspace_name, str) or not workspace_name:
            raise UserErrorException(
                f"the workspace's name is {workspace_name!r}; it must be a text that is not empty."
            )
        self.__dict__.update(Workspace.local().__dict__)
        self._name_as(workspace_name, subscription_id, resource_group)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Workspace:
        """Return the workspace of a `.rechain` folder, which is made with the first run.

        Raises:
            UserErrorException: the folder is there and cannot be read.
        """
        made = object.__new__(cls)
        made.path = os.path.abspath(os.fspath(path))
        made._paths = WorkspacePaths(made.path)
        name = os.path.basename(os.path.dirname(made.path)) or "workspace"
        made._settings = {"schema": 1, "name": name, **made._read()}
        return made

    @property
    def name(self) -> str:
        """The workspace's name."""
        return str(self._settings["name"])

    def _name_as(self, name: str, subscription_id: object, resource_group: object) -> None:
        """Go by these names in this process; the folder keeps its own, if it is made already."""
        self._settings["name"] = name
        for key, value in (
            ("subscription_id", subscription_id), ("resource_group", resource_group),
        ):  # fmt: skip
            if value:
                self._settings[key] = value

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

    def _change(self, values: dict[str, Any]) -> None:
        self._make()
        jsonl.write_atomic(self._paths.settings, {**self._read(), **values})
        self._settings.update(values)

    def _make(self, more: dict[str, Any] | None = None) -> None:
        """Make the folder, unless it is there.

        Args:
            more: settings to record with its name and id.

        Raises:
            UserErrorException: it cannot be made.
        """
        if os.path.exists(self._paths.settings):
            if "id" not in self._settings:  # somebody else has made it meanwhile
                self._settings = {**self._read(), **self._settings}
            return
        settings = {"schema": 1, "name": self.name, "id": os.urandom(8).hex(), **(more or {})}
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
            return cls.at(home)
        try:
            start = os.path.abspath(os.fspath(path) if path is not None else os.getcwd())
        except FileNotFoundError:
            raise UserErrorException("the current folder is not there any more") from None
        if not os.path.isdir(start):
            raise UserErrorException(f"path={path!r}: there is no such folder")
        folder = start
        while True:
            if os.path.isdir(f"{folder}/{FOLDER}"):
                return cls.at(f"{folder}/{FOLDER}")
            parent = os.path.dirname(folder)
            if parent == folder:
                return cls.at(f"{start}/{FOLDER}")
            folder = parent

    @classmethod
    def from_config(
        cls,
        path: str | None = None,
        auth: object = None,
        _logger: object = None,
        _file_name: str | None = None,
    ) -> Workspace:
        """Return the workspace that Azure ML's `config.json` names, kept locally.

        The file is looked for as v1 does: in `.azureml`, `aml_config` and the folder itself,
        upward from `path`. The workspace lives beside it, or where `RECHAIN_HOME` says. Without
        any such file this is `Workspace.local()`.

        Args:
            path: a configuration file, or the folder to look from.
            auth: accepted for v1's sake; nobody is asked to log in.
            _logger: accepted for v1's sake.
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
        if os.path.basename(folder) in AZURE_FOLDERS:
            folder = os.path.dirname(folder)
        home = os.environ.get("RECHAIN_HOME")
        workspace = cls.at(home) if home else cls.local(folder)
        workspace._name_as(name, config.get("subscription_id"), config.get("resource_group"))
        return workspace

    @staticmethod
    def get(
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        cloud: str = "AzureCloud",
        id: str | None = None,
    ) -> Workspace:
        """Return the workspace of the current folder, by a name.

        Args:
            name: what it is called.
            auth: accepted for v1's sake.
            subscription_id: recorded.
            resource_group: recorded.
            location: accepted for v1's sake, like the others.
            cloud: see `location`.
            id: see `location`.

        Raises:
            UserErrorException: the name cannot be one.
        """
        return Workspace(subscription_id or "", resource_group or "", name)

    def set_default_datastore(self, name: str) -> None:
        """Make another datastore the default.

        Raises:
            UserErrorException: there is no such datastore.
        """
        from rechain.data.datastore import Datastore

        self._change({"default_datastore": Datastore(self, name).name})

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

    def get_default_compute_target(self, type: str) -> ComputeTarget | None:
        """Return the pool that v1 makes first for a type, `CPU` or `GPU`; None without one."""
        return self.compute_targets.get(f"{type.lower()}-cluster")

    @property
    def models(self) -> dict[str, Model]:
        """The newest version of each model, by name."""
        from rechain.workspace.model import Model

        return {model.name: model for model in Model.list(self, latest=True)}

    def _keep_folder(self, path: str) -> str:
        """Keep all of a folder as it is now, for `DockerBuildContext`; return its digest."""
        from rechain.workspace.snapshots import keep

        self._make()
        return keep(self, path)

    def _build(self, environment: Environment, docker: bool) -> None:
        from rechain.workspace.building import build_local

        self._make()
        build_local(self, environment, docker)

    def get_default_datastore(self) -> Datastore:
        """Return the default datastore: `workspaceblobstore`, unless another was made it."""
        from rechain.data.datastore import Datastore

        return Datastore.get_default(self)

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
        for inside in AZURE_FOLDERS:
            for file in (name,) if name else AZURE_FILES:
                path = os.path.join(folder, inside, file)
                if os.path.isfile(path):
                    return path
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent
