"""Read what Chainer's trainer extensions write: the LogReport, and what kind a file is.

The script needs no change for this, and nothing is stored twice: the reports are read where they
are, as often as somebody looks.
"""

import json
import os
import re

__all__ = [
    "SNAPSHOT_TIME",
    "find_reports",
    "kind_of",
    "parse_report",
    "rank_of",
    "read_reports",
]

_LARGEST = 64 << 20
# Every file that comes from the run's snapshot bears this modification time (2000-01-01 in UTC):
# what has another one is of the job's making.
SNAPSHOT_TIME = 946684800
_NO_ITERATION = float("inf")
_EXTENSIONS = ("", ".json", ".log", ".txt")
_PLOTS = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".eps")
_GRAPHS = (".dot", ".gv")
_WEIGHTS = (".npz", ".h5", ".hdf5")
_LOGS = (".log", ".txt", ".out", ".err")
_SKIPPED = ("__pycache__", "site-packages", "node_modules")

_RANKED = re.compile(r"^(?:[^.]+\.([0-9]+)\.[0-9]+|rank([0-9]+)_snapshot_iter_[0-9]+)$")
_ZIP = b"PK\x03\x04"
_HDF5 = b"\x89HDF\r\n"


def read_reports(work, known=(), cache=None):
    """Return the series in all LogReports under a folder.

    Args:
        work: the job's current folder.
        known: (relative path, size, mtime_ns) of files that are no reports of this job. Those of
            its snapshot never are.
        cache: a dict to keep between calls, so that an unchanged file is not parsed again.

    Returns:
        `{series: [(iteration, value), ...]}`, by iteration, with `epoch` and `elapsed_time` among
        the series. Reports in several folders: the folder and a slash before each series' name.
    """
    folders = {}
    for path, rows in find_reports(work, known, cache):
        folders.setdefault(os.path.dirname(path), []).append(rows)
    series = {}
    for folder in sorted(folders):
        prefix = folder + "/" if folder and len(folders) > 1 else ""
        # LogReport(log_name="log_{epoch}") leaves several files that repeat each other's rows:
        # what the furthest one says counts.
        for rows in sorted(folders[folder], key=_last_iteration):
            for row in rows:
                iteration = int(row["iteration"])
                for name, value in row.items():
                    if name != "iteration" and _is_number(value):
                        series.setdefault(prefix + name, {})[iteration] = value
    return {name: sorted(points.items()) for name, points in series.items()}


def find_reports(work, known=(), cache=None):
    """Return the LogReports under a folder; see `read_reports` for the arguments.

    Returns:
        Pairs (relative path, rows), by path.
    """
    known = known if isinstance(known, (set, frozenset)) else set(known)
    cache = {} if cache is None else cache
    first, others = _noted_by_ranks(os.path.dirname(str(work)))
    found = []
    for path, entry in _files(str(work), ""):
        if os.path.splitext(path)[1].lower() not in _EXTENSIONS:
            continue
        try:
            stat = entry.stat(follow_symlinks=False)
            key = (path, stat.st_size, stat.st_mtime_ns)
            if not 2 <= stat.st_size < _LARGEST:
                continue
            if key in known or int(stat.st_mtime) == SNAPSHOT_TIME:
                continue
            if path in others:  # the last rank to write it has won; rank 0's rows count
                if path in first:
                    found.append((path, first[path]))
                continue
            if cache.get(path, (None,))[0] != key:
                cache[path] = (key, _read(entry.path))
        except OSError:  # gone in the meantime: LogReport renames its files into place
            continue
        rows = cache[path][1]
        if rows:
            found.append((path, rows))
    return sorted(found, key=lambda pair: pair[0])


def parse_report(text):
    """Return the rows of a LogReport, or [] if the text is none.

    Rows without an iteration are left out. Of a text that breaks off, the whole rows count.
    """
    text = text.strip()
    if not text.startswith("["):
        return []
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        rows = _whole_rows(text)
    rows = [row for row in rows if isinstance(row, dict)]
    if not rows or "epoch" not in rows[0] or "iteration" not in rows[0]:
        return []
    return [row for row in rows if _is_iteration(row.get("iteration"))]


