"""From a lock to an environment on disk: whole, or not there."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rechain.environment import seal, store, uv
from rechain.environment.errors import EnvironmentFailure
from rechain.job.hashing import sha256
from rechain.record import host, jsonl

__all__ = [
    "alone",
    "build",
    "clear_leavings",
    "folder_of",
    "libraries",
    "packages_of",
    "put_in_place",
    "requirement",
    "tell_builds",
    "workbench",
    "write_build_settings",
    "write_lines",
]

_BUILDING = ".building."


def folder_of(lock: dict[str, Any]) -> str:
    """Return the name of a lock's environment in the store.

    The lock's digest, and which interpreter and MPI of this machine it stands on.
    """
    path = "" if "conda" in lock else os.path.realpath(lock["interpreter"]["path"])
    return f"{lock['digest']}-{_short(path + lock.get('mpi', {}).get('mpiexec', ''))}"


def packages_of(prefix: str, lock: dict[str, Any]) -> str:
    """Return the folder that has the Python packages of a lock's environment."""
    minor = lock["interpreter"]["version"].rpartition(".")[0]
    return f"{prefix}/lib/python{minor}/site-packages"


def _short(text: str) -> str:
    data = text.encode()
    return sha256(len(data))(data).hexdigest()[:8]


def build(
    lock: dict[str, Any],
    cache: str,
    say: Callable[[str], None] = lambda line: None,
    wheelhouse: str | None = None,
    below: dict[str, Any] | None = None,
) -> str:
    """Build the environment of a lock, unless it is there.

    Everything happens in a private folder which is renamed into place at the end. When several
    processes build the same, on whatever hosts, the first to rename wins and all get its folder.

    Args:
        lock: the lock document.
        cache: what `store.cache_root` returned.
        say: takes lines for people.
        wheelhouse: the folder that has its wheels; None if they come from an index.
        below: a built environment, as `store.find` returned it, whose packages are taken from
            there, as far as the lock has the same; None to build everything. The result is the
            same.

    Returns:
        The environment's folder, absolute.

    Raises:
        EnvironmentFailure: it cannot be built; nothing of it is left.
        OSError: the cache cannot be written.
    """
    final = f"{store.environments(cache)}/{folder_of(lock)}"
    if os.path.exists(final):
        if store.holds(final):
            return final
        say("the environment was changed since it was built: it is built again")
    base = lock["interpreter"]["path"]
    if "conda" not in lock and not os.access(base, os.X_OK):
        raise EnvironmentFailure(
            f"Python {lock['interpreter']['version']} is not at {base} any more",
            "Install it again, or submit the run again to have another one chosen.",
        )
    with workbench(cache) as folder:
        name = f"made-{_short(base + lock['interpreter']['version'])}"
        made = f"{folder}/{name}"
        if "conda" in lock:
            _install_conda(lock, made, final, cache, say, wheelhouse)
            _install(lock, cache, folder, name, say, wheelhouse)
            from rechain.environment.conda import pip

            pip.move_scripts(made, final, packages_of(made, lock))
        elif below is not None and (other := _otherwise(lock, below["lock"])) == "":
            seal.copy(below["prefix"], made)
            _install(lock, cache, folder, name, say, wheelhouse, below["lock"])
        else:
            if below is not None:
                say(f"not on top of the recipe's own environment, which has another {other}")
            arguments = ["venv", "--relocatable", "--no-project", "--python", base, name]
            done = uv.run(arguments, folder)
            if done.code != 0:
                raise uv.explain(done.errors, "making the environment")
            _install(lock, cache, folder, name, say, wheelhouse)
        _offer_pip(f"{made}/bin", lock["interpreter"]["version"])
        jsonl.write_atomic(f"{folder}/{name}/lock.json", lock)
        seal.put(made)
        seal.remember(made, store.checked(cache, os.path.basename(final)))
        put_in_place(made, final)
    return final


