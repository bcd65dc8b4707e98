"""The inputs of a run, brought to their places; places made for its outputs."""

from __future__ import annotations

import hashlib
import os
import uuid

from rechain.data.cache import DataCache
from rechain.data.datastore import Datastore
from rechain.data.paths import below, inside, root_of
from rechain.data.source import bring_source
from rechain.data.transfer import copy_all, digest_of
from rechain.exceptions import UserErrorException
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rechain.record.paths import RunPaths

    # A file's path, size, version, SHA-256 or None
    Row = list[Any]

__all__ = ["bring"]

_CHEAP = 256 << 20  # bytes whose digest costs less than a second
_LISTED = 1000  # so many files are in the record one by one
_WILD = ("*", "?", "[")


def bring(run: RunPaths, cache: str, say: Callable[[str], None]) -> None:
    """Bring the inputs of a run to their places, and record them; make places for its outputs.

    Its source folder too, if that went through a datastore.

    What an earlier attempt brought is left as it is: all attempts read the same.

    Args:
        run: the run.
        cache: what `environment.store.cache_root` returned.
        say: takes lines for people.

    Raises:
        UserErrorException: an input cannot be had.
        OSError: it cannot be written.
    """
    if os.path.exists(run.inputs):
        known = jsonl.read(run.inputs)
        if all(os.path.exists(one["place"]) for one in known["inputs"] + known["outputs"]):
            return
    else:
        bring_source(run, cache, say)
    job = jsonl.read(run.job)
    made = _Bringing(run, DataCache(cache, say), say)
    inputs = {one["name"]: made.input(one) for one in job["inputs"]}
    outputs = {one["name"]: made.output(one) for one in job["outputs"]}
    jsonl.write_atomic(
        run.inputs,
        {"schema": 1, "inputs": [*inputs.values()], "outputs": [*outputs.values()]},
    )


