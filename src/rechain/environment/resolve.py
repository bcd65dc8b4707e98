"""From what is asked for to a lock: exactly which packages, on which Python."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rechain.environment import uv
from rechain.environment.build import write_build_settings, write_lines
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.interpreters import Interpreter
from rechain.environment.spec import shown
from rechain.job.hashing import sha256
from rechain.recipes import Cell, Recipe, names, read_toml

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["Plan", "identity", "plan", "resolve", "write_build_settings"]

_HERE = ("wanted", "mpiexec", "variables")  # of an MPI: where it is on this machine

# Later than every upload: uv's way to exempt one package from the date.
_NO_DATE = "2100-01-01T00:00:00Z"


class Plan:
    """What the resolver is told.

    Attributes:
        requirements: what to install.
        constraints: what must hold for all that is installed.
        undated: packages that may be newer than the date.
        notes: where the user's wish replaces the recipe's.
    """

    def __init__(self, requirements: list[str], undated: list[str]) -> None:
        self.requirements = requirements
        self.constraints: list[str] = []
        self.undated = undated
        self.notes: list[str] = []


def plan(
    recipe: Recipe,
    cell: Cell,
    pip: Iterable[str],
    python: str,
    constraints: Iterable[str] = (),
) -> Plan:
    """Bring the recipe and the user's requirements together.

    A version that the user asks for exactly, and every range that the recipe's pin is outside
    of, replaces the pin. The recipe's constraints hold for ranges, not against an exact version.

    Args:
        recipe: the recipe.
        cell: its cell for this Python.
        pip: the spec's requirements.
        python: the full Python version, for environment markers.
        constraints: what the user says of packages without asking for them.
    """
    from packaging.requirements import Requirement

    marker_values = {"python_version": cell.python, "python_full_version": python}

    def holding(texts: Iterable[str]) -> list[Requirement]:
        all_of_them = map(Requirement, texts)
        return [o for o in all_of_them if o.marker is None or o.marker.evaluate(marker_values)]

    wanted, bounds = holding(pip), holding(constraints)
    pins = {one.name: one for one in map(Requirement, cell.pins)}
    limits = [Requirement(text) for text in cell.constraints]
    made = Plan([str(one) for one in wanted], list(recipe.build_undated))
    for one in (*wanted, *bounds):
        exact = _exact(one)
        pin = pins.get(one.name)
        if pin is not None and not _allows(one, _exact(pin)):
            del pins[one.name]
            if one in bounds:
                made.requirements.append(one.name)
            asked = f"@ {one.url}" if one.url else str(one.specifier)
            made.notes.append(f"{one.name} {asked} replaces the recipe's {pin.specifier}")
        if exact is not None:
            made.undated.append(one.name)
        if exact is not None or one.url:
            limits = [at for at in limits if at.name != one.name or _allows(at, exact)]
    # What an exact pin means does not depend on the date.
    made.undated += [pin.name for pin in pins.values() if _exact(pin)]
    made.requirements += [str(pin) for pin in pins.values()]
    made.constraints = [str(limit) for limit in (*limits, *bounds)]
    return made


def _exact(requirement: Requirement) -> str | None:
    found = re.fullmatch(r"={2,3}\s*([^*,]+)", str(requirement.specifier))
    return found[1] if found else None


def _allows(requirement: Requirement, version: str | None) -> bool:
    if requirement.url or version is None:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def resolve(
    recipe: Recipe,
    cell: Cell,
    interpreter: Interpreter,
    spec: dict[str, Any],
    mpi: dict[str, Any] | None = None,
    *,
    folder: str,
    say: Callable[[str], None],
    known: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Resolve a spec on an interpreter.

    Args:
        recipe: the recipe that the spec names.
        cell: its cell for the interpreter.
        interpreter: what to install for.
        spec: what `venv_spec` returned.
        mpi: the MPI that starts the ranks, if there is one.
        folder: an empty folder of our own.
        say: takes lines for people.
        known: versions by name of what is installed already, and stays as it is.

    Returns:
        The lock document, without index addresses: a package is known by name, version and hash.

    Raises:
        EnvironmentFailure: there is no such set of packages, or no index to ask.
    """
    known = known or {}
    bounds = [*spec.get("constraints", ()), *(f"{n}=={version}" for n, version in known.items())]
    made = plan(recipe, cell, spec["pip"], interpreter.version, bounds)
    build = {
        "constraints": [*recipe.build_constraints, *_for_builds(recipe, made)],
        "extra": recipe.build_extra,
    }
    what = shown(spec) if recipe.framework else recipe.title
    doing = f"resolving {what} for Python {interpreter.version}"
    say(doing)
    write_lines(f"{folder}/requirements.in", made.requirements)
    write_lines(f"{folder}/constraints.txt", made.constraints)
    write_build_settings(folder, build)
    if recipe.framework and not any(_name(text) == recipe.framework for text in spec["pip"]):
        _write_metadata(folder, recipe)
    arguments = ["pip", "compile", "requirements.in", "--constraints", "constraints.txt"]
    arguments += ["--build-constraints", "build.txt", "--python", interpreter.path]
    arguments += ["--format", "pylock.toml", "--output-file", "pylock.toml", "--no-header"]
    if known:
        from rechain.environment.conda.pip import write_known

        write_known(f"{folder}/known", known)
        arguments += ["--find-links", "known"]
    dated = [] if cell.as_of is None else ["--exclude-newer", cell.as_of]
    for name in made.undated if dated else ():
        dated += ["--exclude-newer-package", f"{name}={_NO_DATE}"]

    notes = [*cell.notes, *made.notes]
    as_of = cell.as_of
    done = uv.run([*arguments, *dated], folder)
    if done.code != 0 and "missing an upload date" in done.errors:
        if spec["strict"]:
            raise EnvironmentFailure(
                f"the package index gives no upload dates, so nothing resolves as of {as_of}",
                "Use an index that gives them, or leave out strict.",
                done.errors,
            )
        notes.append(f"the package index gives no upload dates: not resolved as of {as_of}")
        as_of = None
        done = uv.run(arguments, folder)
    if done.code != 0:
        failure = uv.explain(done.errors, doing, [*cell.constraints, *cell.pins])
        replaced = any(_name(text) == recipe.framework for text in spec["pip"])
        if replaced and "No solution found" in done.errors:
            failure.hint = _by_version(recipe)
        if "as_of" in spec and "exclude-newer" in done.errors:
            failure.hint = (
                f"Nothing newer than {as_of} counts: take a later date, or require an exact "
                "version (name==version), which may be newer."
            )
        raise failure
    packages, newer = _packages(f"{folder}/pylock.toml", as_of, known)
    whose = "" if "as_of" in spec else "the recipe's date, "
    notes += [f"{p} is newer than {whose}{str(as_of)[:10]}" for p in newer]
    build["constraints"] = [*build["constraints"], *_as_installed(recipe, packages)]
    lock = {
        "schema": 1,
        "kind": "venv",
        "recipe": recipe.name,
        "interpreter": {
            "path": interpreter.path,
            "version": interpreter.version,
            "implementation": "cpython",
            "abi": interpreter.abi,
            "from": interpreter.found_by,
        },
        "platform": {
            "system": os.uname().sysname,
            "machine": interpreter.machine,
            "libc": interpreter.libc,
        },
        "as_of": as_of,
        "packages": packages,
        "build": build,
        "notes": notes,
    }
    if compat := cell.needed(package["name"] for package in packages):
        lock["compat"] = compat
    if mpi is not None:
        lock["mpi"] = {**mpi, "builds_mpi4py": _must_build(f"{folder}/pylock.toml", "mpi4py")}
    return {**lock, "digest": identity(lock)}


