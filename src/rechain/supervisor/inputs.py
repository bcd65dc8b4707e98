"""Whether mounted inputs are at the end of a run what they were at its start.

A mounted folder of this machine is the folder itself, and nothing but a user namespace or root
could make it read-only for a script alone. So what was changed is found out, said and recorded.
"""

from __future__ import annotations

import os

from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["changes"]

_MOST = 20_000  # files: their stats take a tenth of a second
_NAMED = 3


def changes(one: dict[str, Any]) -> str:
    """Return what to say of an input that was changed while the run went on; empty if it was not.

    Args:
        one: the input, as `inputs.json` has it.
    """
    base = one.get("base")
    if not base or one["count"] > _MOST:
        return ""
    if "files" not in one:  # too many to be listed
        now = sorted(_found(base).items())
        import hashlib

        text = jsonl.dumps([[path, *(state or ())] for path, state in now])
        same = hashlib.sha256(text.encode()).hexdigest() == one["version"]
        return "" if same else _said(one, "files changed, came or went")
    before = {row[0]: (row[1], row[2]) for row in one["files"]}
    after = _found(base) if one["whole"] else {path: _state(f"{base}/{path}") for path in before}
    sorts = {
        "changed": [path for path in before if after.get(path) not in (None, before[path])],
        "gone": [path for path in before if after.get(path) is None],
        "new": [path for path in after if path not in before],
    }
    words = [_count(names, sort) for sort, names in sorts.items() if names]
    return _said(one, "; ".join(words)) if words else ""


def _said(one: dict[str, Any], what: str) -> str:
    kept = " (only in a container is a mounted dataset read-only)" * (one["kind"] == "dataset")
    return f"the input {one['name']} was written to while the run went on{kept}: {what}"


def _count(names: list[str], sort: str) -> str:
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names)} {sort} ({', '.join(sorted(names)[:_NAMED])}{more})"


def _found(base: str) -> dict[str, tuple[int, str] | None]:
    found: dict[str, tuple[int, str] | None] = {}
    for folder, _, names in os.walk(base, followlinks=True):
        for name in names:
            path = os.path.join(folder, name)
            if state := _state(path):
                found[os.path.relpath(path, base)] = state
    return found


def _state(path: str) -> tuple[int, str] | None:
    try:
        known = os.stat(path)
    except OSError:
        return None
    return known.st_size, str(known.st_mtime_ns)
