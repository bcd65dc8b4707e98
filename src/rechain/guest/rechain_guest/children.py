"""Runs that a process leads itself: run folders it makes, and the journals it keeps for them.

Inside a job these are child runs. Outside of one Rechain makes interactive runs with this.
"""

import json
import os
import sys
import time

from . import artifacts, lines, place, writer
from .exceptions import UserErrorException

__all__ = [
    "TERMINAL",
    "choose",
    "end",
    "error_text",
    "last_attempt",
    "make",
    "new_id",
    "status",
    "tags_of",
]

TERMINAL = ("Completed", "Failed", "Canceled")

_STATUS = {"completed": "Completed", "canceled": "Canceled", "terminated": "Canceled"}

_MOST = 100

# Run folder -> (the process that made the run, its journal, the folder to keep files of).
_made = {}


def new_id(experiment):
    """Return a fresh run id."""
    return "{}_{}_{}".format(experiment, int(time.time()), os.urandom(4).hex())


def make(home, experiment, run_id=None, name=None, tags=None, outputs=None, **fields):
    """Make and start a run that this process leads.

    Args:
        home: the experiment's folder.
        experiment: the experiment.
        run_id: the run's id; a new one when None. A run of this id is started once more.
        name: what people call it.
        tags: its tags.
        outputs: a folder whose files are kept when it ends.
        **fields: more of its `job.json`; `parent` and `kind` among them.

    Returns:
        The run folder.

    Raises:
        UserErrorException: `run_id` is not a run id of this experiment.
    """
    run_id = run_id or new_id(experiment)
    head, _, tail = run_id.rpartition("_")
    if head.rpartition("_")[0] != experiment or len(tail) != 8 or "/" in run_id:
        raise UserErrorException(
            "{!r} is not a run id of this experiment; the form is "
            "{}_<unix seconds>_<8 hex digits>".format(run_id, experiment)
        )
    folder = os.path.join(home, run_id)
    os.makedirs(os.path.join(folder, "attempts"), exist_ok=True)
    job = _job(run_id, experiment, name, tags)
    job["submitted"]["rechain"] = fields.pop("rechain", None)
    job.update(fields)
    _write_new(os.path.join(folder, "job.json"), job)
    attempt = _claim(folder)
    journal = writer.LineFile(os.path.join(attempt, "journal.jsonl"), "seq")
    if not _made:
        import atexit

        atexit.register(_end_all)
    _made[folder] = (os.getpid(), journal, outputs and os.path.abspath(outputs))
    # This process is all the guard and supervisor there is: the run is over when it is.
    me = {"pid": os.getpid(), "start": place.process_start()}
    journal.append(
        {
            "event": "attempt",
            "attempt": int(os.path.basename(attempt)),
            "host": place.host(),
            "guard": me,
            "supervisor": me,
            "cgroup": None,
            "scope": None,
        }
    )
    journal.append({"event": "state", "state": "Running"}, sync=True)
    if job["parent"]:
        children = os.path.join(home, job["parent"], "children")
        os.makedirs(children, exist_ok=True)
        os.close(os.open(os.path.join(children, run_id), os.O_CREAT | os.O_WRONLY))
    return folder


def end(folder, cause, message="", detail=None):
    """End a run that is led by a process, if it has not ended.

    Args:
        folder: its run folder.
        cause: `completed`, `user_error` or `canceled`.
        message: what to tell people.
        detail: more of it, such as a traceback.
    """
    if status(folder) in TERMINAL:
        return
    event = {
        "event": "end",
        "cause": cause,
        "exit_code": None,
        "signal": None,
        "message": message,
        "detail": detail,
        "leftover": [],
    }
    pid, journal, outputs = _made.get(folder, (None, None, None))
    if pid == os.getpid():
        if outputs:
            try:
                artifacts.keep(folder, os.path.basename(outputs), outputs)
            except OSError as error:  # a full disk must not take the end as well
                sys.stderr.write("rechain: {} is not kept: {}\n".format(outputs, error))
        journal.append(event, sync=True)
        return
    # Another process than the maker's, say a worker of a pool: the journal is not ours to write.
    event.update(schema=1, t=time.time())
    attempt = os.path.join(folder, "attempts", str(last_attempt(folder)))
    _write_new(os.path.join(attempt, "guard.json"), event)


def last_attempt(folder):
    """Return the number of a run's newest attempt, 0 when there is none."""
    try:
        names = os.listdir(os.path.join(folder, "attempts"))
    except OSError:
        return 0
    return max([int(name) for name in names if name.isdecimal()] or [0])


