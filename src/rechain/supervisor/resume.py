"""Find out how a script that was interrupted goes on: a process of its own before a next attempt.

What Chainer's trainer saved is recognized by its content, so any file name will do: an npz whose
first members are the updater's. The newest is the one of the highest iteration. A snapshot is
worth nothing if it cannot be read to its end, and Chainer's `snapshot(autoload=True)` and
ChainerMN's checkpointer take the newest by its name alone; so one that is broken is renamed, and
that is said.

How the script takes a snapshot is read from its source: nothing of it is run.
"""

from __future__ import annotations

import ast
import os
import struct
import zipfile
import zlib

from rechain.guest.rechain_guest import chainer_log
from rechain.record import jsonl
from rechain.record.paths import RunPaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

__all__ = [
    "Habits", "can_be_read", "find_snapshots", "habits", "iteration_of", "of_iteration",
    "plan", "resume", "told",
]  # fmt: skip

_HEAD_BYTES = 4096
_ITERATION = "updater/iteration.npy"
_OPTIONS = ("--resume", "--resume-from", "--resume_from", "-r")
_OF_V1 = ("--resume-from", "--resume_from")
_ITSELF = {
    "snapshot_on_sigterm": "snapshot_on_sigterm",
    "create_multi_node_checkpointer": "ChainerMN's checkpointer",
}


def resume(run_folder: str, number: str) -> NoReturn:
    """Plan how an attempt goes on, and write it to its folder; never returns.

    Args:
        run_folder: the run.
        number: the attempt's number.
    """
    run = RunPaths(run_folder)
    job = jsonl.read(run.job)
    begun = bool(job.get("resumed"))
    jsonl.write_atomic(run.attempt(int(number)).resume, plan(run.work, job["command"], begun))
    os._exit(0)


def plan(work: str, command: list[str], begun: bool = False) -> dict[str, Any]:
    """Return how a script goes on.

    Args:
        work: its folder.
        command: the script and its arguments.
        begun: whether its arguments let it go on from another run already.

    Returns:
        `snapshot` (relative path, or None), `iteration`, `how` (`itself`, `argument`, `scratch`),
        `arguments` (the script's, as they should be now), `passed_over` (names of broken
        snapshots, as they were) and `text` (one line for people).
    """
    script, arguments = command[0], command[1:]
    found, broken = find_snapshots(work)
    seen = habits(os.path.join(work, script), work)
    newest = found[0] if found else None
    result: dict[str, Any] = {
        "snapshot": newest and newest[0],
        "iteration": newest and newest[1],
        "how": "scratch",
        "arguments": arguments,
        "passed_over": broken,
    }
    for path in broken:
        folder, name = os.path.split(path)
        os.rename(f"{work}/{path}", os.path.join(work, folder, f"broken_{name}"))
    if newest is None:
        start = "starts as the run did" if begun else "starts from scratch"
        text = f"no snapshot of a trainer is there: the script {start}"
    elif seen.itself:
        result["how"] = "itself"
        text = f"{seen.itself} takes up the training by itself (newest: {_named(newest)})"
    elif seen.option:
        result["how"] = "argument"
        result["arguments"] = told(seen, newest[0], arguments)
        text = f"goes on from {_named(newest)}, by {seen.option}"
    else:
        text = (
            f"{_named(newest)} is there, but the script has no --resume, no autoload and no "
            "checkpointer: it starts from scratch"
        )
    if broken:
        text += f"; passed over because broken, renamed to broken_...: {', '.join(broken)}"
    result["text"] = text
    return result


def told(seen: Habits, path: str, arguments: list[str]) -> list[str]:
    """Return a script's arguments with the option that lets it go on from a snapshot."""
    added = [seen.option] if seen.flag else [seen.option, path]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:at], *added, *arguments[at:]]  # the last one counts


def _named(snapshot: tuple[str, int]) -> str:
    path, iteration = snapshot
    return f"{path} (iteration {iteration})" if iteration >= 0 else path


def find_snapshots(work: str) -> tuple[list[tuple[str, int]], list[str]]:
    """Look for the newest snapshot of a trainer that can be read to its end.

    Args:
        work: the script's folder.

    Returns:
        Rank 0's as (relative path, iteration or -1), newest first: the first can be read, the
        others were not tried. And the relative paths of broken ones, those of all ranks.
    """
    whole: dict[int, list[tuple[int, int, str]]] = {}  # by rank
    broken: list[str] = []
    for path in _files(work):
        try:
            with open(f"{work}/{path}", "rb") as file:
                head = file.read(_HEAD_BYTES)
            if chainer_log.kind_of(path, head) != "snapshot":
                continue
            stamp = os.stat(f"{work}/{path}").st_mtime_ns
        except OSError:
            continue
        try:
            with zipfile.ZipFile(f"{work}/{path}") as archive:
                found = (_iteration(archive), stamp, path)
            whole.setdefault(chainer_log.rank_of(path) or 0, []).append(found)
        except (OSError, ValueError, zipfile.BadZipFile):
            broken.append(path)
    for rank, snapshots in whole.items():
        snapshots.sort(reverse=True)
        while snapshots and not can_be_read(f"{work}/{snapshots[0][2]}"):
            broken.append(snapshots.pop(0)[2])
        whole[rank] = snapshots
    return [(path, iteration) for iteration, _, path in whole.get(0, [])], sorted(broken)


