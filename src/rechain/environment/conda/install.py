"""From a lock's packages of conda to a prefix on disk, what activates it, whether it is whole."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from rechain.environment.conda import channels
from rechain.environment.conda.solve import explained
from rechain.environment.errors import EnvironmentFailure
from rechain.job.hashing import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rattler import RepoDataRecord
    from rattler.networking.client import Client

__all__ = ["activation", "archive", "check", "differences", "fetch", "install", "records_of"]

_AT_ONCE = 8  # packages being fetched
_PATH = "/usr/bin:/bin"  # what activation scripts find, so that they say the same everywhere


def install(
    conda: Mapping[str, Any],
    prefix: str,
    final: str,
    *,
    cache: str,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    wheelhouse: str | None = None,
) -> None:
    """Install a lock's packages of conda.

    Args:
        conda: the `conda` of a lock.
        prefix: the folder to make, in one of our own.
        final: where it will be: the path that the packages' files have written into them.
        cache: what `store.cache_root` returned.
        environ: the variables that say how channels are reached.
        say: takes lines for people.
        wheelhouse: the folder that has the archives; None if they come from the channels.

    Raises:
        EnvironmentFailure: a package cannot be had, or is not what was recorded.
    """
    channels.need_rattler()
    say(f"installing {len(conda['packages'])} packages of conda")
    bench = f"{prefix}.packages"
    os.mkdir(bench)
    asyncio.run(_installed(conda, prefix, final, cache, bench, environ, wheelhouse))
    shutil.rmtree(bench)
    _drop_marks(prefix, {_stem(one): one for one in conda["packages"]})


def _stem(package: Mapping[str, Any]) -> str:
    return f"{package['name']}-{package['version']}-{package['build']}"


async def _installed(
    conda: Mapping[str, Any],
    prefix: str,
    final: str,
    cache: str,
    bench: str,
    environ: Mapping[str, str],
    wheelhouse: str | None,
) -> None:
    import rattler
    from rattler.exceptions import InstallerError

    # rattler knows an unpacked package by its name, version and build, and trusts what it finds
    # under these: so it finds what we have checked.
    packages = conda["packages"]
    unpacked = f"{cache}/conda/pkgs"
    os.makedirs(unpacked, exist_ok=True)
    os.mkdir(f"{bench}/pkgs")
    client = channels.client(environ)
    several = asyncio.Semaphore(_AT_ONCE)

    async def ready(package: Mapping[str, Any]) -> None:
        folder = f"{unpacked}/{package['sha256']}"
        async with several:
            if os.path.exists(folder):
                with contextlib.suppress(OSError):  # another user's
                    os.utime(folder)  # it is in use: nobody collects it now
            else:
                await _unpack(package, folder, bench, client, wheelhouse)
        os.symlink(folder, f"{bench}/pkgs/{_stem(package)}")

    for outcome in await asyncio.gather(*map(ready, packages), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome  # now that nobody writes any more
    try:
        await rattler.install(
            [_record(one) for one in packages],
            prefix,
            cache_dir=Path(bench, "pkgs"),
            client=client,
            show_progress=False,
            execute_link_scripts=False,
            alternative_target_prefix=final,
        )
    except InstallerError as error:
        which = next((_stem(one) for one in packages if _stem(one) in str(error)), "one of them")
        raise _broken(which, error) from error


async def _unpack(
    package: Mapping[str, Any], folder: str, bench: str, client: Client, wheelhouse: str | None
) -> None:
    """Fetch a package, check that it is the one, unpack it, and rename that into place."""
    from rattler import package_streaming

    path = f"{bench}/{os.path.basename(package['url'])}"
    if wheelhouse is not None:
        path = archive(package, wheelhouse)
    else:
        await _download(package, path, client)
    try:
        await asyncio.to_thread(package_streaming.extract, Path(path), Path(f"{path}.unpacked"))
    except Exception as error:  # rattler has no one class for them
        raise _broken(_stem(package), error) from error
    try:
        os.rename(f"{path}.unpacked", folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else another was first
            raise


async def _download(package: Mapping[str, Any], path: str, client: Client) -> None:
    """Fetch the archive of a package to a path, and check that it is the one."""
    from rattler import package_streaming

    url = package["url"]
    try:
        if url.startswith("file:"):
            shutil.copyfile(unquote(urlsplit(url).path), path)
        else:
            await package_streaming.download_to_path(client, url, Path(path))
    except Exception as error:
        text = str(error)
        if isinstance(error, FileNotFoundError) or "(404" in text:
            raise EnvironmentFailure(
                f"{_stem(package)} is not on its channel any more",
                "Lock again, or install from a wheelhouse (`rechain env export --wheelhouse`).",
                text,
            ) from error
        if _is_full(text):
            raise _full(text) from error
        raise explained(error, {"channels": [url.rsplit("/", 2)[0]]}) from error
    if _digest(path) != package["sha256"]:
        raise EnvironmentFailure(
            f"{_stem(package)} is not the file that was recorded (its hash differs)",
            "Do not use this channel until you know why.",
        )


def _is_full(text: str) -> bool:
    return bool(re.search(r"No space left|os error 28|os error 122|Disk quota", text))


def _full(text: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        "the disk is full", "Make room, or put the cache elsewhere with RECHAIN_CACHE.", text
    )


def _broken(which: str, error: Exception) -> EnvironmentFailure:
    text = str(error)
    if _is_full(text):
        return _full(text)
    why = text.strip().splitlines()[-1].removeprefix("Caused by: ")
    return EnvironmentFailure(
        f"{which} cannot be installed: {why}",
        "Its archive may be broken: tell whoever keeps the channel.",
        text,
    )


def _record(package: Mapping[str, Any]) -> RepoDataRecord:
    from rattler import PackageRecord, RepoDataRecord
    from rattler.package.build_string import BuildString

    made = PackageRecord(
        name=package["name"],
        version=package["version"],
        build=BuildString.new_unchecked(package["build"]),
        build_number=package["build_number"],
        subdir=package["subdir"],
        noarch=package.get("noarch"),
        depends=list(package["depends"]),
        sha256=bytes.fromhex(package["sha256"]),
        size=package.get("size"),
        python_site_packages_path=package.get("python_site_packages_path"),
    )
    url = package["url"]
    return RepoDataRecord(made, os.path.basename(url), url, _channel(package))


def _channel(package: Mapping[str, Any]) -> str:
    channel: str = package["url"].rsplit("/", 2)[0]
    return channel


def archive(package: Mapping[str, Any], wheelhouse: str) -> str:
    """Return the path of a package's archive in an exported folder."""
    return f"{wheelhouse}/conda/{package['subdir']}/{os.path.basename(package['url'])}"


