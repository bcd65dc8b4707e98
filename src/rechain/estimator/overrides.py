"""What a submission may say in place of an estimator, for one run."""

from __future__ import annotations

from rechain.estimator import arguments
from rechain.estimator.base import MMLBaseEstimator
from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["overridden"]

_ALLOWED = ("script_params", "inputs", "source_directory_data_store")


def overridden(config: object, overrides: dict[str, Any]) -> tuple[Any, list[str] | None]:
    """Return an estimator with other values for some parameters; it is not changed itself.

    Args:
        config: what is submitted.
        overrides: `script_params`: each replaces the one of its name, others are added;
            `inputs`: added, or in place of those of their name; `source_directory_data_store`.
            None leaves what is there.

    Returns:
        The estimator, and the script's arguments if its `run_config` says these.

    Raises:
        UserErrorException: something else is to be changed, or not of an estimator, or a value
            can never work.
    """
    for name in overrides:
        if name not in _ALLOWED:
            raise UserErrorException(
                f"{name}= cannot be overridden at submit; allowed: {', '.join(_ALLOWED)}"
            )
    if not isinstance(config, MMLBaseEstimator):
        raise UserErrorException(
            f"{', '.join(overrides)}: only an estimator takes overrides at submit; change the "
            f"{type(config).__name__} itself, or a copy.deepcopy of it."
        )
    given = {name: value for name, value in overrides.items() if value is not None}
    base, flat = config._as_changed()
    if "script_params" in given:
        if flat is not None:
            raise UserErrorException(
                "script_params= at submit, but run_config.arguments was changed too, where "
                "options and their values cannot be told apart; give one or the other."
            )
        if isinstance(given["script_params"], dict):  # what is none is refused below
            frozen = arguments.freeze(given["script_params"])
            given["script_params"] = {**base._given["script_params"], **frozen}
    if isinstance(given.get("inputs"), (list, tuple)):
        given["inputs"] = [*base._given["inputs"], *given["inputs"]]
    changed = base._with(**given)
    return changed, None if flat is None else arguments.to_argv(arguments.freeze({"": flat}))