def identity(lock: dict[str, Any]) -> str:
    """Return the digest of what a lock makes, wherever it is made.

    The interpreter and the MPI count by what they are, not by where or who found them.
    """
    counted = {k: v for k, v in lock.items() if k not in ("notes", "digest")}
    for key, here in (("interpreter", ("path", "from")), ("mpi", _HERE)):
        if key in lock:
            counted[key] = {k: v for k, v in lock[key].items() if k not in here}
    data = json.dumps(counted, sort_keys=True).encode()
    return sha256(len(data))(data).hexdigest()


def _write_metadata(folder: str, recipe: Recipe) -> None:
    entry = {"name": recipe.framework, "version": recipe.version, "requires-dist": recipe.requires}
    lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    with open(f"{folder}/uv.toml", "a", encoding="utf-8") as file:
        file.write("\n".join(["", "[[dependency-metadata]]", *lines, ""]))


def _by_version(recipe: Recipe) -> str:
    """Return what to do in place of requiring the framework among the packages."""
    known = [name.partition("-")[2] for name in names() if name.startswith(recipe.framework)]
    return (
        f"The version of {recipe.framework} is chosen by framework_version "
        f"(--framework-version), and not among the packages: {', '.join(known)}."
    )


def _name(requirement: str) -> str:
    from packaging.requirements import Requirement

    return Requirement(requirement).name


