"""The data of a run configuration: what a run reads, and where its outputs go."""

from __future__ import annotations

from rechain.runconfig.section import Field, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Data",
    "DataLocation",
    "DataPath",
    "DataReferenceConfiguration",
    "DatacacheConfiguration",
    "Dataset",
    "DatasetRegistrationOptions",
    "GlobsOptions",
    "MountOptions",
    "OutputData",
    "OutputOptions",
    "RegistrationOptions",
    "UploadOptions",
    "Uri",
]


class DataReferenceConfiguration(Section):
    """A folder or file of a datastore, and how a run gets at it.

    Args:
        datastore_name: the datastore.
        mode: `mount`, `download` or `upload`.
        path_on_datastore: what of it; all of it if left out.
        path_on_compute: where it is for the run.
        overwrite: whether what is there already is replaced.
    """

    data_store_name = Field(str)
    path_on_data_store = Field(str)
    mode = Field(str, "mount")
    overwrite = Field(bool, False)
    path_on_compute = Field(str)

    def __init__(
        self,
        datastore_name: str | None = None,
        mode: str = "mount",
        path_on_datastore: str | None = None,
        path_on_compute: str | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__(
            data_store_name=datastore_name,
            mode=mode.lower() if isinstance(mode, str) else mode,
            path_on_data_store=path_on_datastore,
            path_on_compute=path_on_compute,
            overwrite=overwrite,
        )


class Dataset(Section):
    """A registered dataset.

    Args:
        dataset_id: its id.
        dataset_name: its name.
        dataset_version: its version.
    """

    id = Field(str)
    name = Field(str)
    version = Field(str)

    def __init__(
        self,
        dataset_id: str | None = None,
        dataset_name: str | None = None,
        dataset_version: str | None = None,
    ) -> None:
        super().__init__(id=dataset_id, name=dataset_name, version=dataset_version)


class DataPath(Section):
    """A path in a datastore.

    Args:
        datastore_name: the datastore.
        relative_path: the path in it.
    """

    datastore_name = Field(str)
    relative_path = Field(str)

    def __init__(
        self, datastore_name: str | None = None, relative_path: str | None = None
    ) -> None:
        super().__init__(datastore_name=datastore_name, relative_path=relative_path)


class Uri(Section):
    """An address.

    Args:
        path: the address.
        is_file: whether it is that of a file.
    """

    path = Field(str)
    is_file = Field(bool, False)

    def __init__(self, path: str | None = None, is_file: bool = False) -> None:
        super().__init__(path=path, is_file=is_file)


class DataLocation(Section):
    """Where data lies: one of a dataset, a path in a datastore, an address."""

    dataset = Field(Dataset)
    data_path = Field(DataPath)
    uri = Field(Uri)

    def __init__(
        self,
        dataset: Dataset | None = None,
        data_path: DataPath | None = None,
        uri: Uri | None = None,
    ) -> None:
        super().__init__(dataset=dataset, data_path=data_path, uri=uri)


class Data(Section):
    """An input of a run.

    Args:
        data_location: where it lies.
        create_output_directories: whether missing folders are made.
        mechanism: `direct`, `mount` or `download`.
        environment_variable_name: the variable that tells the script where it is.
        path_on_compute: where it is for the run.
        overwrite: whether what is there already is replaced.
        options: further settings.
    """

    data_location = Field(DataLocation)
    create_output_directories = Field(bool)
    mechanism = Field(str, "direct")
    environment_variable_name = Field(str)
    path_on_compute = Field(str)
    overwrite = Field(bool, False)
    options = Field(dict)

    def __init__(
        self,
        data_location: DataLocation | None = None,
        create_output_directories: bool | None = None,
        mechanism: str = "direct",
        environment_variable_name: str | None = None,
        path_on_compute: str | None = None,
        overwrite: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            data_location=data_location,
            create_output_directories=create_output_directories,
            mechanism=mechanism,
            environment_variable_name=environment_variable_name,
            path_on_compute=path_on_compute,
            overwrite=overwrite,
            options=options,
        )


class DatacacheConfiguration(Section):
    """A cached dataset, as v1's files have it.

    Args:
        dataset_id: the dataset.
        datacache_store: the cache.
        datacache_id: the entry in it.
        mode: how a run gets at it.
        path_on_compute: where it is for the run.
        replica: how many copies there are.
        failure_fallback: whether the dataset itself is read when the cache fails.
    """

    datacache_id = Field(str)
    datacache_store = Field(str)
    dataset_id = Field(str)
    mode = Field(str, "mount")
    replica = Field(int)
    failure_fallback = Field(bool, False)
    path_on_compute = Field(str)

    def __init__(
        self,
        dataset_id: str | None = None,
        datacache_store: str | None = None,
        datacache_id: str | None = None,
        mode: str = "mount",
        path_on_compute: str | None = None,
        replica: int | None = None,
        failure_fallback: bool = False,
    ) -> None:
        super().__init__(
            dataset_id=dataset_id,
            datacache_store=datacache_store,
            datacache_id=datacache_id,
            mode=mode,
            path_on_compute=path_on_compute,
            replica=replica,
            failure_fallback=failure_fallback,
        )


class GlobsOptions(Section):
    """Which files, by `patterns`."""

    patterns = Field(list)

    def __init__(self, patterns: list[str] | None = None) -> None:
        super().__init__(patterns=patterns)


class UploadOptions(Section):
    """How an output is copied: which files (`source_globs`), whether it may `overwrite` others."""

    overwrite = Field(bool, False)
    source_globs = Field(GlobsOptions)

    def __init__(self, overwrite: bool = False, source_globs: GlobsOptions | None = None) -> None:
        super().__init__(overwrite=overwrite, source_globs=source_globs)


class MountOptions(Section):
    """How an output is mounted."""

    disable_metadata_cache = Field(bool, False)

    def __init__(self, disable_metadata_cache: bool = False) -> None:
        super().__init__(disable_metadata_cache=disable_metadata_cache)


class DatasetRegistrationOptions(Section):
    """What is done to an output before it is a dataset."""

    additional_transformation = Field(str)

    def __init__(self, additional_transformations: str | None = None) -> None:
        super().__init__(additional_transformation=additional_transformations)


class RegistrationOptions(Section):
    """The dataset that an output becomes: `name`, `description`, `tags`."""

    name = Field(str)
    description = Field(str)
    tags = Field(dict)
    dataset_registration_options = Field(DatasetRegistrationOptions)

    def __init__(
        self,
        name: str | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        dataset_registration_options: DatasetRegistrationOptions | None = None,
    ) -> None:
        super().__init__(
            name=name,
            description=description,
            tags=tags,
            dataset_registration_options=dataset_registration_options,
        )


class OutputOptions(Section):
    """How an output is written and what becomes of it."""

    path_on_compute = Field(str)
    registration_options = Field(RegistrationOptions)
    upload_options = Field(UploadOptions)
    mount_options = Field(MountOptions)

    def __init__(
        self,
        path_on_compute: str | None = None,
        registration_options: RegistrationOptions | None = None,
        upload_options: UploadOptions | None = None,
        mount_options: MountOptions | None = None,
    ) -> None:
        super().__init__(
            path_on_compute=path_on_compute,
            registration_options=registration_options,
            upload_options=upload_options,
            mount_options=mount_options,
        )


class OutputData(Section):
    """An output of a run.

    Args:
        output_location: where it goes.
        mechanism: `mount` or `upload`.
        additional_options: an `OutputOptions`.
    """

    output_location = Field(DataLocation)
    mechanism = Field(str, "mount")
    additional_options = Field(OutputOptions)

    def __init__(
        self,
        output_location: DataLocation | None = None,
        mechanism: str = "mount",
        additional_options: OutputOptions | None = None,
    ) -> None:
        super().__init__(
            output_location=output_location,
            mechanism=mechanism,
            additional_options=additional_options,
        )
