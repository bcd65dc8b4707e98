"""The secrets of datastores: from the environment, or the system's keyring; in no file of ours."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["find", "forget", "give", "keep", "variable", "variables"]

_SERVICE = "rechain"
_given: dict[str, str] = {}  # what this process was told, by the variable that would hold it


def variable(name: str, field: str) -> str:
    """Return the environment variable of a datastore's secret."""
    return f"RECHAIN_DATASTORE_{name.upper()}_{field.upper()}"


def give(name: str, values: Mapping[str, str]) -> None:
    """Let this process, and the runs that it submits, use secrets of a datastore."""
    _given.update({variable(name, field): value for field, value in values.items()})


def variables() -> dict[str, str]:
    """Return the secrets that this process was given, as variables for a child process."""
    return dict(_given)


def keep(url: str, values: Mapping[str, str]) -> bool:
    """Keep secrets in the system's keyring; return whether it took them."""
    try:
        import keyring

        for field, value in values.items():
            keyring.set_password(_SERVICE, f"{url}#{field}", value)
    except Exception:  # not installed, no keyring in this session, locked: each raises its own
        return False
    return True


def forget(url: str, fields: Iterable[str]) -> None:
    """Remove secrets from the system's keyring, as far as they are there."""
    try:
        import keyring
    except ImportError:
        return
    for field in fields:
        try:
            keyring.delete_password(_SERVICE, f"{url}#{field}")
        except Exception:  # see `keep`
            continue


def find(name: str, url: str, fields: Iterable[str]) -> dict[str, str]:
    """Return the secrets of a datastore that can be had.

    What this process was told comes first, then `RECHAIN_DATASTORE_<NAME>_<FIELD>`, then the
    keyring.
    """
    wanted = {field: variable(name, field) for field in fields}
    found = {
        field: value
        for field, key in wanted.items()
        if (value := _given.get(key) or os.environ.get(key))
    }
    if found or not wanted:
        return found
    try:
        import keyring

        kept = {field: keyring.get_password(_SERVICE, f"{url}#{field}") for field in wanted}
    except Exception:  # see `keep`
        return {}
    return {field: value for field, value in kept.items() if value}
