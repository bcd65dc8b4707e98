"""What a killed `podman build` leaves: the containers that it worked in, and no word of whose.

So each build notes what there was before it and which images it works on. The next one removes
what came between the two, on those images, while no other build of ours was at work on them.
Docker's daemon does this itself.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rechain.environment import store
from rechain.environment.engines import Engine
from rechain.record import host, jsonl

__all__ = ["noted"]

_SLACK = 10.0  # seconds, from the last line of a build to the last container that it makes


@contextmanager
def noted(engine: Engine, cache: str, bases: Iterable[str]) -> Iterator[Callable[[str], None]]:
    """Note that an image is built, having removed what killed builds have left.

    Args:
        engine: what builds it.
        cache: what `store.cache_root` returned.
        bases: the ids of images that it is built on; of others the engine says the names.

    Yields:
        A function that takes each line of what the engine says.
    """
    if engine.name != "podman":
        yield lambda line: None
        return
    folder = f"{cache}/images/building"
    os.makedirs(folder, exist_ok=True)
    _clear(engine, folder)
    path = f"{folder}/{os.getpid()}-{time.monotonic_ns()}.json"
    document = {
        "schema": 1,
        "owner": {**host.identity(), **host.process(os.getpid())},
        "before": [one["Id"] for one in _containers(engine)],
        "images": [base.removeprefix("sha256:") for base in bases],
        "names": [],
        "begun": time.time(),
        "last": time.time(),
    }

    def take(line: str) -> None:
        # After each step: "--> 63cdea87fbf", or "--> Using cache 63cdea87fbf0...".
        if found := re.match(r"--> (?:Using cache )?([0-9a-f]{10,})", line):
            document["images"].append(found[1])  # type: ignore[attr-defined]
        # "STEP 1/3: FROM debian:12", or "[1/2] STEP 1/3: FROM --platform=linux debian:12 AS one".
        if found := re.match(r"(?:\[[\d/]+\] )?STEP [\d/]+: FROM (?:--\S+ )*(\S+)", line):
            document["names"].append(found[1])  # type: ignore[attr-defined]
        document["last"] = time.time()
        jsonl.write_atomic(path, document)

    jsonl.write_atomic(path, document)
    try:
        yield take
    finally:
        os.unlink(path)


def _clear(engine: Engine, folder: str) -> None:
    records = {}
    for name in os.listdir(folder):
        known = store.read_known(f"{folder}/{name}")
        if known is not None:
            records[f"{folder}/{name}"] = known
    here = host.identity()
    dead = [path for path, one in records.items() if not _lives(one["owner"], here)]
    at_work = [
        image for path, one in records.items() if path not in dead for image in _on(engine, one)
    ]
    there = _containers(engine) if dead else []
    for path in dead:
        record = records[path]
        images = _on(engine, record)
        if any(_same(image, other) for image in images for other in at_work):
            continue  # which of them made it cannot be told; the next build looks again
        for one in there:
            if (
                one["Id"] not in record["before"]
                and record["begun"] - 1 <= one["Created"] <= record["last"] + _SLACK
                and _made_of(engine, one["ImageID"], images)
            ):
                engine.call("rm", "--force", one["Id"])
        os.unlink(path)


def _on(engine: Engine, record: dict[str, Any]) -> list[str]:
    """Return the ids of the images that a build works on, fetched by itself or there before."""
    named = record.get("names", ())
    asked = [engine.call("image", "inspect", "--format={{.Id}}", name) for name in named]
    return [*record["images"], *(said.text.strip() for said in asked if not said.code)]


def _made_of(engine: Engine, image: str, images: list[str]) -> bool:
    """Return whether an image is one of these, or nameless and made of them.

    So is that of a step whose last word nobody took down any more.
    """
    while image:
        if any(_same(image, one) for one in images):
            return True
        said = engine.call("image", "inspect", "--format={{.Parent}} {{len .RepoTags}}", image)
        parent, _, tags = said.text.strip("\n").rpartition(" ")
        if said.code or tags != "0":
            return False
        image = parent.removeprefix("sha256:")
    return False


def _lives(owner: dict[str, Any], here: dict[str, str]) -> bool:
    """Return whether a build may still be at work: what another host does cannot be seen."""
    if host.rebooted(owner, here):
        return False
    return host.elsewhere(owner, here) or host.is_alive(owner)


def _same(image: str, other: str) -> bool:
    return image.startswith(other) or other.startswith(image)


def _containers(engine: Engine) -> list[dict[str, Any]]:
    """Return the containers that are no container of podman's but were made by a builder."""
    said = engine.call("ps", "--all", "--external", "--no-trunc", "--format", "json")
    try:
        found = json.loads(said.text)
    except ValueError:
        return []
    return [one for one in found or () if one.get("Status") == "Storage" and one.get("ImageID")]
