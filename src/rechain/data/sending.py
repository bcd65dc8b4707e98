"""The outputs of a run on their way to datastores: as they come, and when the run has ended.

`sent.json` of the run says which files are there, by their size and the time of their last change:
what has not changed since is not sent again, by whichever process sends next. A file is noted
before it is sent, so that what is this run's own may be replaced, whatever `overwrite` says of
what was there before.
"""

from __future__ import annotations

import os
import sys
import time
from fnmatch import fnmatch

from rechain.data.datastore import Datastore
from rechain.data.paths import below
from rechain.environment.build import alone
from rechain.exceptions import UserErrorException
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from rechain.record.paths import RunPaths

    Stamp = list[int]  # a file's size in bytes, and when it was changed, in nanoseconds

__all__ = ["mirror", "register", "take", "unsent"]

_PACE = (0.2, 5.0)  # seconds between looks while the run goes on: when it writes, and at most
_SHARE = 20  # a look takes no more than one part in so many of the time
_BATCH = 100  # files between two notes of what was sent


def mirror(run: RunPaths, say: Callable[[str], None]) -> NoReturn:
    """Copy what the run writes as it comes, until this process is ended.

    A file goes when it has stayed the same between two looks. What cannot be sent is said once and
    tried again; whether all arrived is for `take` to say.
    """
    sending = _Sending(run, lambda line: None)
    if not sending.outputs:
        sys.exit()  # all of them are written to their datastores
    before: dict[str, Any] = {}
    said = ""
    pause = _PACE[0]
    while True:
        began = time.monotonic()
        pause = min(pause * 1.5, _PACE[1])
        for output in sending.outputs:
            name = output["name"]
            try:
                found = sending.found(output)
                known = before.get(name, {})
                same = {path: stamp for path, stamp in found.items() if known.get(path) == stamp}
                if found != known:
                    before[name], pause = found, _PACE[0]
                sending.send(output, same)
            except (UserErrorException, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    say(f"the output {name} is not sent yet: {said}")
        time.sleep(max(pause, _SHARE * (time.monotonic() - began)))


def take(run: RunPaths, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Copy the outputs of a run that has ended to their datastores.

    Returns:
        For each its `name`, the datastore, the path in it and how many files were copied.

    Raises:
        UserErrorException: one cannot be copied.
    """
    said = []
    with alone(f"{run.sent}.lock", lambda line: None):
        sending = _Sending(run, say)
        for output in sending.outputs:
            found = sending.found(output)
            sending.send(output, found)
            said.append(
                {"name": output["name"], "datastore": output["store"]["name"],
                 "path": output["path"], "count": len(found)}
            )  # fmt: skip
    return said


def unsent(run: RunPaths) -> dict[str, list[str]]:
    """Return which files of an ended run's outputs are not in their datastores as they are.

    Returns:
        The paths of the files here, by the names of those outputs that have some.
    """
    attempt = run.last_attempt()
    if attempt is None or not os.path.exists(run.inputs):
        return {}  # nothing of the script ran
    try:
        if jsonl.read(attempt.send_result)["ok"]:
            return {}
    except (OSError, ValueError):
        pass  # there was nobody, or no time, to send them
    sending = _Sending(run, lambda line: None)
    return {
        output["name"]: files for output in sending.outputs if (files := sending.unsent(output))
    }


def register(run: RunPaths, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Register the outputs of a completed run as datasets, those that are to be.

    Returns:
        For each its `name`, and the `dataset` and its `version`.

    Raises:
        UserErrorException: the workspace cannot keep one.
    """
    import uuid

    from rechain.runconfig.registered import Registry

    registry = Registry(_Workspace(run), "dataset")
    said = []
    for output in jsonl.read(run.inputs)["outputs"]:
        wanted = output.get("registration")
        if not wanted:
            continue
        document = registry.read(wanted["name"])
        if document is None or document.get("run") != run.run_id:
            document = registry.write(
                {
                    "name": wanted["name"],
                    "version": None,
                    "id": str(uuid.uuid4()),
                    "description": wanted["description"],
                    "tags": wanted["tags"] or {},
                    "sources": [[output["store"]["name"], output["path"]]],
                    "run": run.run_id,
                }
            )
        version = document["version"]
        say(f"the output {output['name']} is the dataset {wanted['name']}, version {version}")
        said.append({"name": output["name"], "dataset": wanted["name"], "version": int(version)})
    return said


class _Workspace:
    """The workspace of a run, as far as a registry needs it: it is there already."""

    def __init__(self, run: RunPaths) -> None:
        self.path = os.path.dirname(os.path.dirname(os.path.dirname(run.root)))

    def _make(self) -> None:
        pass


class _Sending:
    def __init__(self, run: RunPaths, say: Callable[[str], None]) -> None:
        self._run = run
        self._say = say
        self._there: dict[str, set[str]] = {}
        self.outputs = [one for one in jsonl.read(run.inputs)["outputs"] if one["sent"]]
        try:
            self._sent: dict[str, dict[str, Stamp | None]] = jsonl.read(run.sent)["sent"]
        except (OSError, ValueError, KeyError):
            self._sent = {}

    def found(self, output: dict[str, Any]) -> dict[str, Stamp]:
        """Return the files of an output that are to be sent, by their paths in it.

        Raises:
            UserErrorException: one is a link that leads out of the run's folder.
        """
        place = output["place"]
        files = [place] if os.path.isfile(place) else below(place)
        root = os.path.dirname(place) if os.path.isfile(place) else place
        globs = output["globs"] or ["*"]
        inside = os.path.realpath(self._run.root) + os.sep
        found: dict[str, Stamp] = {}
        for file in files:
            relative = os.path.relpath(file, root)
            if not any(fnmatch(relative, glob) for glob in globs):
                continue
            if os.path.islink(file) and not os.path.realpath(file).startswith(inside):
                raise UserErrorException(f"{file} leads out of the run's folder; it is not sent.")
            try:
                known = os.stat(file)
            except FileNotFoundError:
                continue  # it was removed since, or is a link to nothing
            found[relative] = [known.st_size, known.st_mtime_ns]
        return found

    def unsent(self, output: dict[str, Any]) -> list[str]:
        """Return the paths of its files that were not sent as they are."""
        try:
            found = self.found(output)
        except UserErrorException:
            return [output["place"]]  # none of it can be
        sent, place = self._sent.get(output["name"], {}), output["place"]
        root = os.path.dirname(place) if os.path.isfile(place) else place
        return [os.path.join(root, one) for one in sorted(found) if sent.get(one) != found[one]]

    def send(self, output: dict[str, Any], found: dict[str, Stamp]) -> None:
        """Send those of the files that were not sent as they are."""
        name, path = output["name"], output["path"]
        sent = self._sent.setdefault(name, {})
        fresh = [file for file in sorted(found) if sent.get(file) != found[file]]
        if not fresh:
            return
        store = Datastore._at(output["store"])
        if not output["overwrite"]:
            if name not in self._there:
                self._there[name] = {
                    os.path.relpath(one, path or os.curdir) for _, one in store.files(path)
                }
            stay = self._there[name] - sent.keys()
            fresh = [file for file in fresh if file not in stay]
        files = f"{len(fresh)} file{'' if len(fresh) == 1 else 's'}"
        self._say(f"sending {files} to {store.name}/{path}")
        place = output["place"]
        root = os.path.dirname(place) if os.path.isfile(place) else place
        for start in range(0, len(fresh), _BATCH):
            batch = fresh[start : start + _BATCH]
            for file in batch:
                sent.setdefault(file, None)
            self._note()
            store._copy([(os.path.join(root, file), file) for file in batch], path, True, False)
            sent.update({file: found[file] for file in batch})
            self._note()

    def _note(self) -> None:
        jsonl.write_atomic(self._run.sent, {"schema": 1, "sent": self._sent})
