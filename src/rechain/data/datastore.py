"""Datastores: folders of a workspace, by name."""

from __future__ import annotations

import os
import shutil

from rechain.data.data_reference import DataReference
from rechain.exceptions import UserErrorException
from rechain.planned import unbuilt
from rechain.record.paths import WorkspacePaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Path = str | os.PathLike[str]

__all__ = ["DEFAULT", "Datastore", "copy_all"]

DEFAULT = "workspaceblobstore"  # v1's name of every workspace's first datastore


@unbuilt(
    "Datastores are folders on this machine: use Workspace.get_default_datastore(), and upload "
    "the files.",
    "register_azure_blob_container", "register_azure_data_lake", "register_azure_data_lake_gen2",
    "register_azure_file_share", "register_azure_my_sql", "register_azure_postgre_sql",
    "register_azure_sql_database", "register_dbfs", "register_hdfs",
)  # fmt: skip
class Datastore:
    """A datastore of a workspace: a folder on this machine.

    Every workspace has `workspaceblobstore`; its folder is made with the first file.

    Args:
        workspace: the workspace.
        name: the datastore's name; the default datastore if left out.

    Attributes:
        name: its name.
        workspace: its workspace.
        folder: its folder, absolute.

    Raises:
        UserErrorException: there is no such datastore.
    """

    def __init__(self, workspace: Any, name: str | None = None) -> None:
        self.workspace = workspace
        self.name = DEFAULT if name is None else name
        self.folder = os.path.join(WorkspacePaths(workspace.path).datastores, str(self.name))
        if self.name not in Datastore._names(workspace):
            raise UserErrorException(
                f"the workspace has no datastore {name!r}; it has "
                f"{', '.join(Datastore._names(workspace))}."
            )

    @staticmethod
    def get(workspace: Any, datastore_name: str) -> Datastore:
        """Return a datastore by name.

        Raises:
            UserErrorException: there is none.
        """
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: Any) -> Datastore:
        """Return the default datastore."""
        return Datastore(workspace, workspace._settings.get("default_datastore"))

    def set_as_default(self) -> None:
        """Make it the default of its workspace."""
        self.workspace.set_default_datastore(self.name)

    def unregister(self) -> None:
        """Refuse: a datastore is a folder, with the data in it.

        Raises:
            UserErrorException: always.
        """
        raise UserErrorException(f"delete the folder {self.folder} yourself, if that is meant.")

    @staticmethod
    def _names(workspace: Any) -> list[str]:
        try:
            found = os.listdir(WorkspacePaths(workspace.path).datastores)
        except FileNotFoundError:
            found = []
        return sorted({DEFAULT, *(name for name in found if not name.startswith("."))})

    @property
    def datastore_type(self) -> str:
        """What kind of storage it is."""
        return "Local"

    def path(
        self, path: str | None = None, data_reference_name: str | None = None
    ) -> DataReference:
        """Return a reference to a folder or file of the datastore, or to all of it."""
        if isinstance(path, str) and os.path.normpath(path) == ".":
            path = None
        return DataReference(self, data_reference_name, path)

    def as_mount(self) -> DataReference:
        """Return a reference to all of it, mounted."""
        return self.path().as_mount()

    def as_download(self, path_on_compute: str | None = None) -> DataReference:
        """Return a reference to all of it, copied before the run."""
        return self.path().as_download(path_on_compute)

    def as_upload(self, path_on_compute: str | None = None) -> DataReference:
        """Return a reference to all of it, filled after the run."""
        return self.path().as_upload(path_on_compute)

    def upload(
        self,
        src_dir: Path,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:
        """Copy a folder into the datastore, as it is.

        Args:
            src_dir: the folder.
            target_path: where to, in the datastore.
            overwrite: whether files that are there already are replaced; else they are left.
            show_progress: whether to print what was copied.

        Returns:
            A reference to `target_path`.

        Raises:
            UserErrorException: it is no folder, or cannot be copied.
        """
        root = os.fspath(src_dir)
        if not os.path.isdir(root):
            raise UserErrorException(f"src_dir is {root!r}, which is not a folder.")
        files = [(path, os.path.relpath(path, root)) for path in _files(root)]
        return self._copy(files, target_path, overwrite, show_progress)

    def upload_files(
        self,
        files: Iterable[Path],
        relative_root: Path | None = None,
        target_path: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> DataReference:
        """Copy files into the datastore.

        Args:
            files: the files.
            relative_root: what is taken off their paths; the folder they have in common if left
                out.
            target_path: where to, in the datastore.
            overwrite: whether files that are there already are replaced; else they are left.
            show_progress: whether to print what was copied.

        Returns:
            A reference to `target_path`.

        Raises:
            UserErrorException: one is not a file, or not in `relative_root`, or cannot be copied.
        """
        if isinstance(files, (str, bytes, os.PathLike)):
            raise UserErrorException(f"files is {files!r}; it must be a list of paths.")
        paths = [os.path.abspath(os.fspath(file)) for file in files]
        for path in paths:
            if not os.path.isfile(path):
                raise UserErrorException(f"files has {path!r}, which is not a file.")
        if relative_root is not None:
            root = os.path.abspath(os.fspath(relative_root))
        else:
            root = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else "/"
        pairs = [(path, os.path.relpath(path, root)) for path in paths]
        for path, relative in pairs:
            if relative.startswith(os.pardir + os.sep):
                raise UserErrorException(
                    f"relative_root is {root!r}, and files has {path!r}, which is not in it."
                )
        return self._copy(pairs, target_path, overwrite, show_progress)

    def download(
        self,
        target_path: Path,
        prefix: str | None = None,
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> int:
        """Copy files out of the datastore; they keep their path in it.

        Args:
            target_path: the folder to copy to; it is made.
            prefix: how the paths in the datastore begin; all files if left out.
            overwrite: whether files that are there already are replaced; else they are left.
            show_progress: whether to print what was copied.

        Returns:
            How many files were copied.

        Raises:
            UserErrorException: they cannot be copied.
        """
        files = ((path, os.path.relpath(path, self.folder)) for path in _files(self.folder))
        chosen = [(path, name) for path, name in files if name.startswith(prefix or "")]
        target = os.fspath(target_path)
        count = copy_all(chosen, target, overwrite)
        if show_progress:
            print(f"Downloaded {count} of {len(chosen)} files from {self.name} to {target}")
        return count

    def local_path(self, path: str | None) -> str:
        """Return the path on this machine of a path in the datastore.

        Raises:
            UserErrorException: it leads out of the datastore.
        """
        inside = os.path.normpath((path or "").lstrip("/") or ".")
        if inside == os.pardir or inside.startswith(os.pardir + os.sep) or "\0" in inside:
            raise UserErrorException(
                f"the path {path!r} leads out of the datastore {self.name!r}."
            )
        return os.path.normpath(os.path.join(self.folder, inside))

    def __repr__(self) -> str:
        return f"Datastore(name={self.name!r}, folder={self.folder!r})"

    def __deepcopy__(self, memo: object) -> Datastore:
        return self  # a handle, as the workspace is

    def _copy(
        self,
        files: list[tuple[str, str]],
        target_path: str | None,
        overwrite: bool,
        show_progress: bool,
    ) -> DataReference:
        target = self.local_path(target_path)
        self.workspace._make()
        count = copy_all(files, target, overwrite)
        if show_progress:
            print(f"Uploaded {count} of {len(files)} files to {self.name}")
        return DataReference(self, path_on_datastore=target_path or "")


def _files(root: str) -> Iterator[str]:
    for folder, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        yield from (os.path.join(folder, name) for name in sorted(names))


def copy_all(files: list[tuple[str, str]], target: str, overwrite: bool) -> int:
    """Copy files below a folder; each is there whole or not at all.

    Args:
        files: their paths, and their paths below the folder.
        target: the folder; it is made.
        overwrite: whether files that are there already are replaced; else they are left.

    Returns:
        How many were copied.

    Raises:
        UserErrorException: one cannot be copied.
    """
    count = 0
    try:
        os.makedirs(target, exist_ok=True)
        for source, relative in files:
            whole = os.path.join(target, relative)
            if os.path.lexists(whole) and not overwrite:
                continue
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            beside = f"{whole}.{os.urandom(4).hex()}~"
            try:
                shutil.copyfile(source, beside)
                os.replace(beside, whole)
            except OSError:
                if os.path.lexists(beside):
                    os.unlink(beside)
                raise
            count += 1
    except OSError as error:
        raise UserErrorException(
            f"{error.filename} cannot be copied to {target}: {error.strerror}.", error
        ) from error
    return count
