"""Have an engine build an image, and say what an image is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from rechain.environment.build import workbench
from rechain.environment.engines import Engine, Said
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.image import remains
from rechain.exceptions import SnapshotException
from rechain.job import snapshot

__all__ = ["build", "facts_of", "from_source", "inspect"]

_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "ftp_proxy", "all_proxy")


def inspect(engine: Engine, reference: str) -> dict[str, Any] | None:
    """Return what an engine says of an image; None if it has none of this name.

    Raises:
        EnvironmentFailure: it does not say.
    """
    said = engine.call("image", "inspect", reference)
    if said.code == 0:
        try:
            (facts,) = json.loads(said.text)
        except ValueError:
            facts = None
        if isinstance(facts, dict):
            return facts
    if re.search(r"no such image|not known|not found|unable to find", said.errors.lower()):
        return None
    raise EnvironmentFailure(
        f"{engine.name} does not say whether it has {reference}: {said.reason}",
        "",
        said.errors.strip(),
    )


def facts_of(reference: str, inspected: dict[str, Any]) -> dict[str, Any]:
    """Return of what `inspect` returned what is recorded: `{"reference", "id", "digest"}`."""
    digests = [one.rpartition("@")[2] for one in inspected.get("RepoDigests") or ()]
    return {
        "reference": reference,
        "id": f"sha256:{inspected['Id'].removeprefix('sha256:')}",
        "digest": digests[0] if digests else None,
    }


def build(
    engine: Engine,
    cache: str,
    name: str,
    folder: str,
    file: str,
    log: str,
    *,
    options: Iterable[str] = (),
    bases: Iterable[str] = (),
) -> Said:
    """Build an image; the engine names it when its last step is done.

    Args:
        engine: the engine.
        cache: what `store.cache_root` returned.
        name: the image's name.
        folder: what can be copied, in a workbench; what the engine lays aside is put beside it.
        file: the Containerfile.
        log: the file that gets what the engine says, as it comes.
        options: more options of `build`.
        bases: the ids of images that it is built on, as far as they are known.
    """
    arguments = ["build", "--network", "host", *options, "--tag", name, "--file", file]
    if engine.name != "podman":
        # Its builder has no proxy of its own. Named only, so that no password is in sight.
        names = [n for p in _PROXIES for n in (p, p.upper()) if n in os.environ]
        arguments += [text for proxy in names for text in ("--build-arg", proxy)]
    bench = {"TMPDIR": os.path.dirname(folder)}  # gone with the bench, however it ends
    with (
        open(log, "a", encoding="utf-8", buffering=1) as out,
        remains.noted(engine, cache, bases) as note,
    ):

        def take(line: str) -> None:
            print(line, file=out)
            note(line)

        return engine.call(*arguments, folder, on_line=take, extra=bench)


def from_source(
    engine: Engine,
    image: dict[str, Any],
    cache: str,
    kept: str,
    say: Callable[[str], None],
    log: str,
) -> None:
    """Build the image of a Dockerfile or of a folder with one, unless it is there.

    Args:
        engine: the engine.
        image: the `image` of a job's environment, with a `dockerfile` or a `context`.
        cache: what `store.cache_root` returned.
        kept: the workspace's store, which has the folder.
        say: takes lines for people.
        log: the file that gets what the engine says.

    Raises:
        EnvironmentFailure: it cannot be built.
    """
    name = image["reference"]
    if not image["pull"] and inspect(engine, name) is not None:
        return
    say(f"building the image {name} with {engine.title}")
    with workbench(cache) as bench:
        folder, file = f"{bench}/image", f"{bench}/Dockerfile"
        context = image.get("context")
        if context is None:
            os.mkdir(folder)
            with open(file, "w", encoding="utf-8") as out:
                out.write(image["dockerfile"])
        else:
            file = f"{folder}/{context['dockerfile']}"
            try:
                snapshot.checkout(kept, context["snapshot"], folder)
            except SnapshotException as error:
                raise EnvironmentFailure(
                    f"the folder that the image is built from cannot be had: {error.message}",
                    "Give it again: DockerBuildContext.from_local_directory(workspace, FOLDER).",
                ) from error
        options = ["--pull"] if image["pull"] else []
        said = build(engine, cache, name, folder, file, log, options=options)
    if said.code:
        text = said.errors.replace(folder, "its folder")  # a path that is gone
        told = [line.strip() for line in text.splitlines() if line.strip()]
        hint = "All of it is in the image build log (`rechain logs --prepare RUN`)."
        if context is None:
            hint += (
                " No files go with a Dockerfile's text. To COPY some, put it beside them: "
                "Environment.from_docker_build_context."
            )
        raise EnvironmentFailure(
            f"building the image of the Dockerfile failed: {(told or ['no reason given'])[-1]}",
            hint,
            "\n".join(told[-15:]),
        )
