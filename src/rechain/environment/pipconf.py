"""Read from pip's settings what uv needs to know and does not read itself."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping

__all__ = ["for_uv"]

_OWN = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
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


def _settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings in its own order of precedence (pip's "Configuration" page)."""
    home = os.path.expanduser("~")
    user = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    files = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", f"{home}/.pip/pip.conf"]
    files.append(f"{user}/pip/pip.conf")
    own = environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        files = []
    elif own:
        files.append(own)
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
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            settings[name[4:].lower().replace("_", "-")] = value
    return settings
