"""Datastores: folders and storage elsewhere, by name."""

from __future__ import annotations

import os

from rechain.data.data_reference import DataReference
from rechain.data.paths import below, inside, match, root_of
from rechain.data.registering import DEFAULT, OWN, Registering
from rechain.data.transfer import copy_all
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.paths import WorkspacePaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from rechain.data.storage import Entry, Storage

    Path = str | os.PathLike[str]

__all__ = ["DEFAULT", "Datastore", "stayed"]


class Datastore(Registering):
    """A datastore of a workspace: a folder on this machine, or storage elsewhere.

    Every workspace has `workspaceblobstore` and `workspacefilestore`; the folder of each is made
    with its first file. `register` adds others.

    Args:
        workspace: the workspace.
        name: the datastore's name; the default datastore if left out.

    Attributes:
        name: its name.
        workspace: its workspace.
        folder: its folder, absolute; empty if it is storage elsewhere.

    Raises:
        UserErrorException: there is no such datastore, or its description cannot be read.
    """

    def __init__(self, workspace: Any, name: str | None = None) -> None:
        self.workspace = workspace
        self.name = DEFAULT if name is None else name
        paths = WorkspacePaths(workspace.path)
        self._file = paths.datastore(str(self.name))
        folder = os.path.join(paths.datastores, str(self.name))
        self._document: dict[str, Any] = {"name": self.name, "type": "Local", "url": folder}
        self._storage: Storage | None = None
        if self.name not in Datastore._names(workspace):
            raise UserErrorException(
                f"the workspace has no datastore {name!r}; it has "
                f"{', '.join(Datastore._names(workspace))}."
            )
        if os.path.isfile(self._file):
            try:
                self._document = jsonl.read(self._file)["datastore"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserErrorException(
                    f"the datastore {name!r} cannot be read: {self._file}: {error}", error
                ) from error
        remote = "://" in self._document["url"]
        self.folder: str = "" if remote else self._document["url"]

    @classmethod
    def _named(cls, workspace: Any, name: str) -> Datastore:
        return cls(workspace, name)

    @classmethod
    def _at(cls, document: dict[str, Any]) -> Datastore:
        """Return the datastore of a description, of no workspace."""
        made = object.__new__(cls)
        made.workspace = None
        made.name = document["name"]
        made._document = document
        made._storage = None
        made.folder = "" if "://" in document["url"] else document["url"]
        return made

    @classmethod
    def of_the_web(cls, address: str) -> tuple[Datastore, str]:
        """Return the web server of an address as a datastore, and the path on it.

        Raises:
            UserErrorException: the address holds a secret.
        """
        from urllib.parse import unquote, urlsplit

        from rechain.data.storage import kind_of

        parts = urlsplit(address)
        url = f"{parts.scheme}://{parts.netloc}"
        kind_of(f"{url}?" if parts.query else url)
        document = {"name": url, "type": "HTTP", "url": url, "options": {}, "anonymous": True}
        return cls._at(document), unquote(parts.path).lstrip("/")

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
        """Forget its name, and its secrets in the keyring; its files stay.

        Raises:
            UserErrorException: it is a folder of the workspace, with the data in it.
        """
        if not os.path.isfile(self._file):
            raise UserErrorException(
                f"delete the folder {self.folder} yourself, if that is meant."
            )
        os.unlink(self._file)
        if self.workspace._settings.get("default_datastore") == self.name:
            self.workspace.set_default_datastore(DEFAULT)
        if not self.folder:
            from rechain.data import credentials
            from rechain.data.storage import kind_of

            kind = kind_of(self._document["url"])
            assert kind is not None
            credentials.forget(self._document["url"].rstrip("/"), kind.secrets)

    @staticmethod
    def _names(workspace: Any) -> list[str]:
        try:
            found = os.listdir(WorkspacePaths(workspace.path).datastores)
        except FileNotFoundError:
            found = []
        names = {name.removesuffix(".json") for name in found if not name.startswith(".")}
        return sorted({*OWN, *names})

    @property
    def datastore_type(self) -> str:
        """What kind of storage it is: `Local`, `AzureBlob`, `S3`, `GCS`, `SFTP`, `HTTP`."""
        return str(self._document["type"])

    @property
    def url(self) -> str:
        """Where it is: a folder, or an address."""
        return str(self._document["url"])

    @property
    def container_name(self) -> str:
        """The container of Azure Blob storage, which alone has one."""
        return self._of_azure("container_name", self.url.partition("://")[2].partition("/")[0])

    @property
    def account_name(self) -> str:
        """The account of Azure Blob storage, which alone has one."""
        return self._of_azure("account_name", self._option("account_name"))

    @property
    def protocol(self) -> str:
        """The protocol of Azure Blob storage: `https`, unless it was said otherwise."""
        return self._of_azure("protocol", self._option("protocol") or "https")

    @property
    def endpoint(self) -> str:
        """The endpoint of Azure Blob storage: `core.windows.net`, unless it was said otherwise."""
        return self._of_azure("endpoint", self._option("endpoint") or "core.windows.net")

    def _option(self, name: str) -> str:
        return str((self._document.get("options") or {}).get(name) or "")

    def _of_azure(self, name: str, value: str) -> str:
        if self.datastore_type != "AzureBlob":
            raise AttributeError(f"the datastore {self.name} is no Azure Blob storage: no {name}")
        return value

    @property
    def storage(self) -> Storage:
        """What reads and writes it, if it is elsewhere."""
        if self._storage is None:
            from rechain.data.storage import Storage

            self._storage = Storage(self._document)
        return self._storage

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
        files = [(path, os.path.relpath(path, root)) for path in below(root)]
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
        target = os.fspath(target_path)
        chosen = [pair for pair in self.files("") if pair[1].startswith(prefix or "")]
        count = self._get(chosen, target, overwrite, show_progress)
        if show_progress:
            more = stayed(chosen, count)
            print(f"Downloaded {count} of {len(chosen)} files from {self.name} to {target}{more}")
        return count

    def files(self, pattern: str) -> list[tuple[str | Entry, str]]:
        """Return the files below a path, or that a pattern means.

        Returns:
            For each its path on this machine (or what its store calls it), and its path in the
            datastore.

        Raises:
            UserErrorException: they cannot be read, or one lies outside of the datastore.
        """
        if not self.folder:
            path = inside(self.name, pattern)
            entries, alone = self.storage.listing(path)
            root = os.path.dirname(path) if alone else root_of(path)
            return [(entry, os.path.join(root, entry.path)) for entry in entries]
        top = os.path.realpath(self.folder)
        found: list[tuple[str | Entry, str]] = []
        for path in match(self.folder, self.local_path(pattern)):
            real = os.path.realpath(path)
            if not real.startswith(top + os.sep):
                raise UserErrorException(
                    f"{path} leads to {real}, out of the datastore {self.name}; register the "
                    "folder that has it."
                )
            found.append((path, os.path.relpath(path, self.folder)))
        return found

    def _get(
        self,
        files: list[tuple[str | Entry, str]],
        target: str,
        overwrite: bool,
        show_progress: bool = False,
    ) -> int:
        """Copy files, as `files` returns them, below a folder."""
        if self.folder:
            return copy_all([(str(place), name) for place, name in files], target, overwrite)
        from rechain.data.transfer import download, show

        say = (show,) if show_progress else ()
        return download(self.storage, files, target, overwrite, *say)  # type: ignore[arg-type]

    def local_path(self, path: str | None) -> str:
        """Return the path on this machine of a path in the datastore.

        Raises:
            UserErrorException: it leads out of the datastore.
        """
        if not self.folder:
            raise UserErrorException(f"the datastore {self.name} is not on this machine.")
        place = os.path.normpath(os.path.join(self.folder, inside(self.name, path)))
        top, real = os.path.realpath(self.folder), os.path.realpath(place)
        if real != top and not real.startswith(top.rstrip(os.sep) + os.sep):
            raise UserErrorException(
                f"the path {path!r} leads out of the datastore {self.name!r}, to {real}."
            )
        return place

    def __repr__(self) -> str:
        return f"Datastore(name={self.name!r}, url={self.url!r})"

    def __deepcopy__(self, memo: object) -> Datastore:
        return self  # a handle, as the workspace is

    def _copy(
        self,
        files: list[tuple[str, str]],
        target_path: str | None,
        overwrite: bool,
        show_progress: bool,
    ) -> DataReference:
        if self.folder:
            target = self.local_path(target_path)
            if self.workspace is not None:
                self.workspace._make()
            count = copy_all(files, target, overwrite)
        else:
            from rechain.data.transfer import send, show

            target = inside(self.name, target_path)
            self.storage.check_writable()
            there = set() if overwrite else {name for _, name in self.files(target)}
            pairs = [(path, os.path.normpath(os.path.join(target, name))) for path, name in files]
            pairs = [pair for pair in pairs if pair[1] not in there]
            send(self.storage, pairs, *((show,) if show_progress else ()))
            count = len(pairs)
        if show_progress:
            print(f"Uploaded {count} of {len(files)} files to {self.name}{stayed(files, count)}")
        return DataReference(self, path_on_datastore=target_path or "")


def stayed(files: Sequence[object], count: int) -> str:
    """Return what to say of the files that were not copied, since they were there already."""
    left = len(files) - count
    if not left:
        return ""
    return f": {left} {'was' if left == 1 else 'were'} there already, and stayed (no overwrite)"
