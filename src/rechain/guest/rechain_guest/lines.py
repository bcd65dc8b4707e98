"""The line format of `metrics/`: its reader, and the folds over what was written.

This is the one implementation of that part of docs/run-folder.md (its writer is next door): the
job reads with it, and so does Rechain.
"""

import json
import math
import os

__all__ = [
    "fold_metrics",
    "fold_series",
    "labels",
    "order",
    "read_description",
    "read_display_name",
    "read_document",
    "read_lines",
    "read_metrics",
    "read_properties",
    "read_rows",
    "read_series",
    "read_tags",
]

_SERIES = ("scalar", "list")
_COLUMNS = ("row", "table")
_DOCUMENTS = ("image", "json")
_METRICS = _SERIES + _COLUMNS + _DOCUMENTS


def read_lines(path):
    """Read a JSON-lines file.

    Returns:
        Its objects, and whether it ends with a whole line. What follows the last newline is not
        there yet; a line that is no JSON object is skipped, so that it hides no other.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return [], True
    rows = []
    pieces = data.split(b"\n")
    for piece in pieces[:-1]:
        try:
            row = json.loads(piece.decode("utf-8"))
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows, not pieces[-1]


def read_document(path):
    """Return the JSON object in a file; an empty one if there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def order(writer):
    """Return the place of a file of `metrics/` among the others, or None for a foreign file.

    Args:
        writer: the file's name.

    Returns:
        (attempt, rank, start, pid): of two processes of one rank, the later one comes later.
    """
    parts = writer[: -len(".jsonl")].split("-") if writer.endswith(".jsonl") else []
    if len(parts) != 4 or parts[0][:1] != "a" or parts[1][:1] != "r":
        return None
    numbers = [parts[0][1:], parts[1][1:], parts[3], parts[2]]
    return tuple(map(int, numbers)) if all(map(str.isdecimal, numbers)) else None


def read_rows(run_dir):
    """Return all lines of a run in the order of the fold: (attempt, rank, process, sequence).

    Returns:
        Pairs (rank, line).
    """
    folder = os.path.join(str(run_dir), "metrics")
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for key, name in sorted((order(name), name) for name in names if order(name)):
        rows, _ = read_lines(os.path.join(folder, name))
        rows = [r for r in rows if _is_int(r.get("q")) and isinstance(r.get("n"), str)]
        rows.sort(key=lambda row: row["q"])  # threads and signal handlers may overtake each other
        found.extend((key[1], row) for row in rows)
    return found


def fold_series(rows):
    """Fold lines into series.

    Args:
        rows: as `read_rows` returns them.

    Returns:
        `{name: [(step or None, value), ...]}`: first what was logged without a step, in order,
        then by step; a step that was logged again has its last value.
    """
    return {name: _series(lines) for name, lines in _metrics(rows) if lines[0]["k"] in _SERIES}


def fold_metrics(rows):
    """Fold lines into the form of v1's `Run.get_metrics()`.

    A value logged once is that value, logged several times it is a list; a row is a dict, several
    rows are a dict of lists. Unlike v1, a list of one stays a list.

    Args:
        rows: as `read_rows` returns them.
    """
    metrics = {}
    for name, lines in _metrics(rows):
        kind = lines[-1]["k"]
        if kind in _SERIES:
            values = [value for _, value in _series(lines)]
            single = len(values) == 1 and kind == "scalar"
        elif kind in _COLUMNS:
            values, single = _columns(lines), False
        else:
            values = [line.get("v") for line in lines]
            single = len(values) == 1
        metrics[name] = values[0] if single else values
    return metrics


def read_series(run_dir, cache=None):
    """Return the series of a run: those of Chainer's LogReport, by iteration, and what was logged.

    Args:
        run_dir: the run folder.
        cache: as for `chainer_log.read_reports`.

    Returns:
        As `fold_series`. Of a name that was both reported and logged, what was logged counts.
    """
    return dict(_reports(run_dir, cache), **fold_series(read_rows(run_dir)))


def read_metrics(run_dir, cache=None):
    """Return the same in the form of v1's `Run.get_metrics()`, see `fold_metrics`."""
    metrics = {}
    for name, points in _reports(run_dir, cache).items():
        values = [value for _, value in points]
        metrics[name] = values[0] if len(values) == 1 else values
    metrics.update(fold_metrics(read_rows(run_dir)))
    return metrics


