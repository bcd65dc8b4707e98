"""Datasets of files: which files of which datastores, and how a run gets at them."""

from __future__ import annotations

import copy
import os
from types import MappingProxyType

from rechain.data import names
from rechain.data.data_path import DataPath
from rechain.data.datastore import Datastore
from rechain.data.paths import inside
from rechain.exceptions import NotBuiltError, UserErrorException
from rechain.planned import planned, unbuilt
from rechain.runconfig.registered import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from typing import Any

    from rechain.runconfig.data import Data

    Datasets = list["FileDataset"]  # inside of the class `list` is v1's method

__all__ = ["Dataset", "DatasetConsumptionConfig", "FileDataset", "FileDatasetFactory"]

_MODES = ("mount", "download", "direct")


@unbuilt("Use `as_mount`.", "as_hdfs")
class DatasetConsumptionConfig:
    """A dataset as the input of a run.

    Args:
        name: the input's name, which is also that of the variable with its place.
        dataset: the dataset, or an output of another run.
        mode: `direct`: the run gets the dataset's id; `mount`: it is there for the run;
            `download`: a copy is made before the run.
        path_on_compute: where it is for the run: absolute, or relative to its folder.

    Attributes:
        dataset: as given.
        mode: as given.
        path_on_compute: as given.

    Raises:
        UserErrorException: the name cannot be one, or there is no such mode.
    """

    def __init__(
        self, name: str, dataset: Any, mode: str = "direct", path_on_compute: str | None = None
    ) -> None:
        self._name = names.checked("input", name)
        if mode not in _MODES:
            raise UserErrorException(f"mode is {mode!r}; it must be one of {', '.join(_MODES)}.")
        self.dataset = dataset
        self.mode = mode
        self.path_on_compute = path_on_compute

    @property
    def name(self) -> str:
        """The input's name."""
        return self._name

    @property
    def arg_val(self) -> str:
        """What stands for it among the arguments of a run configuration."""
        return f"DatasetConsumptionConfig:{self._name}"

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return this input, mounted."""
        return DatasetConsumptionConfig(self._name, self.dataset, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return this input, copied before the run."""
        return DatasetConsumptionConfig(self._name, self.dataset, "download", path_on_compute)

    def to_data(self) -> Data:
        """Return the element of a run configuration's `data`."""
        from rechain.runconfig import data

        found = self.dataset
        version = getattr(found, "version", None)
        return data.Data(
            data.DataLocation(
                data.Dataset(
                    getattr(found, "id", None),
                    found.name if version else None,
                    str(version) if version else None,
                )
            ),
            create_output_directories=False,
            mechanism=self.mode,
            environment_variable_name=self.name,
            path_on_compute=self.path_on_compute,
        )

    @property
    def local_path(self) -> str | None:
        """Where it lies on this machine, if it is one folder or file; else None."""
        return getattr(self.dataset, "local_path", None)

    def __repr__(self) -> str:
        return f"DatasetConsumptionConfig({self._name!r}, {self.dataset!r}, {self.mode!r})"


