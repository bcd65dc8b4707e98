"""Read from pip's settings what uv needs to know and does not read itself."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterable, Mapping

__all__ = ["for_uv", "in_container"]

_OWN = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
# Settings that may name files of this machine.
_NAMING = (
    "cert", "client-cert", "constraint", "extra-index-url", "find-links", "index-url",
    "requirement",
)  # fmt: skip
_OWN_FILES = ("/etc/uv/uv.toml", "~/.config/uv/uv.toml")


def for_uv(environ: Mapping[str, str]) -> dict[str, str]:
    """Return pip's index settings as uv's variables.

    Somebody who has told uv about indexes has told all: then only the certificates count, and
    else the index, further http(s) indexes, and link folders that exist.

    Args:
        environ: the caller's environment.
    """
    settings = _settings(environ)
    result = {}
    if "cert" in settings and os.path.exists(settings["cert"]):
        result["SSL_CERT_FILE"] = settings["cert"]
    if any(environ.get(name) for name in (*_OWN, "UV_CONFIG_FILE")) or any(
        os.path.exists(os.path.expanduser(path)) for path in _OWN_FILES
    ):
        return result
    if "index-url" in settings:
        result["UV_DEFAULT_INDEX"] = settings["index-url"]
    further = [u for u in settings.get("extra-index-url", "").split() if u.startswith("http")]
    if further:
        result["UV_INDEX"] = " ".join(further)
    links = settings.get("find-links", "").split()
    links = [link for link in links if link.startswith("http") or os.path.isdir(link)]
    if links:
        result["UV_FIND_LINKS"] = ",".join(links)
    if "trusted-host" in settings:
        result["UV_INSECURE_HOST"] = " ".join(settings["trusted-host"].split())
    return result


def in_container(environ: Mapping[str, str]) -> list[str]:
    """Return the files and folders of this machine by which pip in a container is told the same.

    Args:
        environ: the caller's environment.

    Returns:
        The files of pip's settings, the one that counts most first, and what they name.
    """
    files = [path for path in reversed(_files(environ)) if os.path.isfile(path)]
    settings = _read(reversed(files))
    words = " ".join(settings.get(name, "") for name in _NAMING).split()
    named = [os.path.normpath(word.removeprefix("file://")) for word in words]
    there = [path for path in named if os.path.isabs(path) and os.path.exists(path)]
    return list(dict.fromkeys(files + there))


def _files(environ: Mapping[str, str]) -> list[str]:
    """Return where pip's settings are, in its own order (pip's "Configuration" page)."""
    home = os.path.expanduser("~")
    user = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    shared = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf"]
    return [*shared, f"{home}/.pip/pip.conf", f"{user}/pip/pip.conf"]


def _settings(environ: Mapping[str, str]) -> dict[str, str]:
    files = _files(environ)
    own = environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        files = []
    elif own:
        files.append(own)
    settings = _read(files)
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name[4:].lower().replace("_", "-")] = value
    return settings


def _read(files: Iterable[str]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeError):
            continue  # pip itself will complain about it
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update({k.replace("_", "-"): v for k, v in parser.items(section)})
    return settings
