"""Where packages of conda come from: conda's own settings, names as addresses, credentials.

What is asked for is recorded, so an address never holds a name, a password or a token. These are
read again from the settings by whoever fetches, and handed to rattler in memory.

conda's settings are described in its documentation ("Settings", `.condarc`).
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from rechain.environment.errors import EnvironmentFailure
from rechain.exceptions import UserErrorException

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rattler.networking.client import Client

__all__ = ["Settings", "address", "addresses", "client", "need_rattler", "read"]

_EXTRA = "pip install 'rechain[conda]'"
# What v1 looked in where nothing was said.
_OF_V1 = ("anaconda", "conda-forge")
_PRIORITIES = {"strict": "strict", "flexible": "strict", "disabled": "disabled"}
_RETRIES = 2  # of a download; rattler waits longer before each


class Settings(NamedTuple):
    """What conda's settings say of channels.

    Attributes:
        channels: their names or addresses, if the settings name any.
        defaults: what `defaults` stands for, if the settings say.
        alias: what names are below; None for rattler's own.
        custom: by name, what that one is below.
        priority: `strict` (a package comes from the first channel that has it) or `disabled`.
        logins: by host, what it wants to be shown, as rattler keeps it.
    """

    channels: tuple[str, ...]
    defaults: tuple[str, ...]
    alias: str | None
    custom: dict[str, str]
    priority: str
    logins: dict[str, Any]


def need_rattler() -> None:
    """Check that packages of conda can be dealt with.

    Raises:
        EnvironmentFailure: py-rattler is not installed.
    """
    try:
        import rattler  # noqa: F401
    except ImportError as error:
        raise EnvironmentFailure(
            "packages of conda need py-rattler, which is not installed beside Rechain",
            f"Install it with: {_EXTRA}",
            str(error),
        ) from error


def read(environ: Mapping[str, str]) -> Settings:
    """Read conda's settings: its files, then its variables, which win.

    Args:
        environ: the variables of whoever asks.

    Raises:
        UserErrorException: a file of them cannot be read, or names a channel that is none.
    """
    home = environ.get("HOME") or os.path.expanduser("~")
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    files = ["/etc/conda/.condarc", f"{config}/conda/.condarc", f"{home}/.condarc"]
    files.append(environ.get("CONDARC") or "")
    found: dict[str, Any] = {}
    for path in files:
        if path and os.path.isfile(path):
            found.update(_document(path, environ))
    for name in ("channels", "default_channels", "channel_alias", "channel_priority"):
        if value := environ.get(f"CONDA_{name.upper()}"):
            found[name] = value
    logins: dict[str, Any] = {}

    def listed(name: str) -> tuple[str, ...]:
        value = found.get(name) or ()
        items = re.split(r"[,&\s]+", value) if isinstance(value, str) else value
        return tuple(_bare(str(item), logins) for item in items if item)

    alias = found.get("channel_alias")
    custom = found.get("custom_channels") or {}
    return Settings(
        channels=listed("channels"),
        defaults=listed("default_channels"),
        alias=_bare(str(alias), logins) if alias else None,
        custom={str(name): _bare(str(base), logins) for name, base in custom.items()},
        priority=_PRIORITIES.get(str(found.get("channel_priority", "strict")).lower(), "strict"),
        logins=logins,
    )


def _document(path: str, environ: Mapping[str, str]) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"\$\{(\w+)\}", lambda at: environ.get(at[1], at[0]), file.read())
        content = YAML(typ="safe").load(text)
    except (OSError, ValueError, YAMLError) as error:
        why = str(error).splitlines()[0]
        raise UserErrorException(
            f"conda's settings {path} cannot be read: {why}", error
        ) from error
    return content if isinstance(content, dict) else {}


def _bare(url: str, logins: dict[str, Any]) -> str:
    """Return an address without what only its owner may know, which goes to `logins`."""
    from urllib.parse import unquote, urlsplit

    if "://" not in url or url.startswith("file:"):
        return url
    parts = urlsplit(url)
    host, path = parts.netloc.rpartition("@")[2], parts.path
    if parts.username:
        logins[parts.hostname or host] = {
            "BasicHTTP": {
                "username": unquote(parts.username),
                "password": unquote(parts.password or ""),
            }
        }
    if token := re.match(r"/t/([^/]+)(/|$)", path):
        logins[parts.hostname or host] = {"CondaToken": token[1]}
        path = path[token.end() - 1 :] if token[2] else ""
    return f"{parts.scheme}://{host}{path}"


def addresses(names: Iterable[str], settings: Settings) -> tuple[list[str], list[str]]:
    """Return the addresses of channels, the first choice first, and notes.

    Args:
        names: as a user gives them; those of the settings if there are none, else v1's.
        settings: what `read` returned.

    Raises:
        UserErrorException: an address holds a password or a token, which would be recorded.
    """
    given = list(names) or list(settings.channels or settings.defaults or _OF_V1)
    notes = []
    if "nodefaults" in given:
        given = [name for name in given if name not in ("nodefaults", "defaults")]
    if "defaults" in given and not settings.defaults:
        notes.append(
            "channel defaults: main is taken for it, since .condarc has no default_channels"
        )
    found: dict[str, None] = {}
    for name in given:
        several = (settings.defaults or ("main",)) if name == "defaults" else (name,)
        found.update(dict.fromkeys(address(one, settings) for one in several))
    return list(found), notes


def address(name: str, settings: Settings) -> str:
    """Return the address of one channel, as `addresses` does."""
    text = name.strip().rstrip("/")
    if "://" in text:
        if _bare(text, {}) != text:
            shown = re.sub(r"://[^/@]*@", "://", re.sub(r"(://[^/]+)/t/[^/]+", r"\1", text))
            raise UserErrorException(
                f"channel {shown!r}: its address holds a password or token, which would be "
                "recorded; put that into ~/.condarc or ~/.netrc, and name the channel without it"
            )
        return text
    if text.startswith(("/", "./", "../", "~")) or text in (".", ".."):
        from pathlib import Path

        return Path(os.path.abspath(os.path.expanduser(text))).as_uri()
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", text):
        raise UserErrorException(
            f"channel {name!r} is neither a name, such as conda-forge, nor an address or a path"
        )
    base = settings.custom.get(text.partition("/")[0], settings.alias)
    if base is not None:
        return f"{base.rstrip('/')}/{text}"
    from rattler import Channel

    return Channel(text).base_url.rstrip("/")


def client(environ: Mapping[str, str]) -> Client:
    """Return what fetches, with the credentials of the user's settings.

    Without any in conda's settings, rattler looks for itself: `RATTLER_AUTH_FILE`, the keyring,
    ~/.netrc. Those of conda's settings it gets through a file that is in memory only, and which
    then stands in place of the others: so what the two files say is added to it.
    """
    from rattler.networking.client import Client

    logins = read(environ).logins
    if not logins:
        return Client.default_client(_RETRIES)
    logins = {**_of_netrc(environ), **_of_rattler(environ), **logins}
    from rattler.config import Config

    memory = os.memfd_create("logins", os.MFD_CLOEXEC)
    os.write(memory, json.dumps(logins).encode())
    # The descriptor stays open: rattler may read the file again.
    path = f"/proc/self/fd/{memory}"
    text = f"authentication-override-file = {json.dumps(path)}"
    return Client.from_config(Config.from_toml(text), _RETRIES)


def _of_rattler(environ: Mapping[str, str]) -> dict[str, Any]:
    try:
        with open(environ.get("RATTLER_AUTH_FILE") or "", encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _of_netrc(environ: Mapping[str, str]) -> dict[str, Any]:
    import netrc

    try:
        hosts = netrc.netrc(environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return {}
    return {
        host: {"BasicHTTP": {"username": user, "password": password or ""}}
        for host, (user, _, password) in hosts.items()
        if host != "default"
    }