def read_tags(run_dir):
    """Return a run's tags: the job's start value, what the script set, what others asked for."""
    return labels(_job(run_dir), read_rows(run_dir), _requests(run_dir, "tag"))


def read_properties(run_dir):
    """Return a run's properties: as `read_tags`, but what is set once stays."""
    job = _job(run_dir)
    requests = _requests(run_dir, "properties")
    return labels(job, read_rows(run_dir), requests, kind="property")


def read_display_name(run_dir):
    """Return the name people gave a run, or None."""
    return _said(run_dir, "display_name")


def read_description(run_dir):
    """Return what people say a run is for, or None."""
    return _said(run_dir, "description")


def _said(run_dir, what):
    rows = [row for _, row in read_rows(run_dir) if row.get("k") == "name"]
    said = [row.get("v") for row in rows if row.get("n") == what]
    return said[-1] if said else _job(run_dir).get(what)


def labels(job, rows, requests=(), kind="tag"):
    """Fold tags or properties.

    Args:
        job: the run's `job.json`.
        rows: as `read_rows` returns them.
        requests: the request documents, in order.
        kind: `tag` or `property`.
    """
    lasting = kind == "property"
    found = dict(job.get("properties" if lasting else "tags") or {})
    if not lasting:  # lower ranks have the last word
        rows = sorted(rows, key=lambda pair: -pair[0])
    for _, row in rows:
        if row.get("k") == kind and not (lasting and row["n"] in found):
            found[row["n"]] = row.get("v")
        elif row.get("k") == "untag" and not lasting:
            found.pop(row["n"], None)
    for request in requests:
        for name, value in (request.get("set") or {}).items():
            if not (lasting and name in found):
                found[name] = value
        for name in () if lasting else request.get("remove") or ():
            found.pop(name, None)
    return found


def _reports(run_dir, cache):
    from . import chainer_log

    return chainer_log.read_reports(os.path.join(str(run_dir), "work"), cache=cache)


def _metrics(rows):
    """Return (name, lines) for each metric: one rank's, and of one family."""
    ranks = {}
    for rank, row in rows:
        if row.get("k") in _METRICS:
            ranks[row["n"]] = min(rank, ranks.get(row["n"], rank))
    chosen = {}
    for rank, row in rows:
        if row.get("k") in _METRICS and ranks[row["n"]] == rank:
            chosen.setdefault(row["n"], []).append(row)
    for name, lines in chosen.items():
        # A name used for a series and for a table: the last use says what it is.
        family = next(f for f in (_SERIES, _COLUMNS, _DOCUMENTS) if lines[-1]["k"] in f)
        yield name, [line for line in lines if line["k"] in family]


def _series(lines):
    plain, stepped = [], {}
    for line in lines:
        value, step = line.get("v"), line.get("s")
        if isinstance(value, list):
            plain.extend((None, entry) for entry in value)
        elif isinstance(step, (int, float)) and not math.isnan(step):
            stepped[step] = value
        else:
            plain.append((None, value))
    return plain + sorted(stepped.items(), key=lambda pair: pair[0])


def _columns(lines):
    rows = [line["v"] for line in lines if isinstance(line.get("v"), dict)]
    if len(rows) == 1:
        return rows[0]
    columns, length = {}, 0
    for row in rows:
        lists = {k: v if isinstance(v, list) else [v] for k, v in row.items()}
        added = max([len(values) for values in lists.values()] or [0])
        for name in list(columns) + [name for name in lists if name not in columns]:
            values = lists.get(name, [])
            # A column that a row leaves out is None there, so that rows stay aligned.
            column = columns.setdefault(name, [None] * length)
            column.extend(values + [None] * (added - len(values)))
        length += added
    return columns


def _requests(run_dir, kind):
    folder = os.path.join(str(run_dir), "requests")
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    names = [name for name in names if name.endswith("-{}.json".format(kind))]
    return [read_document(os.path.join(folder, name)) for name in names]


def _job(run_dir):
    return read_document(os.path.join(str(run_dir), "job.json"))


def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)
