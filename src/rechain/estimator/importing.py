"""What other tools' files ask for: requirements.txt, environment.yml, Pipfile.lock, .runconfig."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rechain.estimator import requirements
from rechain.exceptions import UserErrorException

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rechain.runconfig.conda_dependencies import CondaDependencies

__all__ = ["Imported", "check_hashes", "read", "recipe_for"]

# Options of pip that say where packages come from or how pip goes about it, and so are not the
# environment's; their values may hold passwords.
_LEFT = (
    "-i", "--index-url", "--pypi-url", "--extra-index-url", "--no-index", "-f", "--find-links",
    "--trusted-host", "--prefer-binary", "--no-binary", "--only-binary", "--require-hashes",
    "--use-feature", "--pre", "--process-dependency-links",
)  # fmt: skip
_OF_OTHERS = (".toml", ".lock", ".json", ".py", ".cfg", ".ini", ".ipynb")


@dataclass
class Imported:
    """What a file asks for.

    Attributes:
        python: the Python's version, if it names one.
        pip: requirements (PEP 508).
        constraints: what must hold for what is installed, without asking for it.
        conda: packages of conda, Python among them.
        channels: those of conda, the first choice first.
        hashes: by canonical name, the files that are allowed (`sha256:...`), where it names them.
        notes: what of it is left out, or left to the machine's settings.
    """

    python: str | None = None
    pip: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    conda: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    hashes: dict[str, set[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(path: str) -> Imported:
    """Read a file.

    Args:
        path: `*.yml` or `*.yaml` (conda), `*.runconfig`, `Pipfile.lock`; anything else is a
            requirement file of pip, unless its name says that it is none.

    Raises:
        UserErrorException: it cannot be read, or asks for what no lock can hold.
    """
    found = Imported()
    name = os.path.basename(path)
    if not os.path.isfile(path):
        raise UserErrorException(f"there is no file {path}")
    if name.endswith((".yml", ".yaml")):
        from rechain.runconfig.conda_dependencies import CondaDependencies

        _conda(CondaDependencies(path), path, found)
    elif name.endswith(".runconfig"):
        _run_configuration(path, found)
    elif name == "Pipfile.lock":
        _pipfile(path, found)
    elif name == "Pipfile" or name.endswith(_OF_OTHERS):
        raise UserErrorException(
            f"{path} is of no kind that is known here; known are requirement files of pip "
            "(requirements.txt), environment files of conda (*.yml, *.yaml), Pipfile.lock and "
            "v1's *.runconfig."
        )
    else:
        _file(path, f"{path}", found, found.pip, ())
    return found


def recipe_for(asked: Imported, as_of: object = None) -> tuple[str, list[str], list[str]]:
    """Return the recipe that what is asked for means, what to add to it, and notes.

    Args:
        asked: what `read` returned.
        as_of: the day whose packages are taken; then a Chainer needs no recipe.

    Raises:
        UserErrorException: Chainer is asked for in a version that has no recipe.
    """
    from rechain import recipes
    from rechain.estimator.as_estimator import version_of_chainer
    from rechain.runconfig.packages import base_name

    chainer = [line for line in asked.pip if base_name(line) == "chainer"]
    if not chainer:
        return recipes.PLAIN, asked.pip, []
    version, notes = version_of_chainer(chainer[0])
    name = f"chainer-{version}"
    if as_of is not None and name not in recipes.names():
        return recipes.PLAIN, asked.pip, []
    return name, [line for line in asked.pip if line not in chainer], notes


def check_hashes(asked: Imported, packages: list[dict[str, Any]], path: str) -> None:
    """Compare a lock's packages with the hashes that the file names.

    Raises:
        UserErrorException: a package's files are none of those.
    """
    for package in packages:
        allowed = asked.hashes.get(package["name"])
        if allowed and package["hash"] and allowed.isdisjoint(package["hash"]):
            raise UserErrorException(
                f"{package['name']} {package['version']} of the index is not the file that {path} "
                "names (its hash differs); do not use this index until you know why."
            )


def _conda(asked: CondaDependencies, path: str, found: Imported) -> None:
    found.conda += asked.conda_packages
    found.channels += map(str, asked.conda_channels)
    if variables := asked.as_dict().get("variables"):
        found.notes.append(
            f"the variables of {path} are not of the environment's files: give them with --env "
            f"({', '.join(map(str, variables))})"
        )
    lines = [*asked.pip_packages, *asked.pip_options]
    for line in lines:
        _line(line, path, found, found.pip, ())


def _run_configuration(path: str, found: Imported) -> None:
    from rechain.runconfig import Environment, RunConfiguration

    environment = RunConfiguration.load(path).environment
    if not isinstance(environment, Environment):
        raise UserErrorException(
            f"{path} names an environment that a workspace keeps, not its own"
        )
    python = environment.python
    if python.user_managed_dependencies:
        raise UserErrorException(
            f"{path} has userManagedDependencies: nothing is installed, so nothing can be locked"
        )
    if python.conda_dependencies is not None:
        _conda(python.conda_dependencies, path, found)


def _pipfile(path: str, found: Imported) -> None:
    import json

    try:
        document = json.loads(requirements.text_of(path, path))
        entries = document["default"].items()
        found.python = document["_meta"]["requires"].get("python_version")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserErrorException(f"{path} is no Pipfile.lock: {error!r}", error) from error
    for name, entry in entries:
        extras = f"[{','.join(entry['extras'])}]" if entry.get("extras") else ""
        marker = f" ; {entry['markers']}" if entry.get("markers") else ""
        if "git" in entry:
            found.pip.append(
                f"{name}{extras} @ git+{entry['git']}@{entry.get('ref', 'HEAD')}{marker}"
            )
        elif "version" in entry:
            found.pip.append(f"{name}{extras}{entry['version']}{marker}")
            _allow(name, entry.get("hashes", ()), found)
        else:
            where = str(entry.get("path") or entry.get("file"))
            _line(f"-e {where}", path, found, found.pip, ())


def _allow(name: str, hashes: Iterable[str], found: Imported) -> None:
    from packaging.utils import canonicalize_name

    known = {one for one in hashes if one.startswith("sha256:")}
    if known:
        found.hashes.setdefault(canonicalize_name(name), set()).update(known)


def _file(
    path: str, why: str, found: Imported, into: list[str], including: tuple[str, ...]
) -> None:
    real = os.path.realpath(path)
    if real in including:
        raise UserErrorException(f"{why}, which includes itself: remove one of the -r lines.")
    for number, line in requirements.logical_lines(requirements.text_of(path, why)):
        _line(line, f"{path}, line {number}", found, into, (*including, real), path)


def _line(
    line: str,
    where: str,
    found: Imported,
    into: list[str],
    including: tuple[str, ...],
    file: str | None = None,
) -> None:
    """Take over one line of a requirement file."""
    folder = os.path.dirname(file or where)
    option, value = requirements.option_of(line)
    if option in ("-r", "--requirement", "-c", "--constraint"):
        included = os.path.join(folder, value)
        target = found.constraints if option in ("-c", "--constraint") else into
        _file(included, f"{where}, includes {included}", found, target, including)
    elif option in ("-e", "--editable"):
        _source(value, where, folder, found, into, including)
    elif option in _LEFT:
        note = f"{option} ({where}) is left to the settings of uv or pip"
        if note not in found.notes:
            found.notes.append(note)
    elif line.startswith("-"):
        raise UserErrorException(f"{where}: {option} is no option that is known here.")
    elif re.match(r"(\.{0,2}/|\.{1,2}$|\w+\+\w+://)", line):
        _source(line, where, folder, found, into, including)
    else:
        hashes = re.findall(r"--hash[= ](\S+)", line)
        text = re.sub(r"\s+--[\w-]+[= ]\S+", "", line).strip()
        into.append(text)
        _allow(re.split(r"[\s\[<>=!~;@]", text)[0], hashes, found)


def _source(
    value: str,
    where: str,
    folder: str,
    found: Imported,
    into: list[str],
    including: tuple[str, ...],
) -> None:
    """Take over a package that is named by its source."""
    from rechain.job.git import without_credentials

    address, _, fragment = value.partition("#")
    if re.match(r"\w+\+\w+://", address):
        egg = re.search(r"egg=([\w.\[\],-]+)", fragment)
        if not egg:
            raise UserErrorException(
                f"{where}: {without_credentials(value)!r} has no name; write NAME @ "
                f"{without_credentials(address)}, or add #egg=NAME."
            )
        into.append(f"{egg[1]} @ {address}")
        return
    project = os.path.join(folder, re.sub(r"\[.*\]$", "", address.strip()))
    if not os.path.isdir(project):
        raise UserErrorException(
            f"{where}: {without_credentials(value)!r} is a file of this machine, which cannot be "
            "reproduced; require a released version."
        )
    needs = _needs(project)
    if needs is None:
        found.notes.append(
            f"{value} ({where}) is not installed, and what it needs is not known: require that "
            "itself; scripts find the packages beside them"
        )
        return
    found.notes.append(
        f"{value} ({where}) is not installed, only what it needs: scripts find the packages "
        "beside them"
    )
    for line in needs:
        _line(line, where, found, into, including)


def _needs(project: str) -> list[str] | None:
    """Return what a project requires, as far as it says so without being run."""
    import configparser

    from rechain.recipes import read_toml

    try:
        table: dict[str, Any] = read_toml(f"{project}/pyproject.toml").get("project", {})
    except (OSError, ValueError):
        table = {}
    if "dependencies" in table:
        return list(map(str, table["dependencies"]))
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(f"{project}/setup.cfg", encoding="utf-8")
        return parser["options"]["install_requires"].split("\n")[1:]
    except (KeyError, ValueError, configparser.Error):
        pass
    return _needs_of_setup(f"{project}/setup.py")


def _needs_of_setup(path: str) -> list[str] | None:
    """Return the `install_requires` of a setup.py, if it is a plain list."""
    import ast

    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return None
    named = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls = [one for one in calls if ast.unparse(one.func).rpartition(".")[2] == "setup"]
    for call in calls:
        for keyword in call.keywords:
            if keyword.arg != "install_requires":
                continue
            value: ast.expr | None = keyword.value
            if isinstance(value, ast.Name):
                value = named.get(value.id)
            try:
                return [str(one) for one in ast.literal_eval(value)]  # type: ignore[arg-type]
            except (ValueError, TypeError):
                return None
    return [] if calls else None