class _Bringing:
    def __init__(self, run: RunPaths, cache: DataCache, say: Callable[[str], None]) -> None:
        self._run = run
        self._cache = cache
        self._say = say

    def input(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Bring one input; return what is recorded of it."""
        name = wanted["name"]
        # Scripts of v1 write to a path that they mount, also to one that is not there yet.
        written = wanted["kind"] == "reference" and wanted["mode"] == "mount"
        written = written and not wanted.get("required")
        sources = [self._source(**source, written=written) for source in wanted["sources"]]
        rows = [row for _, _, found in sources for row in found]
        files = [pair for _, found, _ in sources for pair in found]
        whole = len(sources) == 1 and not _is_pattern(wanted["sources"][0]["path"])
        place = self._place(wanted["path_on_compute"])
        there = sources[0][0]
        if whole and wanted["mode"] != "download":
            if place is not None:
                _link(there, place)
            place = place or there
        else:
            # Below the folder that they have in common, as v1 does; a folder is one by itself.
            tops = [os.path.dirname(path) for _, path in files]
            top = os.path.commonpath(tops) if files else "/"
            if whole and not os.path.isfile(there):
                top = f"/{inside(name, wanted['sources'][0]['path'])}"
            pairs = [(file, os.path.relpath(path, top)) for file, path in files]
            target = place or os.path.join(self._run.data, name)
            if wanted["mode"] == "download":
                copy_all(pairs, target, wanted["overwrite"])
            for file, relative in pairs if wanted["mode"] != "download" else ():
                _link(file, os.path.join(target, relative))
            alone = len(pairs) == 1 and (not whole or os.path.isfile(there))
            place = os.path.join(target, pairs[0][1]) if alone else target
        found = {**_described(wanted, rows), "place": place, "value": place}
        local = "://" not in wanted["sources"][0]["store"]["url"]
        if local and len(sources) == 1 and wanted["mode"] == "mount":  # it is what the store has
            found["base"] = os.path.dirname(there) if os.path.isfile(there) else there
            found["whole"] = whole and not os.path.isfile(there)
        if wanted["mode"] == "direct":
            found["value"] = (wanted["dataset"] or {}).get("id") or str(
                uuid.UUID(found["version"][:32])
            )
        return found

    def _source(
        self, store: dict[str, Any], path: str, written: bool
    ) -> tuple[str, list[tuple[str, str]], list[Row]]:
        """Return where a source is; its files, with `/` and their paths in the store; and rows."""
        datastore = Datastore._at(store)
        path = inside(datastore.name, path)
        pattern = _is_pattern(path)
        root = root_of(path)
        if not datastore.folder:
            tree = self._cache.tree(datastore.storage, path, self._run.root)
            place, rows = tree["place"], [row[:4] for row in tree["files"]]
            if os.path.isfile(place):
                return place, [(place, f"/{path}")], rows
            return place, [(f"{place}/{row[0]}", f"/{root}/{row[0]}") for row in rows], rows
        place = datastore.local_path(root)
        if not path:
            os.makedirs(place, exist_ok=True)  # a datastore is there before its first file
        elif not pattern and not os.path.exists(place):
            if written:
                os.makedirs(place)
                self._say(f"{place} was not there: an empty folder is mounted")
                return place, [], []
            raise UserErrorException(
                f"the datastore {datastore.name} has no {path!r}: there is no {place}."
            )
        files = [
            (file, os.path.relpath(file, datastore.folder))
            for file, _ in (datastore.files(path) if pattern else ((f, "") for f in _in(place)))
            if isinstance(file, str)
        ]
        if pattern and not files:
            raise UserErrorException(f"the datastore {datastore.name} has no files {path!r}.")
        stats = [os.stat(file) for file, _ in files]
        cheap = sum(found.st_size for found in stats) <= _CHEAP
        base = os.path.dirname(place) if os.path.isfile(place) else place
        rows = [
            [
                os.path.relpath(file, base), found.st_size, str(found.st_mtime_ns),
                digest_of(file) if cheap else None,
            ]
            for (file, _), found in zip(files, stats, strict=True)
        ]  # fmt: skip
        return place, [(file, f"/{path}") for file, path in files], rows

    def _place(self, given: str | None) -> str | None:
        """Return the path on this machine of a `path_on_compute`.

        Raises:
            UserErrorException: it leads out of the run's folder.
        """
        if given is None or os.path.isabs(given):
            return given
        path = os.path.normpath(given)
        if path.split(os.sep)[0] in (os.pardir, os.curdir):
            raise UserErrorException(
                f"path_on_compute is {given!r}; it must be absolute, or below the run's folder."
            )
        return os.path.join(self._run.work, path)

    def output(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Make the place of an output; return what is recorded of it."""
        store = Datastore._at(wanted["store"])
        path = wanted["path"].replace("{run-id}", self._run.run_id)
        path = inside(store.name, path.replace("{output-name}", wanted["name"]))
        place = self._place(wanted["path_on_compute"])
        sent = wanted["mode"] == "upload" or not store.folder
        if not sent:
            there = store.local_path(path)
            os.makedirs(there, exist_ok=True)
            if place is not None:
                _link(there, place)
            place = place or there
        else:
            place = place or os.path.join(self._run.data, wanted["name"])
            os.makedirs(place, exist_ok=True)
        return {
            **{key: wanted[key] for key in ("name", "kind", "mode", "variable", "text")},
            "store": wanted["store"], "path": path, "sent": sent,
            "overwrite": wanted["overwrite"] or wanted["mode"] == "mount",
            "globs": wanted["globs"], "registration": wanted.get("registration"),
            "place": place, "value": place,
        }  # fmt: skip


def _in(place: str) -> Iterator[str]:
    """Yield the files of a place; links that lead nowhere are none."""
    if os.path.isfile(place):
        yield place
    else:
        yield from (file for file in below(place) if os.path.isfile(file))


def _is_pattern(path: str) -> bool:
    return any(mark in path for mark in _WILD)


def _link(there: str, place: str) -> None:
    """Have a path lead to another; no copy is made.

    Raises:
        UserErrorException: something else is there.
    """
    if os.path.islink(place) and os.readlink(place) == there:
        return
    os.makedirs(os.path.dirname(place), exist_ok=True)
    try:
        os.symlink(there, place)
    except FileExistsError:
        raise UserErrorException(f"{place} is there already; nothing can be mounted on it.") from (
            None
        )


def _described(wanted: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    rows = sorted(rows)
    digests = [[row[0], row[3]] for row in rows]
    known = all(digest for _, digest in digests)
    value = {
        **{key: wanted[key] for key in ("name", "kind", "mode", "variable", "text", "dataset")},
        "sources": [
            {"datastore": one["store"]["name"], "url": one["store"]["url"], "path": one["path"]}
            for one in wanted["sources"]
        ],
        "count": len(rows),
        "bytes": sum(row[1] for row in rows),
        "version": _digest([row[:3] for row in rows]),
        "digest": _digest(digests) if known else None,
    }
    if len(rows) <= _LISTED:
        value["files"] = rows
    return value


def _digest(value: object) -> str:
    return hashlib.sha256(jsonl.dumps(value).encode()).hexdigest()
