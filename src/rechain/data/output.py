"""Outputs of a run that go to a datastore."""

from __future__ import annotations

import copy
import os

from rechain.data import names
from rechain.data.data_reference import check_datastore
from rechain.data.dataset import DatasetConsumptionConfig
from rechain.exceptions import UserErrorException
from rechain.planned import unbuilt
from rechain.runconfig.registered import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rechain.data.datastore import Datastore
    from rechain.runconfig.data import OutputData

__all__ = ["OutputFileDatasetConfig"]


@unbuilt("Read the files with a program of yours.", "read_delimited_files", "read_parquet_files")
class OutputFileDatasetConfig:
    """A folder that a run writes and that goes to a datastore.

    Args:
        name: its name; one that nothing else has if left out.
        destination: a datastore and a path in it, which may have `{run-id}` and `{output-name}`
            in it; `dataset/{run-id}/{output-name}` of the default datastore if left out.
        source: where the run writes it; a folder of its own if left out.
        partition_format: not built yet.

    Attributes:
        mode: `mount`, or `upload`.
        destination: as given.
        source: as given.

    Raises:
        UserErrorException: the name cannot be one, or the destination is something else.
    """

    def __init__(
        self,
        name: str | None = None,
        destination: tuple[Datastore, str] | None = None,
        source: str | os.PathLike[str] | None = None,
        partition_format: str | None = None,
    ) -> None:
        self._name = names.made("output") if name is None else names.checked("output", name)
        if destination is not None:
            if not (isinstance(destination, (tuple, list)) and len(destination) == 2):
                raise UserErrorException(
                    f"destination is {destination!r}; it must be a datastore and a path in it: "
                    '(datastore, "outputs/{run-id}").'
                )
            check_datastore(destination[0])
        self.mode = "mount"
        self.destination = destination
        self.source = None if source is None else os.fspath(source)
        self.partition_format = partition_format
        self._upload: tuple[bool, list[str] | None] | None = None
        self._mount: bool | None = None
        self._registration: tuple[str, str | None, dict[str, str] | None] | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def arg_val(self) -> str:
        """What stands for it among the arguments of a run configuration."""
        return f"DatasetOutputConfig:{self._name}"

    def as_mount(self, disable_metadata_cache: bool = False) -> OutputFileDatasetConfig:
        """Return this output, written to the datastore itself."""
        changed = copy.copy(self)
        changed.mode, changed._mount, changed._upload = "mount", disable_metadata_cache, None
        return changed

    def as_upload(
        self, overwrite: bool = False, source_globs: str | list[str] | None = None
    ) -> OutputFileDatasetConfig:
        """Return this output, copied after the run.

        Args:
            overwrite: whether files that are there already are replaced.
            source_globs: patterns of the files that are copied; all if left out.
        """
        globs = [source_globs] if isinstance(source_globs, str) else source_globs
        changed = copy.copy(self)
        changed.mode, changed._mount, changed._upload = "upload", None, (overwrite, globs)
        return changed

    def register_on_complete(
        self, name: str, description: str | None = None, tags: dict[str, str] | None = None
    ) -> OutputFileDatasetConfig:
        """Return this output, to be registered as a dataset when the run has completed.

        Args:
            name: the dataset's name; each run that completes makes its next version.
            description: what to say of it.
            tags: its tags.

        Raises:
            UserErrorException: the name cannot be one.
        """
        check_name("dataset", "name", name)
        changed = copy.copy(self)
        changed._registration = (name, description, None if tags is None else dict(tags))
        return changed

    def as_input(self, name: str | None = None) -> DatasetConsumptionConfig:
        """Return this output as the input of another run."""
        return DatasetConsumptionConfig(name or names.made("input"), self, "mount")

    def to_output_data(self) -> OutputData:
        """Return the element of a run configuration's `output_data`."""
        from rechain.runconfig import data

        location = None
        if self.destination is not None:
            datastore, path = self.destination
            location = data.DataLocation(data_path=data.DataPath(datastore.name, path))
        upload = mount = None
        if self._upload is not None:
            overwrite, globs = self._upload
            patterns = None if globs is None else data.GlobsOptions(globs)
            upload = data.UploadOptions(overwrite, patterns)
        else:
            mount = data.MountOptions(bool(self._mount))
        name, description, tags = self._registration or (None, None, None)
        registration = data.RegistrationOptions(
            name, description, tags, data.DatasetRegistrationOptions()
        )
        options = data.OutputOptions(self.source, registration, upload, mount)
        return data.OutputData(location, self.mode, options)

    def __repr__(self) -> str:
        return f"OutputFileDatasetConfig({self._name!r}, mode={self.mode!r})"