def put_in_place(made: str, final: str) -> None:
    """Rename what was made and sealed, unless another was first; what was changed there goes.

    Args:
        made: its folder on a workbench.
        final: where it belongs.
    """
    if os.path.exists(final) and not store.holds(final):
        os.rename(final, f"{os.path.dirname(made)}/changed")
    try:
        os.rename(made, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _install_conda(
    lock: dict[str, Any],
    prefix: str,
    final: str,
    cache: str,
    say: Callable[[str], None],
    wheelhouse: str | None,
) -> None:
    from rechain.environment.conda import install

    if wheelhouse is not None:
        install.check(lock["conda"], wheelhouse)
    how: dict[str, Any] = {"cache": cache, "environ": os.environ, "say": say}
    install.install(lock["conda"], prefix, final, wheelhouse=wheelhouse, **how)


def _otherwise(lock: dict[str, Any], below: dict[str, Any]) -> str:
    """Return what differs in that which a lock shares with another one; empty if nothing does."""
    python, theirs = lock["interpreter"], below["interpreter"]
    if python["version"] != theirs["version"] or python["abi"] != theirs["abi"]:
        return f"Python: {theirs['version']} ({theirs['abi']})"
    if os.path.realpath(python["path"]) != os.path.realpath(theirs["path"]):
        return f"Python: {theirs['path']}, not {python['path']}"
    if lock["build"] != below["build"]:
        return "way of building packages"
    hashes = {(one["name"], one["version"]): one["hash"] for one in below["packages"]}
    for one in lock["packages"]:
        if hashes.get((one["name"], one["version"]), one["hash"]) != one["hash"]:
            return f"file of {one['name']} {one['version']}"
    return ""


def _install(
    lock: dict[str, Any],
    cache: str,
    folder: str,
    name: str,
    say: Callable[[str], None],
    wheelhouse: str | None,
    below: dict[str, Any] | None = None,
) -> None:
    packages = lock["packages"]
    mpi4py = None
    if lock.get("mpi", {}).get("builds_mpi4py"):
        from rechain.environment.mpi4py import built

        python = f"{folder}/{name}/bin/python" if "conda" in lock else lock["interpreter"]["path"]
        mpi4py = built(lock, python, cache, say)
        packages = [package for package in packages if package["name"] != "mpi4py"]
    only: list[str] = []
    if wheelhouse is None:
        wanted = [requirement(package) for package in packages]
    else:
        from rechain.environment import wheelhouse as wheels

        wanted = wheels.requirements(lock, packages, wheelhouse)
        only = [*wheels.ARGUMENTS, wheelhouse]
    write_lines(f"{folder}/requirements.txt", wanted)
    write_build_settings(folder, lock["build"])
    if not packages and below is None:
        return
    arguments = ["pip", "install", "--no-deps", "--requirements", "requirements.txt"]
    if below is None:
        say(f"installing {len(packages)} packages")
    else:
        more = sum(package not in below["packages"] for package in packages)
        say(f"installing {more} packages on top of the {len(packages) - more} of the recipe")
        arguments = ["pip", "sync", "requirements.txt"]  # what is too much is removed
    arguments += [*only, "--build-constraints", "build.txt", "--python"]

    # With every wheel in its cache uv needs no network, but would ask the index for news; and it
    # would run the new environment's Python to learn about it, unless it has seen one at the same
    # path. The path through /proc is the same in every build on this base, so the usual case
    # takes hundredths of a second. (Nothing can be compiled from within such a path.)
    at = folder if "conda" in lock else "/proc/self/cwd"  # conda's scripts name their Python
    quick = [*arguments, f"{at}/{name}/bin/python", *([] if only else ["--offline"])]
    slow = [*arguments, f"{folder}/{name}/bin/python"]
    linking = libraries(lock, f"{folder}/{name}/bin/python")
    done = uv.run(quick, folder, extra=linking)
    if done.code != 0 and not _full(done.errors):
        done = uv.run(slow, folder, tell_builds(say), linking)
    if done.code != 0:
        raise uv.explain(done.errors, "installing")
    site = packages_of(f"{folder}/{name}", lock)
    _drop_marks(site)
    names = [package["name"] for package in packages]
    damaged = seal.damaged(site, names, store.checked(cache, folder_of(lock)))
    if damaged:
        # What is wrong even then is so in the package itself, whose own hash uv has compared.
        say(f"uv's cache has damaged files of {', '.join(damaged)}: fetched again")
        uv.run(["cache", "clean", *damaged], folder)
        seal.forget(site, damaged)
        again = [word for one in damaged for word in ("--reinstall-package", one)]
        done = uv.run([*slow, *again], folder, tell_builds(say), linking)
        if done.code != 0:
            raise uv.explain(done.errors, f"fetching {', '.join(damaged)} again")
        _drop_marks(site)
    if mpi4py is not None:
        own = shutil.ignore_patterns(".lock", "seal")  # uv's, and ours
        shutil.copytree(mpi4py, site, dirs_exist_ok=True, ignore=own)


def _offer_pip(folder: str, version: str) -> None:
    """Have `pip` be this environment's own, or else a script would call that of some other."""
    for name in ("pip", "pip3", f"pip{version.rpartition('.')[0]}"):
        try:
            descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
        except FileExistsError:
            continue
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write('#!/bin/sh\nexec "$(dirname "$0")/python" -m pip "$@"\n')


def _drop_marks(packages: str) -> None:
    """Remove what uv notes for itself: of the same wheel it differs by where that came from."""
    for mark in glob.glob(f"{packages}/*.dist-info/uv_*.json"):
        info, name = os.path.split(mark)
        with open(f"{info}/RECORD", encoding="utf-8", newline="") as file:
            lines = [line for line in file if f"/{name}," not in line]
        os.unlink(f"{info}/RECORD")  # it may be shared with uv's cache
        with open(f"{info}/RECORD", "w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
        os.unlink(mark)


def libraries(lock: dict[str, Any], python: str) -> dict[str, str]:
    """Return the variables that make a compiler find an environment's own libraries.

    A Python of conda names the place where they will be, once the environment is in its place.

    Args:
        lock: the environment's lock document.
        python: its interpreter, where it is now.
    """
    if "conda" not in lock:
        return {}
    return {"LIBRARY_PATH": f"{os.path.dirname(os.path.dirname(python))}/lib"}


def tell_builds(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return what takes uv's lines and tells of each package that has to be built."""

    def on_line(line: str) -> None:
        found = re.match(r"\s*Building ([\w.-]+)(?:==| @ )(\S+)", line)
        if found:
            say(f"building {found[1]} {found[2]} (once)")

    return on_line


def _full(errors: str) -> bool:
    return "os error 28" in errors or "os error 122" in errors


def requirement(package: dict[str, Any]) -> str:
    """Return the requirement of exactly what a lock's package is."""
    exact = f"@ {package['url']}" if "url" in package else f"=={package['version']}"
    hashes = "".join(f" --hash={one}" for one in package["hash"])
    return f"{package['name']} {exact}{hashes}"


@contextmanager
def workbench(cache: str) -> Iterator[str]:
    """Give a private folder beside the environments, named after this process; gone afterwards."""
    environments = store.environments(cache)
    os.makedirs(environments, exist_ok=True)
    clear_leavings(cache)
    here = host.identity()
    owner = host.process(os.getpid())
    marks = [_mark(here), here["boot_id"], here["pid_ns"].strip("pid:[]"), owner["pid"]]
    name = ".".join(str(part) for part in [*marks, owner["start"], os.urandom(4).hex()])
    folder = f"{environments}/{_BUILDING}{name}"
    os.mkdir(folder, 0o700)
    try:
        yield folder
    finally:
        seal.discard(folder)


def _mark(identity: dict[str, str]) -> str:
    text = f"{identity['name']} {identity['machine_id']}"
    return _short(text)


def clear_leavings(cache: str) -> None:
    """Remove the folders of builds whose process is gone for certain.

    A process of another host, or of another container, cannot be seen from here: its folder stays
    until somebody on that side builds.
    """
    environments = store.environments(cache)
    here = host.identity()
    for name in os.listdir(environments):
        if not name.startswith(_BUILDING):
            continue
        try:
            mark, boot, pid_ns, pid, start, _ = name[len(_BUILDING) :].split(".")
            owner = {"pid": int(pid), "start": int(start)}
        except ValueError:
            continue  # not a name of ours
        same_boot = boot == here["boot_id"]
        visible = same_boot and pid_ns == here["pid_ns"].strip("pid:[]")
        rebooted = mark == _mark(here) and not same_boot
        if rebooted or (visible and not host.is_alive(owner)):
            seal.discard(f"{environments}/{name}")


def write_build_settings(folder: str, build: dict[str, Any]) -> None:
    """Write what building sdists in `folder` needs: `build.txt` (constraints) and `uv.toml`.

    uv reads the extra build requirements from the current folder's `uv.toml` only; the user's own
    `uv.toml` still counts beside it.
    """
    import json

    write_lines(f"{folder}/build.txt", build["constraints"])
    extra = [f"{name} = {json.dumps(needs)}" for name, needs in build["extra"].items()]
    write_lines(f"{folder}/uv.toml", ["[extra-build-dependencies]", *extra])


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Write a file of lines."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


@contextmanager
def alone(path: str, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process of this host in at a time.

    This only saves work. Where a file system has no such locks, several do the same and the
    first to rename wins.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run that builds the same environment")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        yield
    finally:
        os.close(descriptor)
