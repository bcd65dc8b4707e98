"""Bring a job's environment to the own disk of each of its nodes.

All nodes or none: every rank is to find it at the same path. Where one node cannot, the job reads
it from the shared file system, as without all this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from rechain.environment import packed
from rechain.record import jsonl
from rechain.supervisor import launchers
from rechain.supervisor.variables import PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["on_all_nodes", "unpack_here"]


def on_all_nodes(cache: str, prefix: str, folder: str, nodes: int, result: str) -> NoReturn:
    """Pack an environment, have all nodes unpack it, and write what came of it; never returns.

    Args:
        cache: where environments are kept.
        prefix: the environment's folder in it.
        folder: the nodes' folder for such things; `$NAME` in it is a variable of the job there.
        nodes: how many nodes there are.
        result: path for `{"prefix", "nodes", "text"}`: the environment's folder on the nodes, or
            None; what each node said, by name; a line for people.
    """
    said: dict[str, Any] = {}
    why = ""
    try:
        pack = packed.pack(cache, prefix, lambda line: print(line, flush=True))
        said = _ask(pack, folder, nodes)
    except OSError as error:
        why = f"it cannot be packed in {cache} ({error.strerror or error})"
    refusals = [f"{node}: {one['why']}" for node, one in sorted(said.items()) if one["why"]]
    if any(one["damaged"] for one in said.values()):
        packed.forget(cache, os.path.basename(prefix))  # the next run packs it again
    places = {one["prefix"] for one in said.values()}
    if refusals:
        why = "; ".join(refusals[:3]) + f" and {len(refusals) - 3} more" * (len(refusals) > 3)
    elif not why and len(said) < nodes:
        why = f"of {nodes} nodes {len(said)} answered"
    elif not why and len(places) > 1:
        why = f"{folder} is not the same path on all nodes"
    where = None if why else places.pop()
    text = f"the environment is read from the shared file system, not from the nodes' disks: {why}"
    if where is not None:
        fresh = {node: one["seconds"] for node, one in said.items() if one["seconds"] is not None}
        how = "it was there already"
        if fresh:
            how = f"unpacked on {_listed(sorted(fresh))} in {max(fresh.values()):.1f} s"
        own = os.path.dirname(where)
        text = f"the environment is read from the nodes' own disks: {own}, {how}"
    jsonl.write_new(result, {"prefix": where, "nodes": said, "text": text})
    os._exit(0)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + f" and {len(names) - 4} more nodes" * (len(names) > 4)


def _ask(pack: packed.Pack, folder: str, nodes: int) -> dict[str, Any]:
    """Have all nodes unpack; return what they say, by the node's name."""
    arguments = ["--unpack", pack.path, jsonl.dumps(pack.document), folder]
    command = [sys.executable, "-I", "-S", PROGRAM, *arguments]
    environment = dict(os.environ)
    if nodes > 1:
        command = launchers.on_each_node(nodes, *arguments)
        launchers.surroundings(environment)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False, text=True,
        errors="replace", env=environment,
    )  # fmt: skip
    found = {}
    for line in done.stdout.splitlines():
        try:
            one = jsonl.loads(line)
            found[one.pop("node")] = one
        except (ValueError, KeyError, TypeError, AttributeError):
            print(line, flush=True)  # what a site's own start of a step says
    return found


def unpack_here(path: str, document: str, folder: str) -> NoReturn:
    """Unpack an environment on this node, and say how that went; never returns.

    Args:
        path: the packed file.
        document: what is known of it, as JSON.
        folder: this node's folder for such things.
    """
    began = time.monotonic()
    said: dict[str, Any] = {"prefix": None, "seconds": None, "why": "", "damaged": False}
    try:
        pack = packed.Pack(path, jsonl.loads(document))
        said["prefix"], fresh = packed.unpack(pack, folder)
        if fresh:
            said["seconds"] = round(time.monotonic() - began, 3)
    except packed.NotUnpacked as error:
        said.update(why=error.message, damaged=error.damaged)
    print(jsonl.dumps({"node": os.uname().nodename, **said}), flush=True)
    os._exit(0)