def iteration_of(path: str) -> int:
    """Return the iteration that a trainer's snapshot was taken at; -1 for any other file."""
    try:
        with open(path, "rb") as file:
            if chainer_log.kind_of(path, file.read(_HEAD_BYTES)) != "snapshot":
                return -1
        with zipfile.ZipFile(path) as archive:
            return _iteration(archive)
    except (OSError, ValueError, zipfile.BadZipFile):
        return -1


def of_iteration(folder: str, iteration: int) -> list[str]:
    """Return the names of a folder's snapshots of one iteration: those of all ranks."""
    return [
        name
        for name in sorted(os.listdir(folder))
        if iteration_of(f"{folder}/{name}") == iteration
    ]


def _files(work: str) -> Iterator[str]:
    for folder, folders, names in os.walk(work):
        folders[:] = [name for name in folders if not name.startswith((".", "tmp"))]
        for name in names:
            # Chainer writes to such names before it renames; ours are broken ones of earlier.
            if not name.startswith(("tmp", "broken_")):
                yield os.path.relpath(f"{folder}/{name}", work)


def _iteration(archive: zipfile.ZipFile) -> int:
    """Return the iteration that a trainer's snapshot was taken at; -1 if it does not say."""
    try:
        data = archive.read(_ITERATION)
    except (KeyError, OSError, zlib.error, zipfile.BadZipFile):
        return -1
    # https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0
    try:
        (length,) = struct.unpack_from("<H", data, 8)
        header = ast.literal_eval(data[10 : 10 + length].decode())
        kind, shape = header["descr"], header["shape"]
    except (struct.error, SyntaxError, ValueError, LookupError, TypeError):
        return -1
    if shape != () or kind not in ("<i8", "<i4", "<u8", "<u4"):
        return -1
    return int.from_bytes(data[10 + length :], "little", signed="i" in kind)


def can_be_read(path: str) -> bool:
    """Return whether a zip file is whole: its list of members, and their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile):
        return False


class Habits:
    """How a script takes up an interrupted training.

    Attributes:
        itself: what in it does so without being told; empty if nothing does.
        option: the option that takes a snapshot's path; empty if there is none.
        of_v1: v1's option, `--resume-from`, if there is that one; else empty.
        flag: whether that option takes no value.
    """

    def __init__(self) -> None:
        self.itself = ""
        self.option = ""
        self.of_v1 = ""
        self.flag = False


def habits(script: str, work: str) -> Habits:
    """Read from a script, and from the modules beside it that it imports, how it resumes.

    Args:
        script: its path.
        work: the folder in which modules are looked for as well.
    """
    seen = Habits()
    places = {os.path.dirname(script), work}
    waiting, done = [script], set()
    while waiting:
        path = waiting.pop(0)
        if path in done:
            continue
        done.add(path)
        try:
            with open(path, "rb") as file:
                tree = ast.parse(file.read())
        except (OSError, SyntaxError, ValueError):
            continue  # one that Python 3.6 reads and we do not, say: then nothing is known
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                _look_at_call(node, seen)
            for module in _imported(node):
                waiting += [f"{place}/{module.replace('.', '/')}.py" for place in places]
    return seen


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _look_at_call(node: ast.Call, seen: Habits) -> None:
    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if called in _ITSELF:
        seen.itself = seen.itself or _ITSELF[called]
    elif called in ("snapshot", "snapshot_object") and _constant(keywords.get("autoload")) is True:
        seen.itself = seen.itself or "snapshot(autoload=True)"
    elif called == "add_argument":
        names = [_constant(argument) for argument in node.args]
        about = f"{_constant(keywords.get('dest'))} {_constant(keywords.get('help'))}".lower()
        seen.of_v1 = seen.of_v1 or next((name for name in _OF_V1 if name in names), "")
        for option in _OPTIONS:
            # A lone -r may be a rate.
            if option in names and (option != "-r" or "resume" in about):
                seen.option = seen.option or option
                seen.flag = str(_constant(keywords.get("action"))).startswith("store_")
                break


def _constant(node: ast.AST | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None
