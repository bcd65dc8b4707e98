"""The process that makes an environment, or its image, ready on this machine."""

from __future__ import annotations

import os
import sys

from rechain.environment.errors import EnvironmentFailure
from rechain.record import jsonl
from rechain.supervisor.script import give, redirect
from rechain.supervisor.variables import SOURCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

__all__ = ["CODE", "become", "result_of"]

CODE = f"import sys; sys.path.insert(0, {SOURCE!r}); import rechain.environment.__main__"
"""What a new interpreter runs for it: `-m` would find modules of the user's folder first."""


def become(
    job: str, result: str, log: str, password: str | None, environment: Mapping[str, str],
    *more: str,
) -> NoReturn:  # fmt: skip
    """Become that process; called in a fresh child.

    Args:
        job: path of the job's document.
        result: path of what it leaves; see `rechain.environment.__main__`.
        log: path of what it says.
        password: of the image's registry.
        environment: its variables.
        *more: its further arguments.
    """
    give(password)
    redirect(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)
    os.dup2(1, 2)
    # A new interpreter: this one was started without the site-packages that preparing needs.
    argv = [sys.executable, "-I", "-c", CODE, job, result, *more]
    os.execve(argv[0], argv, environment)


def result_of(result: str, log: str, status: int) -> dict[str, Any]:
    """Return what that process left.

    Args:
        result: as for `become`.
        log: as for `become`.
        status: its wait status.

    Raises:
        EnvironmentFailure: it failed.
    """
    try:
        found: dict[str, Any] = jsonl.read(result)
    except (OSError, ValueError):
        raise EnvironmentFailure(
            "the process that builds it died",
            f"What it said is in {log}.",
            f"wait status {status}",
        ) from None
    if not found["ok"]:
        said = (found["message"], found["hint"], found.get("detail", ""), found["cause"])
        raise EnvironmentFailure(*said)
    return found
