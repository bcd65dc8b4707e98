"""Make an image ready: fetched as it is, or built; whole, or not there.

The engine keeps the images. It tags one when its last step is done, so a build that was killed
leaves nothing under the name that is looked for; which name that is says all that is in it.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from typing import Any

from rechain.environment import store
from rechain.environment.build import alone, workbench
from rechain.environment.engines import Engine
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.image import context
from rechain.environment.image.builder import build, facts_of, from_source, inspect
from rechain.environment.image.containerfile import places, variables
from rechain.environment.image.names import base_for
from rechain.environment.image.registry import explain, pull
from rechain.environment.prepare import cache_usable
from rechain.environment.spec import digest_of
from rechain.record import jsonl

__all__ = ["LABEL", "ensure"]

LABEL = "rechain.environment"
"""The label of every image that is built here: the digest of its environment."""

_NAME = "localhost/rechain"
# An image that is known by its content need not be asked for again.
_BY_CONTENT = re.compile(r"(?:sha256:)?[0-9a-f]{64}|.*@sha256:[0-9a-f]{64}")


def ensure(
    environment: dict[str, Any],
    found: dict[str, Any] | None,
    cache: str,
    engine: Engine,
    say: Callable[[str], None] = lambda line: None,
    password: str | None = None,
    log: str = os.devnull,
    carried: bool = False,
    kept: str = "",
) -> dict[str, Any]:
    """Make the image of a job ready.

    Args:
        environment: the `environment` of a job, settled, with an `image`.
        found: the environment that is put into it, as `store.find` returned it; None for an image
            that is run as it is.
        cache: what `store.cache_root` returned.
        engine: what builds and runs it.
        say: takes lines for people, as things happen.
        password: what goes with the image's `registry`.
        log: the file that gets what the engine says while it builds, as it comes.
        carried: whether other machines share the cache, and have engines of their own: what one
            has built the others load from an archive beside it.
        kept: the workspace's store, where the image is built from a folder that it keeps.

    Returns:
        What `store.find_image` returns from now on; with `loaded`, if it has come from there now.

    Raises:
        EnvironmentFailure: it cannot be made ready.
    """
    image = environment["image"]
    document: dict[str, Any]
    path = store.image(cache, environment, engine.name)
    archive = f"{path[:-5]}.tar" if carried else ""
    if archive and not image["pull"]:  # before the lock: each machine waits for itself only
        known = store.find_image(cache, environment, engine.name)
        if known is not None and (loaded := _carried(engine, known, archive, say)):
            return loaded
    with cache_usable(cache), alone(f"{path[:-5]}.lock", say):
        known = store.find_image(cache, environment, engine.name)
        if known is not None and not image["pull"]:
            if inspect(engine, known["id"]):
                if archive and _to_carry(known):
                    _save(engine, known, archive, say)
                return known
            if archive and (loaded := _carried(engine, known, archive, say)):
                return loaded

        def fetch(reference: str) -> None:
            with workbench(cache) as bench:
                pull(engine, reference, image.get("registry"), password, say, bench, log)

        names = [one["name"] for one in found["lock"]["packages"]] if found else []
        pinned = image.get("pinned")
        if pinned is not None and inspect(engine, pinned["id"]):
            document = {**pinned, "engine": engine.title}
            jsonl.write_atomic(path, document)
            return document
        if "dockerfile" in image or "context" in image:
            from_source(engine, image, cache, kept, say, log)
        if pinned is not None:
            reference, base = _pinned_base(engine, pinned["base"], image, fetch, say)
            environment = {**environment, "image": {**image, "base": reference}}
        elif archive and known and not image["pull"] and "registry" not in image:
            reference, base = _pinned_base(engine, known["base"], image, fetch, say)
        else:
            reference = base_for(image, names)
            base = _fetched(engine, reference, image, fetch, say)
        facts = facts_of(reference, base)
        if found is None:
            document = {"id": facts["id"], "reference": reference, "mpi": None}
        else:
            document = _built(environment, found, cache, engine, say, facts, log)
        document = {"schema": 1, **document, "base": facts, "engine": engine.title}
        if "asked" in image:
            document["asked"] = image["asked"]
        jsonl.write_atomic(path, document)
        if archive and _to_carry(document):
            _save(engine, document, archive, say)
        return document


def _to_carry(document: dict[str, Any]) -> bool:
    """Return whether an image is nowhere to be pulled from: it was built, or made by hand."""
    base = document["base"]
    built = document["id"] != base["id"]
    return built or not base["digest"] or base["reference"].startswith("localhost/")


def _save(
    engine: Engine, document: dict[str, Any], archive: str, say: Callable[[str], None]
) -> None:
    """Write an image to an archive, unless it is there; without one others build it, too."""
    if os.path.exists(archive) and _saved(archive) == document["id"]:
        return
    name = document["id"] if "@" in document["reference"] else document["reference"]
    form = _form(engine, name) if engine.name == "podman" else []
    part = f"{archive}.{os.getpid()}.part"
    started = time.monotonic()
    try:
        said = engine.call("save", *form, "--output", part, name)
        if said.code:
            say(f"note: the image cannot be kept for other nodes: {said.reason}")
            return
        os.rename(part, archive)
        jsonl.write_atomic(f"{archive}.json", {"schema": 1, "id": document["id"]})
        size = os.stat(archive).st_size / (1 << 20)
        say(f"kept for other nodes: {size:.0f} MiB in {time.monotonic() - started:.1f} s")
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _form(engine: Engine, name: str) -> list[str]:
    """Return what has podman save an image so that it keeps its id."""
    said = engine.call("image", "inspect", "--format", "{{.ManifestType}}", name)
    if "docker" in said.text:  # it has come from docker, or from a registry's docker manifest
        return ["--format", "docker-archive"]
    return ["--format", "oci-archive", "--uncompressed"]  # to compress takes five times as long


def _saved(archive: str) -> str:
    known = store.read_known(f"{archive}.json")
    return known["id"] if known is not None else ""


def _carried(
    engine: Engine, known: dict[str, Any], archive: str, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Load an image that another machine's engine has built; None if there is no such archive."""
    if _saved(archive) != known["id"] or inspect(engine, known["id"]):
        return None
    say(f"loading the image {known['reference']}, which another node has built")
    started = time.monotonic()
    with contextlib.suppress(OSError):
        os.utime(archive)  # it is in use: `rechain env gc` leaves it
    said = engine.call("load", "--input", archive)
    if said.code or not inspect(engine, known["id"]):
        say(f"note: it cannot be loaded from {archive}: {said.reason}")
        return None
    return {**known, "loaded": {"from": archive, "seconds": round(time.monotonic() - started, 3)}}


