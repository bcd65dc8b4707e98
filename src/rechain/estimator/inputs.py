"""Data among an estimator's parameters: what it is called in v1's words, and where it lies.

A mounted folder of a datastore on this machine is used where it is; copies before and after a run
are not built yet.
"""

from __future__ import annotations

from rechain.exceptions import NotBuiltError, UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.runconfig.run_configuration import RunConfiguration

__all__ = ["RESUME", "as_data", "describe", "find", "places", "resumed", "text"]

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


def find(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of an estimator by what names it as text.

    Args:
        given: the estimator's parameters, checked; `script_params` frozen.
    """
    values = [
        value for key, several in given["script_params"].items() for value in (key, *several)
    ]
    values += given["inputs"] or ()
    if given["source_directory_data_store"] is not None:
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
    """Say where data lies for a run.

    Args:
        found: as `find` returns it.

    Returns:
        The place by the text that names it, and by the variable that tells the script.

    Raises:
        NotBuiltError: it would have to be copied.
        UserErrorException: it is data, but not in a form that can be an argument.
    """
    by_text, by_variable = {}, {}
    for name, value in found.items():
        by_text[name] = _place(value)
        by_variable[getattr(value, "variable", None) or value.name] = by_text[name]
    return by_text, by_variable


def _place(value: Any) -> str:
    from rechain.data import DataReference, DatasetConsumptionConfig, OutputFileDatasetConfig

    if isinstance(value, DataReference):
        name = value.data_reference_name
    elif isinstance(value, (DatasetConsumptionConfig, OutputFileDatasetConfig)):
        name = value.name
    else:
        raise UserErrorException(
            f"{value!r} is no argument; say how the run gets at it: dataset.as_mount(), "
            "datastore.path(...).as_mount()."
        )
    if value.mode == "mount" and not getattr(value, "path_on_compute", None):
        place = getattr(value, "local_path", None)
        if place is not None:
            return str(place)
    raise NotBuiltError(
        f"the data {name!r} ({value.mode}) is not built yet: what a run can have is a folder or "
        "file of a datastore as it lies. Use datastore.path(...).as_mount(), or as_mount() of a "
        "dataset that is one folder or file."
    )
