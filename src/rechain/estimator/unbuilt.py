"""What an estimator can say, as in v1, and Rechain cannot run yet."""

from __future__ import annotations

from rechain.estimator.validation import is_notebook
from rechain.exceptions import NotBuiltError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["refuse_unbuilt"]

_IMAGE = (
    "Run without it: Rechain provides the Python and the packages itself, or takes yours with "
    "user_managed=True."
)

# The value that does not ask for it, and what to do meanwhile; the first is reported.
_UNBUILT: dict[str, tuple[object, str]] = {
    "image_registry_details": (None, _IMAGE),
}


def refuse_unbuilt(given: dict[str, Any]) -> None:
    """Refuse to run what Rechain cannot do yet.

    Args:
        given: every parameter of an estimator, checked.

    Raises:
        NotBuiltError: something is asked for that is not built; it says what to do meanwhile.
    """
    for name, (no_value, meanwhile) in _UNBUILT.items():
        value = given[name]
        if value != no_value and (value or no_value):
            raise NotBuiltError(f"{name}={value!r} is not built yet. {meanwhile}")
    training = type(given["distributed_training"]).__name__
    if training not in ("NoneType", "Mpi", "MpiConfiguration"):
        raise NotBuiltError(
            f"distributed_training={training}(...) is not built yet. Start one run per task, or "
            "use Mpi(...)."
        )
    script = given["entry_script"]
    if is_notebook(script) and (given["distributed_training"] or given["distributed_backend"]):
        raise NotBuiltError(
            f"entry_script is {script!r}; a notebook in several processes is not built yet. Write "
            "it as a script with `jupyter nbconvert --to script`."
        )