def _pinned_base(
    engine: Engine,
    recorded: dict[str, Any],
    image: dict[str, Any],
    fetch: Callable[[str], None],
    say: Callable[[str], None],
) -> tuple[str, dict[str, Any]]:
    """Return the name of the image that a run was built on, and what it is; else of its name."""
    name = recorded["reference"]
    here = inspect(engine, name)
    if here is not None and facts_of(name, here)["id"] == recorded["id"]:
        return name, here
    if inspect(engine, recorded["id"]) is not None:  # under no name, or another
        kept = f"{_NAME}-base:{recorded['id'].removeprefix('sha256:')[:32]}"
        engine.check("tag", recorded["id"], kept, doing=f"giving {name} a name of its own")
        return kept, _fetched(engine, kept, image, fetch, say)
    if recorded["digest"] and not name.startswith("localhost/"):
        folder, slash, last = name.partition("@")[0].rpartition("/")
        exact = f"{folder}{slash}{last.partition(':')[0]}@{recorded['digest']}"
        try:
            return exact, _fetched(engine, exact, image, fetch, say)
        except EnvironmentFailure as failure:
            say(f"{failure.message}: the image of this name is taken")
    return name, _fetched(engine, name, image, fetch, say)


def _fetched(
    engine: Engine,
    reference: str,
    image: dict[str, Any],
    fetch: Callable[[str], None],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return what an image is, after fetching it unless it is there."""
    here = inspect(engine, reference)
    if here is not None and (not image["pull"] or _BY_CONTENT.fullmatch(reference)):
        return here
    if here is not None and reference.startswith("localhost/"):
        say(f"note: {reference} was built on this machine: it cannot be fetched anew")
        return here
    try:
        fetch(reference)
    except EnvironmentFailure as failure:
        if here is None:
            raise
        why = failure.message.removesuffix(f", and {reference} is not on this machine")
        raise EnvironmentFailure(
            f"{reference} is on this machine, and cannot be fetched anew: {why}",
            "If it was built here, or will do, leave out --pull.",
            failure.detail,
        ) from failure
    fetched = inspect(engine, reference)
    if fetched is None:
        raise EnvironmentFailure(f"{reference} was fetched, and is not there any more")
    if here is not None and here["Id"] != fetched["Id"]:
        say(f"note: {reference} is another image than before")
    return fetched


def _built(
    environment: dict[str, Any],
    found: dict[str, Any],
    cache: str,
    engine: Engine,
    say: Callable[[str], None],
    base: dict[str, Any],
    log: str,
) -> dict[str, Any]:
    mpi = context.mpi_inside(found["mpi"], cache) if found["mpi"] else None
    image = environment["image"]
    content = {
        "base": base["id"],
        "environment": os.path.basename(found["prefix"]),
        "text": context.containerfile(found, image),
    }
    key = digest_of(content)
    name = f"{_NAME}:{key[:32]}"
    made = inspect(engine, name)
    if made is None:
        say(f"building the image {name} with {engine.title}")
        started = time.monotonic()
        # All but the user's packages has a name of its own: with one more, it is there already.
        rest = digest_of({"base": base["id"], **context.below(found, image)})
        on = f"{_NAME}-below:{rest[:32]}"
        with alone(f"{cache}/images/{engine.name}-{rest[:32]}.lock", say):
            if inspect(engine, on) is None:
                _build(engine, on, found, image, cache, base["id"], log, part="below")
        made = inspect(engine, on)
        if made is None:
            raise EnvironmentFailure(f"{on} was built, and is not there any more")
        _build(engine, name, found, image, cache, made["Id"], log, part="packages", on=on)
        say(f"built in {time.monotonic() - started:.1f} s")
        made = inspect(engine, name)
        if made is None:
            raise EnvironmentFailure("the image was built, and is not there any more")
    conda = context.prefix_inside(found)
    at = places(conda).environment
    own = variables(mpi is not None, conda)
    return {
        "id": facts_of(name, made)["id"],
        "reference": name,
        "python": f"{at}/bin/python",
        "bin": f"{at}/bin",
        "variables": own,
        "mpi": mpi,
    }


def _build(
    engine: Engine,
    name: str,
    found: dict[str, Any],
    image: dict[str, Any],
    cache: str,
    base: str,
    log: str,
    **which: str,
) -> None:
    options = ["--label", f"{LABEL}={found['lock']['digest']}"]
    if engine.name == "podman":
        options.append("--pull=never")
    with workbench(cache) as bench:
        folder = f"{bench}/image"
        context.write(found, image, folder, **which)
        file = f"{folder}/Containerfile"
        said = build(engine, cache, name, folder, file, log, options=options, bases=[base])
    if said.code:
        raise _why(engine, said.errors, found)


def _why(engine: Engine, errors: str, found: dict[str, Any]) -> EnvironmentFailure:
    """Put into words why a build failed."""
    if "no space left" in errors.lower() or "disk quota exceeded" in errors.lower():
        return explain(engine, "", None, "no space left\n" + errors[-4000:])
    detail = "\n".join(errors.strip().splitlines()[-15:])
    lock = found["lock"]
    python, libc = lock["interpreter"]["version"], lock["platform"]["libc"]
    if re.search(r"version `?GLIBC_[\d.]+'? not found", errors):
        return EnvironmentFailure(
            f"the image has an older C library than Python {python} needs, which is of a machine "
            f"with {libc}",
            "Name a newer image (RECHAIN_BASE_IMAGE, custom_docker_image), or a Python that was "
            "built for old systems, such as uv's.",
            detail,
        )
    if "apt-get" in errors and re.search(
        r"unable to (fetch|locate)|failed to fetch", errors.lower()
    ):
        return EnvironmentFailure(
            "building the image failed: git cannot be fetched for it",
            "Check the network, or name an image that has git with RECHAIN_BASE_IMAGE.",
            detail,
        )
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"(?i)error|the command", line)]
    reason = (told or lines or ["no reason given"])[-1]
    return EnvironmentFailure(
        f"building the image failed: {reason}",
        "All that the engine said: `rechain logs --prepare RUN`.",
        detail,
    )
