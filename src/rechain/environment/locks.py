"""Locks as files: read, checked, and asked for in place of a recipe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rechain.environment import interpreters
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.resolve import identity
from rechain.environment.spec import digest_of
from rechain.exceptions import UserErrorException
from rechain.record import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["FILE", "Locked", "lock_spec", "read", "settle", "shown", "title"]

# The lock in an exported folder, as in a run folder and in an environment.
FILE = "lock.json"
_KINDS = {"schema": int, "kind": str, "interpreter": dict, "packages": list, "build": dict}


class Locked(dict[str, Any]):
    """A lock document that was read from a file.

    Attributes:
        wheelhouse: the folder that has its wheels, absolute; None if they come from an index.
        image: the image of the run whose lock it is; None if it had no container.
    """

    wheelhouse: str | None = None
    image: dict[str, Any] | None = None


def read(path: str | os.PathLike[str]) -> Locked:
    """Return the lock of a file: `rechain env lock`'s, or a run's `lock.json`.

    Args:
        path: the file, or a folder that `rechain env export --wheelhouse` made.

    Raises:
        UserErrorException: there is none, or it is not what it was when it was written.
    """
    where = os.path.abspath(os.path.expanduser(os.fspath(path)))
    folder = where if os.path.isdir(where) else None
    where = f"{folder}/{FILE}" if folder else where
    try:
        document = jsonl.read(where)
    except OSError as error:
        raise UserErrorException(
            f"{where} cannot be read: {error.strerror}; a lock is what `rechain env lock` writes",
            error,
        ) from error
    except ValueError as error:
        raise UserErrorException(
            f"{where} is no lock: it is not JSON; a lock is what `rechain env lock` writes", error
        ) from error
    made = Locked(_checked(document, where))
    made.image = document.get("image")
    if folder and os.path.exists(f"{folder}/wheels.json"):
        made.wheelhouse = folder
    return made


def _checked(document: Any, where: str) -> dict[str, Any]:
    lock = document if isinstance(document, dict) else {}
    if lock.get("kind") == "user-managed":
        raise UserErrorException(
            f"{where} is of a Python that somebody manages, in which Rechain installed nothing"
        )
    wrong = [key for key, kind in _KINDS.items() if not isinstance(lock.get(key), kind)]
    if wrong or lock["schema"] != 1:
        what = f"it has no {wrong[0]}" if wrong else f"its schema is {lock['schema']}, not 1"
        raise UserErrorException(
            f"{where} is no lock that this Rechain reads: {what}; a lock is what `rechain env "
            "lock` writes"
        )
    lock = {
        key: value for key, value in lock.items() if key not in ("gpu", "image")
    }  # a run's own
    try:
        found = identity(lock)
    except (AttributeError, TypeError) as error:
        raise UserErrorException(f"{where} is no lock: it is damaged", error) from error
    if found != lock.get("digest"):
        raise UserErrorException(
            f"{where} was changed after it was written: its digest is "
            f"{str(lock.get('digest'))[:12]}, and what it says has {found[:12]}; lock again"
        )
    return lock


def lock_spec(
    lock: Locked,
    environ: Mapping[str, str],
    *,
    ranks: bool = False,
    mpi: dict[str, Any] | None = None,
    gpu: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe the environment of a lock.

    Args:
        lock: what `read` returned.
        environ: the submitter's environment variables.
        ranks: whether the script has several ranks.
        mpi: what `mpi_setting` returned for the MPI that is to start them; the lock's own if left
            out.
        gpu: what `gpu_setting` returned, for a script that uses one.

    Returns:
        As `venv_spec` does, with the `lock`, and the `wheelhouse` if its wheels are in a folder.

    Raises:
        UserErrorException: there are ranks, and the lock has no MPI.
    """
    from rechain.environment.spec import mpi_setting

    if ranks and "mpi" not in lock:
        raise UserErrorException(
            f"the lock {lock['digest'][:12]} has no MPI, which several ranks need; lock again "
            "with --mpi"
        )
    spec: dict[str, Any] = {
        "kind": lock["kind"],
        "recipe": lock["recipe"],
        "python": lock["interpreter"]["version"],
        "pip": [f"{one['name']}=={one['version']}" for one in lock["packages"]],
        "strict": True,
        "lock": dict(lock),
    }
    if "mpi" in lock:
        spec["mpi"] = mpi or mpi_setting(lock["mpi"]["wanted"], environ)
    counted = {"lock": lock["digest"], "mpi": spec.get("mpi")}
    spec["digest"] = digest_of(counted)
    spec["notes"] = []
    if lock.wheelhouse is not None:
        spec["wheelhouse"] = lock.wheelhouse
    if gpu is not None:
        spec["gpu"] = {"wanted": gpu["wanted"], "digest": digest_of({**counted, "gpu": True})}
    return spec


