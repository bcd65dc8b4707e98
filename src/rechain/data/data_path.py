"""Paths in datastores."""

from __future__ import annotations

import os

from rechain.data.data_reference import DataReference, check_datastore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.data.datastore import Datastore

__all__ = ["DataPath", "DataPathComputeBinding"]


class DataPathComputeBinding:
    """How a run gets at a `DataPath`.

    Args:
        mode: `mount`, `download` or `upload`.
        path_on_compute: where it is for the run.
        overwrite: whether files that are there already are replaced.
    """

    def __init__(
        self, mode: str = "mount", path_on_compute: str | None = None, overwrite: bool = False
    ) -> None:
        self._mode = mode
        self._path_on_compute = path_on_compute
        self._overwrite = overwrite

    def create_data_reference(
        self, data_reference_name: str | None = None, datapath: DataPath | None = None
    ) -> DataReference:
        """Return the reference to a path, got at so."""
        return DataReference.create(data_reference_name, datapath, self)

    @staticmethod
    def create_from_data_reference(data_reference: DataReference) -> DataPathComputeBinding:
        """Return how a reference is got at."""
        return DataPathComputeBinding(
            data_reference.mode, data_reference.path_on_compute, data_reference.overwrite
        )


class DataPath:
    """A folder or file of a datastore.

    Args:
        datastore: the datastore.
        path_on_datastore: the path in it; all of it if left out.
        name: a name for it.

    Raises:
        ValueError: there is no datastore.
        UserErrorException: it is something else.
    """

    def __init__(
        self,
        datastore: Datastore | None = None,
        path_on_datastore: str | None = None,
        name: str | None = None,
    ) -> None:
        if datastore is None:
            raise ValueError("datastore must be given")
        check_datastore(datastore)
        self._datastore = datastore
        self._path_on_datastore = path_on_datastore
        self._name = name or f"{datastore.name}_{os.urandom(4).hex()}"

    @property
    def datastore_name(self) -> str:
        """The datastore's name."""
        return self._datastore.name

    @property
    def path_on_datastore(self) -> str | None:
        """The path in the datastore."""
        return self._path_on_datastore

    def create_data_reference(
        self,
        data_reference_name: str | None = None,
        datapath_compute_binding: DataPathComputeBinding | None = None,
    ) -> DataReference:
        """Return a reference to this path.

        Raises:
            ValueError: `datapath_compute_binding` is missing.
        """
        if datapath_compute_binding is None:
            raise ValueError("datapath_compute_binding must be given")
        return DataReference(
            self._datastore,
            data_reference_name,
            self._path_on_datastore,
            datapath_compute_binding._mode,
            datapath_compute_binding._path_on_compute,
            datapath_compute_binding._overwrite,
        )

    @staticmethod
    def create_from_data_reference(data_reference: DataReference) -> DataPath:
        """Return the path that a reference is to."""
        return DataPath(data_reference.datastore, data_reference.path_on_datastore)

    def __repr__(self) -> str:
        return f"DataPath({self.datastore_name!r}, {self._path_on_datastore!r})"