def status(folder):
    """Return a run's v1 status, as its files say."""
    attempt = os.path.join(folder, "attempts", str(last_attempt(folder)))
    events, _ = lines.read_lines(os.path.join(attempt, "journal.jsonl"))
    events.sort(key=lambda row: row.get("seq", 0))
    ends = [row for row in events if row.get("event") == "end"]
    for name in ("guard.json", "lost.json"):
        ends.append(lines.read_document(os.path.join(attempt, name)))
    for row in ends:
        if row.get("cause"):
            return _STATUS.get(row["cause"], "Failed")
    states = [row["state"] for row in events if row.get("event") == "state"]
    return states[-1] if states else "NotStarted"


def tags_of(count, tag_key, tag_values):
    """Return the tags of each child that `create_children` is to make.

    Raises:
        UserErrorException: the arguments contradict each other, or ask for too many.
    """
    if (tag_key is None) != (tag_values is None):
        raise UserErrorException("tag_key and tag_values belong together")
    if tag_values is None:
        if count is None:
            raise UserErrorException("give either count, or tag_key and tag_values")
        found = [{} for _ in range(count)]
    else:
        found = [{str(tag_key): str(value)} for value in tag_values]
        if count is not None and count != len(found):
            raise UserErrorException("{} tag values for {} children".format(len(found), count))
    if len(found) > _MOST:
        raise UserErrorException("at most {} children at once".format(_MOST))
    return found


def choose(runs, recursive, tags, properties, status):
    """Yield those runs, and with `recursive` those of their children, that fit."""
    for run in runs:
        if (
            _has(run.get_tags, tags)
            and _has(run.get_properties, properties)
            and (status is None or run.get_status() == status)
        ):
            yield run
        if recursive:
            for below in run.get_children(True, tags, properties, None, status):
                yield below


def error_text(details):
    """Return the text of what `fail` is given.

    Raises:
        TypeError: it is neither text nor an exception.
    """
    if details is None or isinstance(details, str):
        return details or ""
    if isinstance(details, BaseException):
        return "{}: {}".format(type(details).__name__, details)
    raise TypeError("error_details must be a string or an exception")


def _has(get, wanted):
    if not wanted:
        return True
    present = get()
    if isinstance(wanted, dict):
        return all(k in present and present[k] == v for k, v in wanted.items())
    return all(name in present for name in ([wanted] if isinstance(wanted, str) else wanted))


def _end_all():
    """End what the script left open, as the script itself ends."""
    # At a prompt, as in a notebook, an error is that of one line only.
    failed = None if hasattr(sys, "ps1") else getattr(sys, "last_value", None)
    for folder, (pid, _, _) in list(_made.items()):
        if pid != os.getpid():
            continue
        if failed is None:
            end(folder, "completed")
        else:
            end(folder, "user_error", "{}: {}".format(type(failed).__name__, failed))


def _claim(folder):
    number = last_attempt(folder)
    while True:
        number += 1
        attempt = os.path.join(folder, "attempts", str(number))
        try:
            os.mkdir(attempt)
            return attempt
        except FileExistsError:
            continue


def _job(run_id, experiment, name, tags):
    import getpass

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in many containers
        user = str(os.getuid())
    return {
        "schema": 1,
        "run_id": run_id,
        "experiment": experiment,
        "workspace": os.environ.get("AZUREML_ARM_WORKSPACE_NAME"),
        "parent": None,
        "kind": "child",
        "display_name": name,
        "source": {"directory": os.getcwd(), "snapshot": None},
        "command": list(getattr(sys, "argv", [])),
        "environment": {"kind": "user-managed", "python": sys.executable},
        "variables": {},
        "secrets": [],
        "inherited": {},
        "distribution": {"nodes": 1, "processes_per_node": 1, "communicator": "None"},
        "limits": {"seconds": None, "grace_seconds": 10},
        "target": "local",
        "tags": tags or {},
        "properties": {},
        "notes": [],
        "estimator": {},
        "submitted": {
            "time": time.time(),
            "user": user,
            "host": place.host(),
            "pid": os.getpid(),
            "start": place.process_start(),
            "rechain": None,
        },
    }


def _write_new(path, value):
    """Write a document unless it is there already; whole or not at all."""
    temporary = "{}.{}.tmp".format(path, os.urandom(4).hex())
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