@unbuilt(
    "Use the files with `download`, `to_path` or `as_mount`.",
    "as_cache", "as_hdfs", "file_metadata", "filter", "get_partition_key_values", "hydrate",
    "mount", "random_split", "skip", "take", "take_sample",
)  # fmt: skip
@unbuilt(
    "What is registered stays as it is: register it once more, with create_new_version=True.",
    "add_tags", "remove_tags", "unregister_all_versions", "update",
)  # fmt: skip
@unbuilt("Use those of `Dataset`.", "get_all", "get_by_id", "get_by_name")
class FileDataset:
    """Files of datastores. `Dataset.File.from_files` makes one.

    Attributes:
        id: its id; None before it is registered.
        name: the name it is registered under.
        version: its version, an int.
        description: what was said of it.
        tags: its tags.
    """

    id: str | None = None
    name: str | None = None
    version: int | None = None
    description: str | None = None
    tags: Mapping[str, str] = MappingProxyType({})
    # v1 splits some datasets by the names of folders; here all files are alike.
    partition_keys: tuple[str, ...] = ()

    def __init__(self, sources: list[tuple[Datastore, str]]) -> None:
        self._sources = sources
        self.tags = {}

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """Return it as the input of a run under a name."""
        return DatasetConsumptionConfig(name, self)

    def as_mount(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as an input that is mounted."""
        return DatasetConsumptionConfig(names.made("input_"), self, "mount", path_on_compute)

    def as_download(self, path_on_compute: str | None = None) -> DatasetConsumptionConfig:
        """Return it as an input that is copied before the run."""
        return DatasetConsumptionConfig(names.made("input_"), self, "download", path_on_compute)

    @property
    def data_changed_time(self) -> datetime | None:
        """When the newest of its files on this machine was changed, in UTC; None without any."""
        from datetime import datetime, timezone

        times = [os.stat(path).st_mtime for _, path, _ in self._files() if isinstance(path, str)]
        return datetime.fromtimestamp(max(times), timezone.utc) if times else None

    @property
    def local_path(self) -> str | None:
        """Where it lies on this machine, if it is one folder or file; else None."""
        if len(self._sources) != 1 or not self._sources[0][0].folder:
            return None
        store, path = self._sources[0]
        place = store.local_path(path)
        return place if os.path.exists(place) else None

    def to_path(self) -> list[str]:
        """Return its files, each as `/` and its path below the folder they have in common."""
        return [f"/{relative}" for *_, relative in self._files()]

    def download(
        self,
        target_path: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        ignore_not_found: bool = False,
    ) -> list[str]:
        """Copy its files to a folder.

        Args:
            target_path: the folder; a temporary one if left out.
            overwrite: whether files may be there already, and are replaced.
            ignore_not_found: accepted for v1's sake: only files that are there are copied.

        Returns:
            The copies' paths.

        Raises:
            UserErrorException: a file is there already, or cannot be copied.
        """
        import tempfile

        target = tempfile.mkdtemp() if target_path is None else os.fspath(target_path)
        files = list(self._files())
        copies = [os.path.abspath(os.path.join(target, relative)) for *_, relative in files]
        for path in () if overwrite else copies:
            if os.path.lexists(path):
                raise UserErrorException(f"{path} is there already; overwrite=True replaces it.")
        for store in {id(store): store for store, *_ in files}.values():
            store._get([file[1:] for file in files if file[0] is store], target, True)
        return copies

    def register(
        self,
        workspace: Any,
        name: str,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        create_new_version: bool = False,
    ) -> FileDataset:
        """Keep it in a workspace by name.

        Returns:
            The registered dataset; the one that is there, if it is the same.

        Raises:
            UserErrorException: the name is that of other files, and `create_new_version` is
                not set.
        """
        kept = Registry(workspace, "dataset")
        sources = [[store.name, path] for store, path in self._sources]
        document: dict[str, Any] | None = kept.read(name)
        if document is not None and document["sources"] != sources and not create_new_version:
            raise UserErrorException(
                f"there is a dataset {name!r} already, of other files; create_new_version=True "
                "makes this its next version."
            )
        if document is None or document["sources"] != sources:
            import uuid

            document = kept.write(
                {
                    "name": name,
                    "version": None,
                    "id": str(uuid.uuid4()),
                    "description": description,
                    "tags": tags or {},
                    "sources": sources,
                }
            )
        return _registered(workspace, document)

    def __repr__(self) -> str:
        sources = [f"{store.name}/{path}" for store, path in self._sources]
        return f"FileDataset({', '.join(sources)})"

    def _files(self) -> Iterator[tuple[Datastore, Any, str]]:
        """Yield each file's datastore, its place, and its path below what they have in common."""
        found: dict[tuple[str, str], tuple[Datastore, Any, str]] = {}
        for store, pattern in self._sources:
            for place, name in store.files(pattern):
                found.setdefault((store.url, name), (store, place, name))
        files = [found[key] for key in sorted(found)]
        if files:
            root = os.path.commonpath([f"/{os.path.dirname(name)}" for *_, name in files])
            for store, place, name in files:
                yield store, place, os.path.relpath(f"/{name}", root)


class FileDatasetFactory:
    """Makes datasets of files: `Dataset.File`."""

    @staticmethod
    def from_files(
        path: Any,
        validate: bool = True,
        partition_format: str | None = None,
        is_file: bool = False,
    ) -> FileDataset:
        """Return a dataset of files.

        Args:
            path: a `DataPath`, a datastore and a path in it (`(datastore, "train/*.npz")`), an
                address of the web, or a list of these. A folder means all that is in it.
            validate: whether there must be files.
            partition_format: not built yet.
            is_file: accepted for v1's sake.

        Raises:
            UserErrorException: it is something else, or there are no such files.
            NotBuiltError: it is a path of this machine.
        """
        if partition_format is not None:
            raise NotBuiltError("partition_format is not built yet. Leave it out.")
        several = path if isinstance(path, list) else [path]
        made = FileDataset([_source(one) for one in several])
        if validate and not made.to_path():
            raise UserErrorException(f"path is {path!r}, and there are no such files.")
        return made

    @staticmethod
    def upload_directory(
        src_dir: str | os.PathLike[str],
        target: Any,
        pattern: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> FileDataset:
        """Copy a folder into a datastore, and return the dataset of its files.

        Args:
            src_dir: the folder.
            target: a `DataPath`, or a datastore and a path in it.
            pattern: which files, such as `*.npz`; all if left out.
            overwrite: whether files that are there already are replaced; else they are left.
            show_progress: whether to print what was copied.

        Raises:
            UserErrorException: it is no folder, or cannot be copied.
        """
        from pathlib import Path

        store, folder = _source(target)
        root = Path(src_dir)
        if not root.is_dir():
            raise UserErrorException(f"src_dir is {os.fspath(src_dir)!r}, which is not a folder.")
        files = [file for file in root.rglob(pattern or "*") if file.is_file()]
        store.upload_files(sorted(files), root, folder, overwrite, show_progress)
        return FileDataset([(store, folder)])


_FILES_ONLY = "Datasets are of files: use Dataset.File.from_files(...)."


@unbuilt(
    _FILES_ONLY,
    "archive", "auto_read_files", "compare_profiles", "create_snapshot", "delete_snapshot",
    "deprecate", "diff", "from_binary_files", "from_delimited_files", "from_excel_files",
    "from_json_files", "from_pandas_dataframe", "from_parquet_files", "from_sql_query",
    "generate_profile", "get_all_snapshots", "get_definition", "get_definitions", "get_profile",
    "get_snapshot", "head", "reactivate", "register", "sample", "to_pandas_dataframe",
    "to_spark_dataframe", "update", "update_definition",
)  # fmt: skip
class Dataset:
    """The datasets of a workspace.

    Attributes:
        File: makes datasets of files.
        Tabular: v1's datasets of tables, which are not built yet.
    """

    File = FileDatasetFactory
    Tabular = planned("azureml.core.Dataset", "Tabular", _FILES_ONLY)

    @staticmethod
    def get(workspace: Any, name: str | None = None, id: str | None = None) -> FileDataset:
        """Return a registered dataset by its name or id.

        Raises:
            UserErrorException: there is none, or neither is given.
        """
        if id is not None:
            return Dataset.get_by_id(workspace, id)
        if name is None:
            raise UserErrorException("name is None, and id too; one of them says which dataset.")
        return Dataset.get_by_name(workspace, name)

    @staticmethod
    def list(workspace: Any) -> Datasets:
        """Return the newest version of each registered dataset."""
        return [*Dataset.get_all(workspace).values()]

    @staticmethod
    def get_by_name(
        workspace: Any, name: str, version: int | str = "latest", **kwargs: Any
    ) -> FileDataset:
        """Return a registered dataset.

        Raises:
            UserErrorException: there is none.
        """
        kept = Registry(workspace, "dataset")
        wanted = None if version == "latest" else str(version)
        document = kept.read(name, wanted)
        if document is None:
            raise kept.lacks(name, wanted)
        return _registered(workspace, document)

    @staticmethod
    def get_by_id(workspace: Any, id: str, **kwargs: Any) -> FileDataset:
        """Return a registered dataset by its id.

        Raises:
            UserErrorException: there is none.
        """
        kept = Registry(workspace, "dataset")
        for name in kept.names():
            for version in kept.versions(name):
                document = kept.read(name, version)
                if document is not None and document["id"] == id:
                    return _registered(workspace, document)
        raise UserErrorException(f"the workspace has no dataset with the id {id!r}.")

    @staticmethod
    def get_all(workspace: Any) -> dict[str, FileDataset]:
        """Return the newest version of each registered dataset, by name."""
        kept = Registry(workspace, "dataset")
        return {name: Dataset.get_by_name(workspace, name) for name in kept.names()}


def _registered(workspace: Any, document: dict[str, Any]) -> FileDataset:
    made = FileDataset([_kept(workspace, *source) for source in document["sources"]])
    made.id, made.name = document["id"], document["name"]
    made.version = int(document["version"])
    made.description, made.tags = document["description"], copy.copy(document["tags"])
    return made


def _kept(workspace: Any, name: str, path: str) -> tuple[Datastore, str]:
    if "://" in name:
        return Datastore.of_the_web(f"{name}/{path}")
    return Datastore(workspace, name), path


def _source(path: Any) -> tuple[Datastore, str]:
    if isinstance(path, DataPath):
        return path._datastore, path.path_on_datastore or ""
    if isinstance(path, tuple) and len(path) == 2 and isinstance(path[0], Datastore):
        inside(path[0].name, os.fspath(path[1]))
        return path[0], os.fspath(path[1])
    if isinstance(path, str) and path.startswith(("http://", "https://")):
        return Datastore.of_the_web(path)
    if isinstance(path, str):
        raise NotBuiltError(
            f"path is {path!r}; files that are not in a datastore are not built yet. Upload them: "
            "Workspace.get_default_datastore().upload(...)."
        )
    raise UserErrorException(
        f"path is {path!r}, a {type(path).__name__}; it must be a DataPath, or a datastore and a "
        'path in it: (datastore, "train").'
    )
