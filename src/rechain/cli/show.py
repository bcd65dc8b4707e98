"""`rechain show`: all about one run."""

from __future__ import annotations

import time

import click

from rechain.cli.shared import RUN, colored, duration, find_run, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.workspace import Run

__all__ = ["command"]


@click.command("show", short_help="Show one run.")
@RUN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(run: str, as_json: bool) -> None:
    """Show what is known of RUN: an id, the beginning of one, or `latest`, the default."""
    import shlex

    from rechain.workspace.details import (
        describe,
        hint,
        installed,
        nodes_in_words,
        queued_seconds,
    )  # fmt: skip

    found = find_run(run)
    if as_json:
        import json

        details = {"folder": found.folder, "cause": found.cause, **found.get_details()}
        click.echo(json.dumps(details, indent=2))
        return
    state = found._state()
    job = found._job
    rows = [("run", found.id), ("status", state.status)]
    if state.end:
        rows.append(("cause", describe(state.end)))
        if state.end["cause"] != "completed":
            more = (state.end.get("detail") or "", hint(state.end) or "")
            rows += [("", line) for text in more for line in text.splitlines()]
    rows.append(("command", shlex.join(job["command"])))
    rows.append(("source", job["source"]["directory"]))
    if copy := job["source"].get("copy"):
        rows.append(("", f"through {copy['store']['name']}/{copy['path']}"))
    if job.get("replayed"):
        rows.append(("replay of", job["replayed"]))
    if job.get("resumed"):
        from rechain.workspace.resuming import in_words

        rows.append(("resumed", in_words(job["resumed"])))
    rows += [("input", text) for text in _data(found, "inputs")]
    rows += [("output", text) for text in _data(found, "outputs")]
    rows.append(("environment", _environment(found)))
    rows += [("image", text) for text in _image(found)]
    rows += [("installed", f"{text}, by the script") for text in installed(found)]
    rows += [("ranks", text) for text in _ranks(found)]
    rows += [("nodes", text) for text in nodes_in_words(found)]
    if job["limits"]["seconds"] is not None:
        rows.append(("time limit", duration(job["limits"]["seconds"])))
    submitted = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job["submitted"]["time"]))
    rows.append(("submitted", f"{submitted} by {job['submitted']['user']}"))
    last = state.last
    if len(state.attempts) > 1:
        rows += [
            (f"attempt {attempt.number}", describe(attempt.end) if attempt.end else attempt.state)
            for attempt in state.attempts
        ]
    if (queued := queued_seconds(found, state)) is not None:
        rows.append(("queued", duration(queued)))
    if last and last.started:
        until = state.end["t"] if state.end else time.time()
        rows.append(("took", duration(until - last.started)))
    if state.end and state.end.get("leftover"):
        rows.append(("ended", f"{state.end['leftover']} processes the script had left behind"))
    rows += [("variable", f"{name}={value}") for name, value in job["variables"].items()]
    rows += [("variable", f"{name} (not recorded)") for name in job["secrets"]]
    rows += [("tag", f"{name}={value}") for name, value in found.tags.items()]
    rows += [
        ("property", f"{name}={value}")
        for name, value in found.properties.items()
        if not name.startswith("mlflow.source.git.")  # what azureml.git.* says, for MLflow
    ]
    rows += [("note", note) for attempt in state.attempts for note in attempt.notes]
    rows.append(("folder", found.folder))
    for name, text in rows:
        click.echo(f"{colored(name.ljust(12), 'dim')} {printable(text)}")
    tail = (state.end or {}).get("tail") or []
    for line in tail if len(tail) > 1 else []:
        click.echo(colored(f"  | {printable(line)}", "dim"))


def _ranks(run: Run) -> list[str]:
    from rechain.workspace.details import ranks_in_words

    mpi = (_lock(run) or {}).get("mpi")
    names = {"openmpi": "Open MPI", "mpich": "MPICH", "impi": "Intel MPI"}
    by = f", {names[mpi['family']]} {mpi['version']} ({mpi['mpiexec']})" if mpi else ""
    return [text + by for text in ranks_in_words(run._job["distribution"])]


def _lock(run: Run) -> dict[str, Any] | None:
    from rechain.record import jsonl

    try:
        lock: dict[str, Any] = jsonl.read(run._paths.lock)
    except (OSError, ValueError):
        return None
    return lock


def _data(run: Run, key: str) -> list[str]:
    """Return a line for each input or output: its name, and what it is."""
    from rechain.record import jsonl

    try:
        known = jsonl.read(run._paths.inputs)[key]
    except (OSError, ValueError, KeyError):
        known = run._job.get(key) or []
    left: dict[str, list[str]] = {}
    if any(one.get("sent") for one in known) and run._state().end:
        from rechain.data.sending import unsent

        left = unsent(run._paths)
    return [f"{one['name']}: {_one_of_data(one)}{_left(run, one, left)}" for one in known]


def _left(run: Run, one: dict[str, Any], left: dict[str, list[str]]) -> str:
    """Return which of an output's files nobody has sent, and what to do."""
    import os

    files = left.get(one["name"])
    if not files:
        return ""
    count = f"{len(files)} file{'' if len(files) == 1 else 's'}"
    place = os.path.relpath(one["place"], run.folder)
    return f"; {count} in {place} not sent: rechain files --send {run.id}"


def _one_of_data(one: dict[str, Any]) -> str:
    if "store" in one:
        place = f"{one['store']['name']}/{one['path']}"
        return f"{place}, {'copied as it comes' if one.get('sent') else one['mode']}"
    names = [
        f"{source.get('datastore') or source['store']['name']}/{source['path']}"
        for source in one["sources"]
    ]
    text = f"{' '.join(names[:3])}{' ...' if len(names) > 3 else ''}, {one['mode']}"
    if "count" not in one:
        return f"{text} (not read)"
    version = one["digest"] or one["version"]
    kind = "sha256" if one["digest"] else "version"
    files = f"{one['count']} file{'' if one['count'] == 1 else 's'}"
    return f"{text}, {files}, {one['bytes'] / 1e6:.1f} MB, {kind} {version[:12]}"


def _image(run: Run) -> list[str]:
    """Return what the run's container is made of, if it had one."""
    image = (_lock(run) or {}).get("image")
    if image is None:
        return []
    base, text = image["base"], f"{image['reference']} ({image['id'][7:19]})"
    if image["id"] != base["id"]:
        text += f", built on {base['reference']} ({base['id'][7:19]})"
    return [f"{text}, {image['engine']}"]


def _environment(run: Run) -> str:
    from rechain.environment import locks, spec

    lock = _lock(run)
    if lock is None:
        wanted = run._job["environment"]
        return f"{spec.shown(wanted) if 'recipe' in wanted else wanted['kind']} (not resolved)"
    interpreter = lock["interpreter"]
    version = f"Python {interpreter['version']}" if interpreter.get("version") else "Python"
    if lock["kind"] == "user-managed":
        return f"user-managed: {version}, {interpreter['path']}"
    conda = lock.get("conda", {"packages": ()})["packages"]
    count = f"{len(lock['packages'])} packages" + (f", {len(conda)} of conda" if conda else "")
    return f"{locks.title(lock)}, {version}, {count}"