def fetch(
    conda: Mapping[str, Any], folder: str, environ: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Put the archives of a lock's packages of conda into a folder.

    Args:
        conda: the `conda` of a lock.
        folder: the exported folder.
        environ: the variables that say how channels are reached.
        say: takes lines for people.

    Raises:
        EnvironmentFailure: one cannot be had, or is not what was recorded.
    """
    channels.need_rattler()
    say(f"fetching {len(conda['packages'])} packages of conda")

    async def all_of_them() -> None:
        client = channels.client(environ)
        for package in conda["packages"]:
            path = archive(package, folder)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            await _download(package, path, client)

    asyncio.run(all_of_them())


def check(conda: Mapping[str, Any], wheelhouse: str) -> None:
    """Check that an exported folder has each archive, as it was.

    Raises:
        EnvironmentFailure: one is missing, or is another file.
    """
    for package in conda["packages"]:
        path = archive(package, wheelhouse)
        try:
            same = _digest(path) == package["sha256"]
        except OSError as error:
            raise EnvironmentFailure(
                f"{wheelhouse} has no archive of {package['name']} {package['version']}, which "
                "the lock needs",
                "Export it again: rechain env export --wheelhouse.",
                str(error),
            ) from error
        if not same:
            raise EnvironmentFailure(
                f"{path} is not the file that was recorded (its hash differs)",
                "Do not use it until you know why.",
            )


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        data = file.read()
    return sha256(len(data))(data).hexdigest()


def records_of(prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield conda's record of each package in a prefix, and the file it is in."""
    folder = f"{prefix}/conda-meta"
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            with open(f"{folder}/{name}", encoding="utf-8") as file:
                yield f"{folder}/{name}", json.load(file)


def _drop_marks(prefix: str, packages: Mapping[str, Mapping[str, Any]]) -> None:
    """Make conda's records say where a package is from, and not how it came here."""
    for path, record in list(records_of(prefix)):
        package = packages[os.path.basename(path)[: -len(".json")]]
        for mark in ("extracted_package_dir", "package_tarball_full_path", "link"):
            record.pop(mark, None)
        record.update(
            url=package["url"],
            fn=os.path.basename(package["url"]),
            channel=_channel(package),
        )
        with open(path, "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1, sort_keys=True)


def activation(
    prefix: str, environ: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, str]:
    """Return the variables that activating a prefix sets; its scripts for that are run.

    Args:
        prefix: the environment's folder.
        environ: whose HOME the scripts see.
        say: takes lines for people.

    Returns:
        By name. `PATH` is what goes in front of whatever a job's PATH is.
    """
    found = {
        "PATH": f"{prefix}/bin",
        "CONDA_PREFIX": prefix,
        "CONDA_DEFAULT_ENV": prefix,
        "CONDA_SHLVL": "1",
    }
    scripts = (f"{prefix}/etc/conda/activate.d", f"{prefix}/etc/conda/env_vars.d")
    if not any(map(os.path.isdir, (*scripts,))):
        return found
    from rattler.shell import ActivationVariables, Shell, activate

    made = activate(Path(prefix), ActivationVariables(None, _PATH.split(":")), Shell.bash)
    before = {"PATH": _PATH, "HOME": environ.get("HOME", "/"), "CONDA_DEFAULT_ENV": prefix}
    script = f"{made.script}\nexport PATH\nexec /usr/bin/env -0"
    try:
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", script],
            env=before,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", b"") or str(error).encode()
        raise EnvironmentFailure(
            f"the activation scripts of its packages fail (in {scripts[0]})",
            "Leave out the package whose script it is.",
            said.decode(errors="replace"),
        ) from error
    if done.stderr.strip():
        say(f"activation scripts say: {done.stderr.decode(errors='replace').strip()}")
    after = dict(
        line.partition("=")[::2]
        for line in done.stdout.decode(errors="surrogateescape").split("\0")
        if line
    )
    added = {name: value for name, value in after.items() if before.get(name) != value}
    path = re.sub(rf"(:{re.escape(_PATH)})+$", "", added.pop("PATH", ""))
    for name in ("_", "PWD", "SHLVL", "OLDPWD"):
        added.pop(name, None)
    return {**found, **added, "PATH": path or found["PATH"]}


def differences(prefix: str, conda: Mapping[str, Any], recorded: set[str]) -> list[str]:
    """Return what is wrong with the packages of conda in a prefix.

    Args:
        prefix: the environment's folder.
        conda: the `conda` of its lock.
        recorded: gets the files of the packages, absolute.
    """
    found = []
    locked = {one["name"]: f"{one['version']} {one['build']}" for one in conda["packages"]}
    for _, record in records_of(prefix):
        what = f"{record['version']} {record['build']}"
        wanted = locked.pop(record["name"], None)
        if wanted != what:
            found.append(f"{record['name']} {what}: the lock has {wanted or 'none'}")
        for at in record["paths_data"]["paths"]:
            full = f"{prefix}/{at['_path']}"
            recorded.add(os.path.normpath(full))
            digest = at.get("sha256_in_prefix") or at.get("sha256")
            if not os.path.lexists(full):
                found.append(f"{at['_path']}: is missing")
            elif digest and not os.path.islink(full) and _digest(full) != digest:
                found.append(f"{at['_path']}: was changed")
    return [*found, *(f"{name} {what}: is missing" for name, what in locked.items())]
