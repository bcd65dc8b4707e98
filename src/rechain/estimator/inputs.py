"""Data among an estimator's parameters: what it is called in v1's words, and where it lies.

A mounted folder of a datastore on this machine is used where it is; all else gets its place when
the run is prepared.
"""

from __future__ import annotations

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rechain.runconfig.run_configuration import RunConfiguration

__all__ = [
    "RESUME", "as_data", "describe", "find", "places", "requests", "resumed", "text",
    "through",
]  # fmt: skip

RESUME = "--resume-from"


def as_data(value: object) -> Any:
    """Return what stands for data among arguments, a datastore as the reference to all of it.

    Anything else is None.
    """
    if not type(value).__module__.startswith("rechain.data."):  # nothing is imported to ask
        return None
    from rechain.data import Datastore

    return value.path() if isinstance(value, Datastore) else value


def text(value: object) -> str:
    """Return an argument as the text that v1 has in a run configuration."""
    return str(getattr(value, "arg_val", value))


def resumed(frozen: dict[Any, tuple[Any, ...]], path: Any) -> dict[Any, tuple[Any, ...]]:
    """Return frozen `script_params` with what `resume_from` adds to them, as in v1.

    Only a `DataPath` adds something; how a script goes on from a run or a file, it is asked when
    it is submitted.
    """
    if as_data(path) is None:
        return frozen
    from rechain.data import DataPathComputeBinding

    reference = path.create_data_reference("MODEL_LOCATION", DataPathComputeBinding())
    return {**frozen, RESUME: (reference,)}


def through(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job's `source` says of the datastore that the source folder goes through."""
    store = given["source_directory_data_store"]
    if store is None:
        return {}
    return {"copy": {"store": store._document}}


def find(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of an estimator by what names it as text.

    Args:
        given: the estimator's parameters, checked; `script_params` frozen.
    """
    values = [
        value for key, several in given["script_params"].items() for value in (key, *several)
    ]
    values += given["inputs"] or ()
    if given["source_directory_data_store"] is not None:  # found by a variable, never brought
        values.append(given["source_directory_data_store"])
    found = [as_data(value) for value in values]
    return {text(value): value for value in found if value is not None}


def describe(found: Mapping[str, Any], made: RunConfiguration) -> None:
    """Put data into a run configuration, as v1 has it there.

    Args:
        found: as `find` returns it.
        made: the run configuration.
    """
    if not found:
        return
    from rechain.data import DataReference, DatasetConsumptionConfig, OutputFileDatasetConfig

    for value in found.values():
        if isinstance(value, DataReference):
            made.data_references[value.data_reference_name] = value.to_config()
        elif isinstance(value, DatasetConsumptionConfig):
            made.data[value.name] = value.to_data()
        elif isinstance(value, OutputFileDatasetConfig):
            made.output_data[value.name] = value.to_output_data()


def places(found: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Say where data lies for a run, as far as that is known before it is prepared.

    Args:
        found: as `find` returns it.

    Returns:
        The place by the text that names it, and by the variable that tells the script.
    """
    by_text, by_variable = {}, {}
    for name, value in found.items():
        place = _place(value)
        if place is not None:
            by_text[name] = place
            by_variable[_variable(value)] = place
    return by_text, by_variable


def _variable(value: Any) -> str:
    return str(getattr(value, "variable", None) or value.name)


def _place(value: Any) -> str | None:
    from rechain.data import DataReference, DatasetConsumptionConfig

    if not isinstance(value, (DataReference, DatasetConsumptionConfig)):
        return None
    if value.mode != "mount" or value.path_on_compute:
        return None
    place = value.local_path
    return None if place is None else str(place)


def requests(
    found: Mapping[str, Any],
    default: Callable[[], Any] | None = None,
    source_store: Any = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the `inputs` and the `outputs` of a job, as docs/run-folder.md describes them.

    Args:
        found: as `find` returns it.
        default: returns the datastore of outputs that name none.
        source_store: the datastore of the source folder; it is none of the inputs.

    Raises:
        UserErrorException: something is data, but not in a form that a run can get; or an output
            is to go where nothing can be written.
    """
    read: list[dict[str, Any]] = []
    written: list[dict[str, Any]] = []
    if not found:
        return read, written
    apart = () if source_store is None else (text(as_data(source_store)),)
    from rechain.data import DataReference, DatasetConsumptionConfig, OutputFileDatasetConfig

    for name, value in found.items():
        if name in apart:
            continue
        if isinstance(value, DataReference):
            common: dict[str, Any] = {
                "name": value.data_reference_name, "kind": "reference", "mode": value.mode,
                "variable": value.variable, "text": name,
                "path_on_compute": value.path_on_compute, "overwrite": value.overwrite,
            }  # fmt: skip
            source = {"store": value.datastore._document, "path": value.path_on_datastore or ""}
            if value.mode == "upload":
                written.append({**common, **source, "globs": None, "registration": None})
            else:
                more = {"sources": [source], "dataset": None, "required": value._required}
                read.append({**common, **more})
        elif isinstance(value, DatasetConsumptionConfig):
            read.append(
                {
                    "name": value.name, "kind": "dataset", "mode": value.mode,
                    "variable": value.name, "text": name,
                    "path_on_compute": value.path_on_compute, "overwrite": False,
                    "sources": _sources(value), "dataset": _registered(value.dataset),
                }
            )  # fmt: skip
        elif isinstance(value, OutputFileDatasetConfig):
            written.append(_output(value, name, default))
        else:
            raise UserErrorException(
                f"{value!r} is no argument; say how the run gets at it: dataset.as_mount(), "
                "datastore.path(...).as_mount()."
            )
    if written:
        from rechain.data.storage import check_writable

        for one in written:
            check_writable(one["store"]["name"], one["store"]["url"])
    return read, written


def _sources(value: Any) -> list[dict[str, Any]]:
    from rechain.data import FileDataset, OutputFileDatasetConfig

    dataset = value.dataset
    if isinstance(dataset, FileDataset):
        return [{"store": store._document, "path": path} for store, path in dataset._sources]
    if isinstance(dataset, OutputFileDatasetConfig) and dataset.destination is not None:
        store, path = dataset.destination
        if "{run-id}" not in path:
            path = path.replace("{output-name}", dataset.name)
            return [{"store": store._document, "path": path}]
    raise UserErrorException(
        f"the input {value.name!r} is of {dataset!r}; it must be a dataset of files, or an output "
        "whose destination has no {run-id} in it."
    )


def _registered(dataset: Any) -> dict[str, Any] | None:
    if not getattr(dataset, "version", None):
        return None
    return {"id": dataset.id, "name": dataset.name, "version": dataset.version}


def _output(value: Any, name: str, default: Any) -> dict[str, Any]:
    destination = value.destination
    if destination is None and default is not None:
        destination = (default(), "dataset/{run-id}/{output-name}")
    if destination is None:
        raise UserErrorException(
            f"the output {value.name!r} has no destination: give a datastore and a path in it."
        )
    store, path = destination
    overwrite, globs = value._upload or (False, None)
    registration = None
    if value._registration is not None:
        fields = ("name", "description", "tags")
        registration = dict(zip(fields, value._registration, strict=True))
    return {
        "name": value.name, "kind": "dataset", "mode": value.mode, "variable": value.name,
        "text": name, "path_on_compute": value.source, "overwrite": overwrite,
        "store": store._document, "path": path, "globs": globs, "registration": registration,
    }  # fmt: skip
