"""References into datastores, as v1's `script_params` take them."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.data.data_path import DataPath, DataPathComputeBinding
    from rechain.data.datastore import Datastore
    from rechain.runconfig.data import DataReferenceConfiguration

__all__ = ["DataReference"]

_MODES = ("mount", "download", "upload")


class DataReference:
    """A folder or file of a datastore, and how a run gets at it.

    As a text it is `$AZUREML_DATAREFERENCE_<name>`: where a run finds it is in that variable.

    Args:
        datastore: the datastore.
        data_reference_name: the reference's name; the datastore's for a reference to all of it,
            else one that nothing else has.
        path_on_datastore: what of the datastore; all of it if left out.
        mode: `mount`: it is there for the run; `download`: a copy is made before the run;
            `upload`: what the run leaves at `path_on_compute` is copied to it.
        path_on_compute: where it is for the run.
        overwrite: whether files that are there already are replaced.

    Raises:
        UserErrorException: there is no such mode, or `datastore` is none.
    """

    def __init__(
        self,
        datastore: Datastore,
        data_reference_name: str | None = None,
        path_on_datastore: str | None = None,
        mode: str = "mount",
        path_on_compute: str | None = None,
        overwrite: bool = False,
    ) -> None:
        check_datastore(datastore)
        if mode not in _MODES:
            raise UserErrorException(f"mode is {mode!r}; it must be one of {', '.join(_MODES)}.")
        if not (path_on_datastore is None or isinstance(path_on_datastore, (str, os.PathLike))):
            raise UserErrorException(
                f"path_on_datastore is {path_on_datastore!r}, a "
                f"{type(path_on_datastore).__name__}; it must be a str."
            )
        path = None if path_on_datastore is None else os.fspath(path_on_datastore)
        self.datastore = datastore
        self.path_on_datastore = path
        if not data_reference_name:
            whole = path is None or os.path.normpath(path) in (".", "")
            data_reference_name = datastore.name if whole else os.urandom(16).hex()
        self.data_reference_name = data_reference_name
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite
        self._required = False  # whether a path that is mounted must be there

    @staticmethod
    def create(
        data_reference_name: str | None = None,
        datapath: DataPath | None = None,
        datapath_compute_binding: DataPathComputeBinding | None = None,
    ) -> DataReference:
        """Return the reference to a `DataPath`, got at as a `DataPathComputeBinding` says.

        Raises:
            ValueError: one of them is missing.
        """
        if datapath is None or datapath_compute_binding is None:
            raise ValueError("datapath and datapath_compute_binding must both be given")
        return datapath.create_data_reference(data_reference_name, datapath_compute_binding)

    def path(
        self, path: str | None = None, data_reference_name: str | None = None
    ) -> DataReference:
        """Return a reference to a folder or file within this one; itself without a path."""
        if not path:
            name = data_reference_name or self.data_reference_name
            return self._as(self.mode, self.path_on_compute, self.overwrite, name)
        parts = [part for part in (self.path_on_datastore, path) if part]
        return DataReference(
            self.datastore, data_reference_name, os.path.join(*parts) if parts else None
        )

    def as_mount(self) -> DataReference:
        """Return this reference, mounted."""
        return self._as("mount", self.path_on_compute, self.overwrite)

    def as_download(
        self, path_on_compute: str | None = None, overwrite: bool = False
    ) -> DataReference:
        """Return this reference, copied to `path_on_compute` before the run."""
        return self._as("download", path_on_compute, overwrite or self.overwrite)

    def as_upload(
        self, path_on_compute: str | None = None, overwrite: bool = False
    ) -> DataReference:
        """Return this reference, filled from `path_on_compute` after the run."""
        return self._as("upload", path_on_compute, overwrite or self.overwrite)

    def to_config(self) -> DataReferenceConfiguration:
        """Return the element of a run configuration's `data_references`."""
        from rechain.runconfig.data import DataReferenceConfiguration

        return DataReferenceConfiguration(
            self.datastore.name,
            self.mode,
            self.path_on_datastore,
            self.path_on_compute,
            self.overwrite,
        )

    @property
    def variable(self) -> str:
        """The variable that tells a run where it is."""
        return f"AZUREML_DATAREFERENCE_{self.data_reference_name}"

    @property
    def local_path(self) -> str | None:
        """Where it lies on this machine, absolute; None if it lies elsewhere."""
        if not self.datastore.folder:
            return None
        return str(self.datastore.local_path(self.path_on_datastore))

    def __str__(self) -> str:
        return f"${self.variable}"

    __repr__ = __str__

    def _as(
        self, mode: str, path_on_compute: str | None, overwrite: bool, name: str | None = None
    ) -> DataReference:
        return DataReference(
            self.datastore,
            name or self.data_reference_name,
            self.path_on_datastore,
            mode,
            path_on_compute,
            overwrite,
        )


def check_datastore(datastore: Any) -> None:
    """Refuse what is no datastore.

    Raises:
        UserErrorException: it is none.
    """
    if not (hasattr(datastore, "local_path") and isinstance(datastore.name, str)):
        raise UserErrorException(
            f"datastore is {datastore!r}, a {type(datastore).__name__}; it must be a Datastore, "
            "such as Workspace.get_default_datastore()."
        )
