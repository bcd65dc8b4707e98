"""From what is asked of conda to exactly which packages, by rattler; or the reasons, in words."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from rechain.environment.conda import channels
from rechain.environment.conda.asked import name_of
from rechain.environment.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rattler import RepoDataRecord

__all__ = ["explained", "solve"]

_SHOWN = 400  # characters of a reason; all of it is in the details


def solve(
    asked: Mapping[str, Any],
    pythons: Iterable[str],
    *,
    as_of: str | None,
    cache: str,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Find the packages of conda.

    Args:
        asked: what `conda_setting` returned.
        pythons: minor versions of Python that will do, the first choice first.
        as_of: the day whose packages are taken; None for today's.
        cache: what `store.cache_root` returned.
        environ: the variables that say how channels are reached.
        say: takes lines for people.

    Returns:
        The packages as a lock has them, Python among them, in the order of their names.

    Raises:
        EnvironmentFailure: there is no such set of packages, or a channel cannot be asked.
    """
    channels.need_rattler()
    where = ", ".join(map(_short, asked["channels"]))
    say(f"solving {len(asked['packages'])} packages of conda from {where}")
    records = asyncio.run(_solved(asked, list(pythons), as_of, cache, environ))
    return sorted(map(_entry, records), key=lambda one: one["name"])


def _short(url: str) -> str:
    """Return a channel's name, for people."""
    return url.rstrip("/").rpartition("/")[2]


async def _solved(
    asked: Mapping[str, Any],
    pythons: list[str],
    as_of: str | None,
    cache: str,
    environ: Mapping[str, str],
) -> list[RepoDataRecord]:
    import datetime
    from pathlib import Path

    import rattler
    from rattler.exceptions import GatewayError, SolverError

    gateway = rattler.Gateway(
        cache_dir=Path(cache, "conda", "repodata"), client=channels.client(environ)
    )
    sources = [rattler.Channel(url) for url in asked["channels"]]
    specs = [rattler.MatchSpec(text) for text in asked["packages"]]
    named = [spec for text, spec in zip(asked["packages"], specs, strict=True) if _is_python(text)]
    overrides = rattler.VirtualPackageOverrides.from_env()
    further: dict[str, Any] = {
        "gateway": gateway,
        "platforms": _platforms(),
        "virtual_packages": rattler.VirtualPackage.detect(overrides),
        "channel_priority": getattr(rattler.ChannelPriority, asked["priority"].capitalize()),
    }
    if as_of is not None:
        further["exclude_newer"] = datetime.datetime.fromisoformat(as_of.replace("Z", "+00:00"))
    try:
        offered = (await gateway.query(sources, _platforms(), ["python"], recursive=False))[0:]
        there = [one for several in offered for one in several]
        fitting = [one for one in there if all(spec.matches(one) for spec in named)]
        minors = {".".join(str(one.version).split(".")[:2]) for one in fitting}
        tried = [minor for minor in pythons if minor in minors]
        if not tried:
            raise _no_python(asked, pythons, there)
        first: SolverError | None = None
        for minor in tried:
            try:
                return await rattler.solve(
                    sources, [*specs, rattler.MatchSpec(f"python={minor}")], **further
                )
            except SolverError as error:
                first = first or error
        assert first is not None, "each of them was tried"
        raise explained(first, asked) from first
    except GatewayError as error:
        raise explained(error, asked) from error


def _is_python(text: str) -> bool:
    return name_of(text) == "python"


def _platforms() -> list[Any]:
    from rattler import Subdir

    return [Subdir.current(), Subdir("noarch")]


def _no_python(
    asked: Mapping[str, Any], pythons: list[str], there: list[RepoDataRecord]
) -> EnvironmentFailure:
    named = [text for text in asked["packages"] if _is_python(text)]
    has = sorted({str(one.version) for one in there}, key=_numbers)
    where = ", ".join(asked["channels"])
    what = f"{' and '.join(named)} is asked for; " if named else ""
    return EnvironmentFailure(
        f"{where} has no Python that will do: {what}{' or '.join(pythons)} would do, and there is "
        f"{', '.join(has) or 'none at all'}",
        "Name another Python in conda_packages, or a channel that has one.",
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _entry(record: RepoDataRecord) -> dict[str, Any]:
    """Return a package as a lock has it: what it is, and what installing it must know."""
    from rattler import PackageRecord

    assert isinstance(record, PackageRecord)
    name = record.name.normalized
    if record.sha256 is None:
        raise EnvironmentFailure(
            f"the channel {record.channel} gives no SHA-256 of {name} {record.version}, so it "
            "cannot be known again",
            "Take it from another channel, or have the channel indexed again.",
        )
    made: dict[str, Any] = {
        "name": name,
        "version": str(record.version),
        "build": str(record.build),
        "build_number": record.build_number,
        "subdir": record.subdir,
        "url": record.url,
        "sha256": record.sha256.hex(),
        "depends": list(record.depends),
    }
    if record.size is not None:
        made["size"] = record.size
    for kind in ("python", "generic"):
        if getattr(record.noarch, kind):
            made["noarch"] = kind
    if record.python_site_packages_path:
        made["python_site_packages_path"] = record.python_site_packages_path
    return made


def explained(error: Exception, asked: Mapping[str, Any]) -> EnvironmentFailure:
    """Put what rattler says into one line and a hint.

    Args:
        error: what it raised.
        asked: what `conda_setting` returned.
    """
    text = re.sub(r"://[^/@\s]+@", "://***@", str(error))
    where = ", ".join(asked["channels"])
    url = re.search(r"(?:url \(|channel '|file `)((?:https?|file)://[^')`\s]+|/[^`]+)", text)
    channel = next((at for at in asked["channels"] if url and url[1].startswith(at)), where)
    status = re.search(r"HTTP status \w+ error \((\d+)[^)]*\)", text)
    if status and status[1] in ("401", "403"):
        return EnvironmentFailure(
            f"channel {channel} wants a login (HTTP {status[1]})",
            "Put the name and password into ~/.netrc, or the channel with them into ~/.condarc.",
            text,
        )
    if "could not find subdir" in text or (status and status[1] == "404"):
        return EnvironmentFailure(
            f"there is no channel at {channel}",
            "Check its name; names are looked up below channel_alias of ~/.condarc.",
            text,
        )
    if status:
        return EnvironmentFailure(
            f"channel {channel} answers with HTTP {status[1]}", "Try again later.", text
        )
    if re.search(r"error sending request|dns error|connect error|timed out|Connect\)", text):
        return EnvironmentFailure(
            f"channel {channel} cannot be reached",
            "Check the network and the proxy. What the package index has, too, can be had from "
            "there: name it with --pip. A wheelhouse made before (`rechain env export "
            "--wheelhouse`) needs no network.",
            text,
        )
    reason = re.sub(r"^Cannot solve the request because of: ", "", text)
    reason = " ".join(re.sub(r"[│├└─]+", " ", reason).split()).rstrip(".")
    reason = re.sub(r"No candidates were found for (.+)", r"there is no package \1", reason)
    reason = re.sub(r"(?<=\w) \*(?=[ ,.]|$)", "", reason)  # `numpy *` is numpy, in any version
    reason = reason if len(reason) <= _SHOWN else f"{reason[:_SHOWN]}..."
    hint = "Ask for other versions, or name a channel that has them."
    if missing := re.search(r"(__\w+)\b", reason):
        hint = (
            f"{missing[1]} is what this machine is said to have; if that is wrong, set "
            f"CONDA_OVERRIDE_{missing[1][2:].upper()}."
        )
    return EnvironmentFailure(f"conda packages from {where}: {reason}", hint, text)
