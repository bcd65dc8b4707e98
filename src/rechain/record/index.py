"""The list of all runs: a cache of empty files, newest found without opening one."""

from __future__ import annotations

import os
import time

from rechain.record.paths import WorkspacePaths, month_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["add", "newest", "rebuild", "remove"]


def add(paths: WorkspacePaths, run_id: str, nanoseconds: int | None = None) -> None:
    """Enter a run.

    Args:
        paths: the workspace.
        run_id: the run.
        nanoseconds: when it was submitted (unix time); now, if left out.
    """
    moment = time.time_ns() if nanoseconds is None else nanoseconds
    folder = f"{paths.index}/{month_of(moment / 1e9)}"
    name = f"{folder}/{moment:020d}_{run_id}"
    flags = os.O_WRONLY | os.O_CREAT
    try:
        descriptor = os.open(name, flags, 0o644)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(name, flags, 0o644)
    os.close(descriptor)


def newest(paths: WorkspacePaths) -> Iterator[str]:
    """Yield the ids of all runs, newest first; months are read as they are reached."""
    try:
        months = sorted(os.listdir(paths.index), reverse=True)
    except FileNotFoundError:
        return
    for month in months:
        try:
            names = os.listdir(f"{paths.index}/{month}")
        except NotADirectoryError:
            continue
        import heapq

        # The first screenful is what is nearly always asked for: it needs no sorting of the rest.
        head = heapq.nlargest(64, names)
        yield from _ids(head)
        if len(names) > len(head):
            names.sort(reverse=True)
            yield from _ids(names[len(head) :])


def _ids(names: list[str]) -> Iterator[str]:
    for name in names:
        moment, _, run_id = name.partition("_")
        if run_id and moment.isdigit():  # else what a file manager or a copy tool left there
            yield run_id


def remove(paths: WorkspacePaths, run_id: str) -> None:
    """Take a run out of the index, if it is there."""
    try:
        months = os.listdir(paths.index)
    except FileNotFoundError:
        return
    for month in months:
        folder = f"{paths.index}/{month}"
        try:
            names = os.listdir(folder)
        except NotADirectoryError:
            continue
        for name in names:
            if name.partition("_")[2] == run_id:
                os.unlink(f"{folder}/{name}")


def rebuild(paths: WorkspacePaths) -> int:
    """Make the index agree with the run folders: enter what is missing, drop what is gone.

    In place, so that a run submitted meanwhile is not lost.

    Returns:
        The number of runs there are.
    """
    from rechain.record import jsonl

    known = set(newest(paths))
    there = set()
    for experiment in _folders(paths.experiments):
        for run_id in _folders(f"{paths.experiments}/{experiment}"):
            try:
                job = jsonl.read(paths.run(run_id).job)
                moment = int(job["submitted"]["time"] * 1e9)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # not a run folder, or one whose submission never finished
            if job.get("parent"):
                continue
            there.add(run_id)
            if run_id not in known:
                add(paths, run_id, moment)
    for run_id in known - there:
        remove(paths, run_id)
    return len(there)


def _folders(path: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(path) if entry.is_dir()]
    except FileNotFoundError:
        return []
