"""Bring or send the data of a run, in a process of its own: `... WHAT RUN RESULT_JSON`.

`bring` brings its inputs, `mirror` sends outputs as they come and never ends by itself, `take`
sends those of a run that was stopped or failed, `finish` those of a completed one, and registers
them. `rest` is `take` in a process that nobody waits for.

`lend RUN RESULT_JSON FOLDERS_JSON` and `bring-all RUN RESULT_JSON` are the same for nodes that do
not see the run's folder.

The supervisor, and the submitter to Slurm, start this by import. Lines for people go to stdout;
the outcome goes to RESULT_JSON: `{"schema": 1, "ok": true}`, or `"ok": false` with `message`,
`hint` and `detail`.
"""

from __future__ import annotations

import os
import sys

from rechain.data import apart, sending, staging
from rechain.environment import store
from rechain.exceptions import SnapshotException, UserErrorException
from rechain.record import jsonl
from rechain.record.paths import RunPaths

__all__ = ["main"]


def main(what: str, root: str, result: str, folders: str = "[]") -> int:
    """Bring or send the data of a run.

    Args:
        what: `bring`, `mirror`, `take`, `finish`, `rest`, `lend` or `bring-all`.
        root: the run's folder.
        result: path of the outcome to write.
        folders: what to lend, as JSON.

    Returns:
        The exit code: 0 if all is done, else 1.
    """
    if what == "rest":
        if os.fork():
            return 0
        os.setsid()
    found: dict[str, object] = {}
    said = {"message": "", "hint": "", "detail": ""}
    run, cache = RunPaths(root), store.cache_root()
    try:
        if what == "bring":
            staging.bring(run, cache, _say)
        elif what == "mirror":
            sending.mirror(run, _say)
        elif what == "lend":
            found |= apart.lend(run, cache, jsonl.loads(folders), _say)
        elif what == "bring-all":
            found["held"] = apart.bring_all(run, cache, _say)
        else:
            found["outputs"] = sending.take(run, _say)
            if what == "finish":
                found["datasets"] = sending.register(run, _say)
    except UserErrorException as error:
        said["message"] = str(error.message).rstrip(".")
    except SnapshotException as error:
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
