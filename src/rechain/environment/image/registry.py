"""Fetch an image, with a password if need be, and say why it cannot be had.

The password is in memory only: the engine's client reads it from a file that has no name
(`memfd`), reached through this process's descriptors. It is gone with this process, however that
ends; a folder that may be left over holds a link to nothing.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rechain.environment.engines import Engine
from rechain.environment.errors import EnvironmentFailure

__all__ = ["credentials", "explain", "pull"]

_DOCKER_HUB = "https://index.docker.io/v1/"  # the key under which docker keeps it


def pull(
    engine: Engine,
    reference: str,
    login: dict[str, str] | None,
    password: str | None,
    say: Callable[[str], None],
    bench: str,
    log: str = os.devnull,
) -> None:
    """Fetch an image.

    Args:
        engine: the engine.
        reference: the image's name.
        login: `{"address", "username"}`, or None for whatever the user's own login allows.
        password: the password that goes with it.
        say: takes lines for people.
        bench: a folder for what is laid aside meanwhile, gone with this process.
        log: the file that gets what the engine says, as it comes.

    Raises:
        EnvironmentFailure: it cannot be had: the registry refuses the login, has no such image,
            or cannot be reached.
    """
    if engine.name == "podman" and reference.startswith("localhost/"):
        raise explain(engine, reference, login, "")  # so podman calls what no registry has
    say(f"fetching {reference}")
    with (
        open(log, "a", encoding="utf-8", buffering=1) as file,
        credentials(engine, reference, login, password, bench) as extra,
    ):
        said = engine.call(
            "pull",
            reference,
            extra={"TMPDIR": bench, **extra},
            on_line=lambda line: print(line, file=file),
        )
    if said.code:
        errors = re.findall(r"(?im)^(?:error|cannot|docker:).*", said.text)
        raise explain(engine, reference, login, "\n".join(errors) or said.text)


@contextmanager
def credentials(
    engine: Engine,
    reference: str,
    login: dict[str, str] | None,
    password: str | None,
    bench: str | None = None,
) -> Iterator[dict[str, str]]:
    """Give the variables with which an engine's client logs in.

    Args:
        engine: the engine.
        reference: the image that is wanted, whose registry is meant if `login` names none.
        login: see `pull`.
        password: see `pull`.
        bench: see `pull`; else the system's folder for such.
    """
    if not login or not login.get("username"):
        yield {}
        return
    address = re.sub(r"^https?://", "", login.get("address") or _host(reference)).rstrip("/")
    if not address or address == "docker.io":
        address = _DOCKER_HUB if engine.name == "docker" else "docker.io"
    pair = f"{login['username']}:{password or ''}".encode()
    own = os.path.expanduser(
        engine.variables.get("DOCKER_CONFIG") or f"{engine.variables.get('HOME', '~')}/.docker"
    )
    document = _docker_settings(own) if engine.name == "docker" else {}
    document["auths"] = {
        **document.get("auths", {}),
        address: {"auth": base64.b64encode(pair).decode()},
    }
    descriptor = os.memfd_create("rechain-login")
    try:
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            json.dump(document, file)
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        if engine.name == "podman":
            yield {"REGISTRY_AUTH_FILE": path}
            return
        with tempfile.TemporaryDirectory(prefix="rechain-", dir=bench) as folder:
            os.symlink(path, f"{folder}/config.json")
            for name in os.listdir(own) if os.path.isdir(own) else ():
                if name != "config.json":  # contexts and plugins
                    os.symlink(f"{own}/{name}", f"{folder}/{name}")
            yield {"DOCKER_CONFIG": folder}
    finally:
        os.close(descriptor)


def _docker_settings(folder: str) -> dict[str, Any]:
    """Return the user's settings of docker, without those that would ask another for passwords."""
    try:
        with open(f"{folder}/config.json", encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if key not in ("credsStore", "credHelpers")}


def _host(reference: str) -> str:
    first, slash, _ = reference.partition("/")
    return first if slash and re.search(r"[.:]|^localhost$", first) else ""


def explain(
    engine: Engine, reference: str, login: dict[str, str] | None, errors: str
) -> EnvironmentFailure:
    """Put into words why an image could not be fetched.

    Args:
        engine: the engine that was asked.
        reference: the image's name.
        login: see `pull`.
        errors: what its client said.
    """
    errors = "\n".join(line for line in errors.splitlines() if "level=warning" not in line)
    text = errors.lower()
    host = _host(reference) or "the registry"
    user = (login or {}).get("username")
    missing = EnvironmentFailure(
        f"there is no image {reference}", "Check its name and tag.", errors.strip()
    )
    if engine.name == "podman" and reference.startswith("localhost/") and "no space" not in text:
        # So podman calls what was built here; a registry of this machine has a port.
        return EnvironmentFailure(
            f"this machine has no image {reference}",
            "Check its name and tag; `podman images` lists those that are here.",
            errors.strip(),
        )
    if "no space left" in text:
        return EnvironmentFailure(
            f"the disk of {engine.name}'s images is full",
            f"Make room, for example with `{engine.name} image prune`.",
            errors.strip(),
        )
    if "manifest unknown" in text or "name unknown" in text or "manifest not found" in text:
        return missing
    if "does not exist or may require" in text or "requested access to the resource" in text:
        # Docker Hub says this in both cases.
        return EnvironmentFailure(
            f"there is no image {reference}, or it may not be fetched by {user or 'anybody'}",
            "Check its name; a private image needs image_registry_details.",
            errors.strip(),
        )
    if re.search(
        r"unauthorized|authentication required|auth credentials|invalid user|denied|\b40[13]\b",
        text,
    ):
        if user:
            return EnvironmentFailure(
                f"{host} refuses the user {user!r}: wrong name or password",
                "Check username and password in image_registry_details.",
                errors.strip(),
            )
        return EnvironmentFailure(
            f"{host} gives {reference} only to those who log in",
            f"Name user and password in image_registry_details, or use `{engine.name} login`.",
            errors.strip(),
        )
    if "http response to https client" in text or "x509" in text:
        return EnvironmentFailure(
            f"{host} does not speak the TLS that {engine.name} trusts",
            f"Add its certificate, or list it as insecure, in {engine.name}'s settings.",
            errors.strip(),
        )
    if re.search(
        r"no such host|connection refused|timeout|timed out|dial tcp|unreachable|lookup|eof\b"
        r"|deadline exceeded|temporary failure",
        text,
    ):
        return EnvironmentFailure(
            f"{host} cannot be reached, and {reference} is not on this machine",
            "Check the address and the network, or fetch the image beforehand.",
            errors.strip(),
        )
    if "short-name" in text:
        library = "" if "/" in reference else "library/"
        return EnvironmentFailure(
            f"{engine.name} does not know which registry {reference} is in",
            f"Name its registry, too, such as docker.io/{library}{reference}.",
            errors.strip(),
        )
    if re.search(r"not found|404", text):
        return missing
    last = ([line.strip() for line in errors.splitlines() if line.strip()] or ["no reason"])[-1]
    return EnvironmentFailure(f"{reference} cannot be fetched: {last}", "", errors.strip())