def settle(
    lock: dict[str, Any],
    mpi: dict[str, Any] | None,
    cache: str,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], interpreters.Interpreter | None]:
    """Return a lock as it is made on this machine, and its interpreter here.

    Args:
        lock: the lock document, checked.
        mpi: the MPI of this machine, if the lock has one.
        cache: what `store.cache_root` returned.
        say: takes lines for people.

    Raises:
        EnvironmentFailure: this machine lacks what it was made for.
    """
    if identity(lock) != lock["digest"]:
        raise EnvironmentFailure(
            f"the lock {lock['digest'][:12]} was changed after it was written", "Lock again."
        )
    here, there = os.uname().machine, lock["platform"]["machine"]
    if here != there:
        raise EnvironmentFailure(
            f"the lock {lock['digest'][:12]} is for {there} machines, and this one is {here}",
            "Lock again on a machine like this one.",
        )
    made, interpreter = dict(lock), None
    if "conda" not in lock:
        interpreter = _interpreter(lock["interpreter"], cache, say)
        path = {"path": interpreter.path, "from": interpreter.found_by}
        made["interpreter"] = {**lock["interpreter"], **path}
        if lock["platform"]["libc"] != interpreter.libc:
            say(f"note: locked on {lock['platform']['libc']}, made on {interpreter.libc}")
    if mpi is not None:
        was = lock["mpi"]
        if (was["family"], was["version"]) != (mpi["family"], mpi["version"]):
            raise EnvironmentFailure(
                f"the lock {lock['digest'][:12]} is for {was['family']} {was['version']}, and "
                f"{mpi['mpiexec']} is {mpi['family']} {mpi['version']}",
                "Name the MPI that it is for with --mpi, or lock again.",
            )
        made["mpi"] = {**was, **mpi}
    return made, interpreter


def _interpreter(
    wanted: dict[str, Any], cache: str, say: Callable[[str], None]
) -> interpreters.Interpreter:
    from rechain import recipes

    at = interpreters.probe(cache, os.path.realpath(wanted["path"]), wanted["from"])
    if at is None or at.version != wanted["version"] or at.abi != wanted["abi"]:
        plain = recipes.load(recipes.PLAIN)
        at, _ = interpreters.choose(wanted["version"], plain, cache, True, say)
    return at


def title(lock: dict[str, Any]) -> str:
    """Return which framework a lock has, for people: `chainer 5.1.0`."""
    framework, _, version = lock["recipe"].partition("-")
    there = {one["name"]: one.get("version") for one in lock["packages"]}
    return f"{framework} {there.get(framework) or version}".rstrip()


def shown(lock: dict[str, Any]) -> str:
    """Return what a lock is, in a few words."""
    what = title(lock)
    as_of = f", as of {lock['as_of'][:10]}" if lock.get("as_of") else ""
    conda = lock.get("conda", {"packages": ()})["packages"]
    count = f"{len(lock['packages'])} packages" + (f", {len(conda)} of conda" if conda else "")
    return f"{what}, Python {lock['interpreter']['version']}, {count}{as_of}"
