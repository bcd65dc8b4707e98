"""Write lines as docs/run-folder.md has them: one `write(2)` each, whatever happens around it."""

import json
import os
import sys
import time
from _thread import RLock

from . import lines, place

__all__ = ["LineFile", "Writer", "writer_for"]

_encode = json.JSONEncoder(separators=(",", ":")).encode


class LineFile(object):
    """A JSON-lines file that only this process appends to.

    Every line goes out in one `write(2)`, so that it survives the process. A line that a full
    disk tore is closed off before the next one. Errors never reach the caller: the training goes
    on, and stderr says once what is being lost.

    Args:
        path: the file; it and its folder are made at the first line.
        counter: the key under which lines are numbered, from 1.
    """

    def __init__(self, path, counter="q"):
        self._path = path
        self._counter = counter
        self._lock = RLock()  # reentrant: a signal handler may log while a line is being written
        self._descriptor = None
        self._last = 0
        self._torn = False
        self._warned = False

    def append(self, fields, sync=False):
        """Append one line.

        Args:
            fields: what it holds besides its number and the time.
            sync: wait until it is on the disk.
        """
        with self._lock:
            try:
                if self._descriptor is None:
                    self._open()
                self._last += 1
                row = {self._counter: self._last, "t": time.time()}
                row.update(fields)
                data = (_encode(row) + "\n").encode("ascii")
                if self._torn:
                    data = b"\n" + data
                written = os.write(self._descriptor, data)
                self._torn = written != len(data)
                if self._torn:
                    raise OSError(28, "only part of a line was written")
                if sync:
                    os.fdatasync(self._descriptor)
            except (OSError, ValueError) as error:  # ValueError: an int of too many digits
                self._warn(error)

    def _open(self):
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        try:
            descriptor = os.open(self._path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            descriptor = os.open(self._path, flags, 0o644)
        if os.fstat(descriptor).st_size:
            # The script has replaced itself with exec: same process, so same file. Count on.
            rows, whole = lines.read_lines(self._path)
            self._last = max([row.get(self._counter, 0) for row in rows] or [0])
            self._torn = not whole
        self._descriptor = descriptor

    def _warn(self, error):
        if self._warned:
            return
        self._warned = True
        try:
            sys.stderr.write(
                "rechain: metrics are being lost, {} cannot be written: {}\n".format(
                    self._path, error
                )
            )
        except (AttributeError, OSError, ValueError):
            pass  # there is no stderr, or it is on the same full disk


class Writer(object):
    """Writes what this process says of a run, from any thread, before and after a fork.

    Args:
        run_dir: the run folder.
        attempt: the number of the attempt.
        rank: this process's rank.
    """

    def __init__(self, run_dir, attempt=1, rank=0):
        self._prefix = "{}/metrics/a{}-r{}-".format(run_dir, attempt, rank)
        # By pid, so that a forked process finds neither its parent's file nor its parent's lock,
        # which another thread may have held at the fork and would then hold for ever.
        self._files = {}

    def write(self, kind, name, value=None, step=None, description=None):
        """Append one line.

        Args:
            kind: its `k`, one of the kinds in docs/run-folder.md.
            name: its `n`.
            value: its `v`, JSON-encodable.
            step: its `s`, or None.
            description: its `d`; left out when empty.
        """
        pid = os.getpid()
        file = self._files.get(pid)
        if file is None:
            path = "{}{}-{}.jsonl".format(self._prefix, pid, place.process_start())
            file = self._files.setdefault(pid, LineFile(path))
        fields = {"k": kind, "n": name, "v": value}
        if step is not None:
            fields["s"] = step
        if description:
            fields["d"] = description
        file.append(fields)


_writers = {}


def writer_for(run_dir, attempt, rank):
    """Return this process's writer: one per run, or two would number the lines of one file."""
    key = (os.path.realpath(run_dir), attempt, rank)
    found = _writers.get(key)
    return found or _writers.setdefault(key, Writer(*key))
