"""The job: what was asked for, compiled, immutable, one JSON document."""

from __future__ import annotations

from rechain.exceptions import RunConfigurationException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["SCHEMA", "Job"]

SCHEMA = 1

# The fields of job.json in its order, and what a document that lacks one means.
_FIELDS: dict[str, Any] = {
    "run_id": None,
    "experiment": None,
    "workspace": None,
    "parent": None,
    "kind": "script",
    "source": {},
    "command": [],
    "environment": {},
    "variables": {},
    "inherited": {},
    "secrets": [],
    "inputs": [],
    "outputs": [],
    "distribution": {"nodes": 1, "processes_per_node": 1, "communicator": "None"},
    "limits": {"seconds": None, "grace_seconds": 10, "stall_seconds": None},
    "container": None,
    "target": "local",
    "pool": None,
    "slurm": None,
    "tags": {},
    "properties": {},
    "notes": [],
    "resumed": None,
    "replayed": None,
    "seen": {},
    "estimator": None,
    "submitted": None,
}


class Job:
    """A compiled request. docs/run-folder.md says what each field means.

    A job that an estimator compiles to has no `run_id`, `workspace`, `source["snapshot"]` and
    `submitted` yet; whoever submits it adds them with `replace`.

    Args:
        secret_values: the values of the variables named in `secrets`. They live in memory only:
            they are in no document and no repr.
        registry_password: the password that goes with the `registry` of its image; in memory only.
        fields: fields of job.json; those left out have their defaults.

    Raises:
        TypeError: a field does not exist.
    """

    __slots__ = ("_fields", "registry_password", "secret_values")

    secret_values: Mapping[str, str]
    registry_password: str | None
    _fields: Mapping[str, Any]

    def __init__(
        self,
        *,
        secret_values: Mapping[str, str] | None = None,
        registry_password: str | None = None,
        **fields: Any,
    ) -> None:
        unknown = fields.keys() - _FIELDS.keys()
        if unknown:
            raise TypeError(f"a job has no field {', '.join(sorted(unknown))}")
        values = dict(secret_values or {})
        complete = {name: _copy(fields.get(name, empty)) for name, empty in _FIELDS.items()}
        complete["secrets"] = sorted({*complete["secrets"], *values})
        object.__setattr__(self, "_fields", complete)
        object.__setattr__(self, "secret_values", values)
        object.__setattr__(self, "registry_password", registry_password)

    def __getattr__(self, name: str) -> Any:
        # Copies: a job that can be changed through its parts is not immutable.
        if name in _FIELDS:
            return _copy(self._fields[name])
        raise AttributeError(f"a job has no field {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a job is immutable; replace() makes a changed copy")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a job is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Job):
            return NotImplemented
        return self._fields == other._fields and self.secret_values == other.secret_values

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        changed = (
            f"{name}={self._fields[name]!r}"
            for name, empty in _FIELDS.items()
            if self._fields[name] != empty
        )
        return f"Job({', '.join(changed)})"

    def __reduce__(self) -> str:
        raise TypeError("a job is stored as job.json: its secrets must not be pickled")

    def replace(self, **fields: Any) -> Job:
        """Return a job with other values in some fields."""
        hidden: dict[str, Any] = {
            "secret_values": self.secret_values,
            "registry_password": self.registry_password,
        }
        return Job(**hidden, **{**self._fields, **fields})

    def to_json(self) -> dict[str, Any]:
        """Return the document, as in docs/run-folder.md."""
        return {"schema": SCHEMA, **{name: _copy(self._fields[name]) for name in _FIELDS}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Job:
        """Return the job of a document; fields that are unknown here are ignored.

        Raises:
            RunConfigurationException: it is not a job, or one that only a newer Rechain knows.
        """
        schema = document.get("schema") if isinstance(document, dict) else None
        if not isinstance(schema, int) or not isinstance(document.get("command"), list):
            raise RunConfigurationException(
                "This is not a job: it has no schema number or no command. Is it a job.json?"
            )
        if schema > SCHEMA:
            raise RunConfigurationException(
                f"This job was written by a newer Rechain: its schema is {schema}, this version "
                f"reads up to {SCHEMA}. Upgrade Rechain to use it."
            )
        return cls(**{name: document[name] for name in _FIELDS if name in document})


def _copy(value: Any) -> Any:
    """Return a copy of a JSON value."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    return value
