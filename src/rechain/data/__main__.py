"""Bring or take the data of a run, in a process of its own: `... bring|take RUN RESULT_JSON`.

The supervisor, and the submitter to Slurm, start this by import. Lines for people go to stdout;
the outcome goes to RESULT_JSON: `{"schema": 1, "ok": true}`, or `"ok": false` with `message`,
`hint` and `detail`.
"""

from __future__ import annotations

import sys

from rechain.data import staging
from rechain.environment import store
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.paths import RunPaths

__all__ = ["main"]


def main(what: str, root: str, result: str) -> int:
    """Bring or take the data of a run.

    Args:
        what: `bring` or `take`.
        root: the run's folder.
        result: path of the outcome to write.

    Returns:
        The exit code: 0 if all is done, else 1.
    """
    found: dict[str, object] = {}
    said = {"message": "", "hint": "", "detail": ""}
    try:
        if what == "bring":
            staging.bring(RunPaths(root), store.cache_root(), _say)
        else:
            found["outputs"] = staging.take(RunPaths(root), _say)
    except UserErrorException as error:
        said["message"] = str(error.message).rstrip(".")
    except OSError as error:
        said["message"] = f"{error.filename or 'the data'}: {error.strerror or error}"
    except Exception as error:
        # Whatever it is, the run must end with a reason and not in silence.
        import traceback

        said["message"] = f"{type(error).__name__}: {error}"
        said["hint"] = "This is a fault of Rechain: please report it with the run's prepare.log."
        said["detail"] = traceback.format_exc()
    failed = bool(said["message"])
    jsonl.write_atomic(
        result, {"schema": 1, "ok": not failed, **found, **(said if failed else {})}
    )
    if failed:
        _say(said["message"])
    return int(failed)


def _say(line: str) -> None:
    print(line, flush=True)


sys.exit(main(*sys.argv[1:]))