def _as_installed(recipe: Recipe, packages: list[dict[str, Any]]) -> list[str]:
    """Return the constraints for builds that are known only when all is resolved.

    Building is not bound to the date, and what is built against a package must go with it.
    """
    from packaging.requirements import Requirement

    names = {one["name"] for one in packages}
    extra = [need for name, needs in recipe.build_extra.items() if name in names for need in needs]
    needed = {Requirement(need).name for need in extra}
    return [f"{p['name']}=={p['version']}" for p in packages if p["name"] in needed]


def _for_builds(recipe: Recipe, made: Plan) -> list[str]:
    # An extension built against a newer NumPy than it runs with does not load.
    from packaging.requirements import Requirement

    needed = {Requirement(need).name for needs in recipe.build_extra.values() for need in needs}
    return [limit for limit in made.constraints if Requirement(limit).name in needed]


def _must_build(path: str, name: str) -> bool:
    return any(
        one["name"] == name and not one.get("wheels") for one in read_toml(path)["packages"]
    )


def _packages(
    path: str, as_of: str | None, known: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Read uv's lock (PEP 751): what identifies each package, and which came after `as_of`."""
    from datetime import datetime

    entries = read_toml(path)["packages"]
    limit = as_of and datetime.fromisoformat(as_of.replace("Z", "+00:00"))
    packages, newer = [], []
    for entry in entries:
        if entry["name"] in known:
            continue
        name = f"{entry['name']} {entry.get('version', '')}".strip()
        if "directory" in entry:
            raise EnvironmentFailure(
                f"{name} is a folder of this machine, which cannot be reproduced",
                "Build a wheel of it and require that by version.",
            )
        # With a wheel at hand its sdist must never be taken instead, so only wheels are recorded.
        files = entry.get("wheels") or [entry.get("sdist") or entry.get("archive") or {}]
        package: dict[str, Any] = {"name": entry["name"], "version": entry.get("version")}
        source = entry.get("archive", {}).get("url")
        if "vcs" in entry:
            vcs = entry["vcs"]
            source = f"{vcs['type']}+{vcs['url']}@{vcs['commit-id']}"
        if source:
            package["url"] = source
        hashes = {f"sha256:{at['hashes']['sha256']}" for at in files if at.get("hashes")}
        package["hash"] = sorted(hashes)
        packages.append(package)
        uploaded = [at["upload-time"] for at in files if "upload-time" in at]
        if limit and uploaded and min(uploaded) > limit:
            newer.append(name)
    return packages, newer
