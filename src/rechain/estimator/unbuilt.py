"""What an estimator can say, as in v1, and Rechain cannot run yet."""

from __future__ import annotations

from rechain.estimator.validation import is_notebook
from rechain.exceptions import NotBuiltError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["refuse_unbuilt"]


def refuse_unbuilt(given: dict[str, Any]) -> None:
    """Refuse to run what Rechain cannot do yet.

    Args:
        given: every parameter of an estimator, checked.

    Raises:
        NotBuiltError: something is asked for that is not built; it says what to do meanwhile.
    """
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
