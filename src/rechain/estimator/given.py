"""What an estimator is given, as Python's own values: what v1's callers pass for them works."""

from __future__ import annotations

from rechain.runconfig.plain import count, flag, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["tidied"]

_LISTS = ("conda_packages", "pip_packages", "inputs")
_FLAGS = (
    "use_gpu", "use_docker", "user_managed", "_enable_optimized_mode", "_disable_validation",
    "_show_lint_warnings", "_show_package_warnings",
)  # fmt: skip


def tidied(given: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as Python's own values; what cannot become one stays, to be refused.

    An empty text, list or the like names nothing: it is what a form or a variable that is not set
    leaves. Of a flag that and None are false, as for v1.
    """
    return {name: _TIDY.get(name, _or_none)(value) for name, value in given.items()}


def _or_none(value: Any) -> Any:
    is_empty = value is False or (isinstance(value, (str, list, tuple, dict, set)) and not value)
    return None if is_empty else value


def _flag(value: Any) -> Any:
    return False if value is None or value == "" else flag(value)


def _list(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)  # the same job must have the same environment
    is_several = hasattr(value, "__iter__") and not isinstance(value, (str, bytes, dict))
    return _or_none(list(value) if is_several else value)


def _pip(value: Any) -> Any:
    # As in a requirement file, a blank line is nothing.
    found = _list(value)
    if not isinstance(found, list):
        return found
    return [item for item in found if not isinstance(item, str) or item.strip()]


def _priority(value: Any) -> Any:
    return _or_none(value.lower() if isinstance(value, str) else value)


_TIDY: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_FLAGS, _flag),
    **dict.fromkeys(_LISTS, _list),
    "pip_packages": _pip,
    "node_count": count,
    "process_count_per_node": count,
    "max_run_duration_seconds": seconds,
    "vm_priority": _priority,
    # v1 knows no version but those that it lists.
    "framework_version": lambda value: None if value == "" else value,
}