def kind_of(path, head=b""):
    """Return what kind of artifact a file is, from its name and its first bytes.

    Args:
        path: its path in the run.
        head: its first bytes; 4096 are plenty.

    Returns:
        `log-report`, `plot`, `graph`, `snapshot` (of a trainer, to resume from), `model` (weights
        of a model or an optimizer), `log` or `file`.
    """
    name = os.path.basename(path)
    extension = os.path.splitext(name)[1].lower()
    if head.startswith(_ZIP):
        members = _members(head)
        if any(member.startswith("updater/") for member in members):
            return "snapshot"
        return "model" if members and members[0].endswith(".npy") else "file"
    if head.startswith(_HDF5) or (extension in _WEIGHTS and not head):
        return "snapshot" if name.startswith("snapshot") else "model"
    if extension in _EXTENSIONS and _looks_like_report(head):
        return "log-report"
    if extension in _GRAPHS:
        return "graph"
    if extension in _PLOTS:
        return "plot"
    if extension in _LOGS or path.startswith(("logs/", "azureml-logs/", "user_logs/")):
        return "log"
    return "file"


def _noted_by_ranks(run_dir):
    """Return the reports of rank 0, `{path: rows}`, and the paths to which other ranks wrote."""
    first, others = {}, set()
    try:
        attempts = os.listdir(os.path.join(run_dir, "attempts"))
    except OSError:
        return first, others
    for attempt in sorted(attempts, key=lambda name: (len(name), name)):
        ranks = os.path.join(run_dir, "attempts", attempt, "ranks")
        names = os.listdir(ranks) if os.path.isdir(ranks) else []
        for name in names:
            if not name.endswith(".reports.json"):
                continue
            try:
                with open(os.path.join(ranks, name)) as file:
                    noted = json.load(file)
            except (OSError, ValueError):
                continue
            if noted["rank"] == 0:
                first.update(noted["reports"])
            else:
                others.update(noted["reports"])
    return first, others


def rank_of(path):
    """Return the rank that a snapshot is of, from its name; None if that does not say.

    ChainerMN's checkpointer writes `NAME.RANK.ITERATION`, `snapshot_on_sigterm` a prefix.
    """
    found = _RANKED.match(os.path.basename(path))
    return int(found.group(1) or found.group(2)) if found else None


def _files(folder, prefix):
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _SKIPPED:
                for found in _files(entry.path, prefix + entry.name + "/"):
                    yield found
        elif entry.is_file(follow_symlinks=False):
            yield prefix + entry.name, entry


def _read(path):
    with open(path, "rb") as file:
        if not file.read(512).lstrip().startswith(b"["):
            return []
        file.seek(0)
        return parse_report(file.read().decode("utf-8", "replace"))


def _whole_rows(text):
    decode = json.JSONDecoder().raw_decode
    rows, at = [], 1
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            row, at = decode(text, at)
        except (ValueError, RecursionError):
            return rows
        rows.append(row)


def _members(head):
    """Return the names in those local headers of a zip file that lie in its first bytes."""
    names, at = [], 0
    while at >= 0:
        length = int.from_bytes(head[at + 26 : at + 28], "little")
        name = head[at + 30 : at + 30 + length]
        if len(name) == length:
            names.append(name.decode("utf-8", "replace"))
        at = head.find(_ZIP, at + 4)
    return names


def _looks_like_report(head):
    text = head.lstrip()
    row = text[1:].split(b"}", 1)[0]
    return text[:1] == b"[" and b'"epoch"' in row and b'"iteration"' in row


def _last_iteration(rows):
    return max([row["iteration"] for row in rows] or [0])


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_iteration(value):
    return _is_number(value) and -_NO_ITERATION < value < _NO_ITERATION  # NaN is neither
