"""What can be told of a script before it runs: undefined names, syntax, missing packages.

Nothing of the script is run, and nothing here stops it.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["check", "lint", "missing_packages"]

_RULES = "F821,F823"  # undefined name; local variable used before its assignment
_OLDEST, _NEWEST = 7, 14  # of Python 3, as ruff knows them
_SECONDS = 10.0

# In the standard library of a Python that a recipe may take, and gone from newer ones.
_GONE = frozenset(
    {
        "asynchat", "asyncore", "audioop", "binhex", "cgi", "cgitb", "chunk", "crypt", "distutils",
        "formatter", "imghdr", "imp", "lib2to3", "mailcap", "msilib", "nntplib", "ossaudiodev",
        "parser", "pipes", "smtpd", "sndhdr", "spwd", "sunau", "symbol", "telnetlib", "uu",
        "xdrlib",
    }
)  # fmt: skip
_CAUGHT = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}

_Import = tuple[str, int, bool]  # what is imported, in which line, whether it may be missing


def check(
    source: str, script: str, environment: dict[str, Any], show_lint: bool, show_packages: bool
) -> list[str]:
    """Check a script and the modules beside it that it imports.

    Args:
        source: the source folder.
        script: the script, relative to it.
        environment: the job's `environment`.
        show_lint: whether to log what is wrong with the code as warnings.
        show_packages: whether to log which packages will be missing.

    Returns:
        One text for each finding, with file and line.
    """
    files = _files(source, script)
    wrong = lint(source, list(files), _minor(environment))
    missing = missing_packages(source, script, files, environment)
    shown = wrong * show_lint + missing * show_packages
    if shown:
        import logging

        for text in shown:
            logging.getLogger("rechain.estimator").warning("%s", text)
    return wrong + missing


def lint(source: str, files: Iterable[str], minor: int | None) -> list[str]:
    """Return the syntax errors and undefined names that ruff finds.

    Args:
        source: the source folder.
        files: the files, relative to it.
        minor: for which Python 3 (its minor version); any, if None.
    """
    import json
    import subprocess
    from importlib.util import find_spec

    if find_spec("ruff") is None:
        return ["the script is not checked, because ruff is not there: install rechain[lint]"]
    target = _NEWEST if minor is None else min(max(minor, _OLDEST), _NEWEST)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--quiet"]
    command += ["--select", _RULES, "--target-version", f"py3{target}", "--output-format", "json"]
    try:
        said = subprocess.run(
            [*command, "--", *files],
            cwd=source, capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        findings = json.loads(said.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return [f"the script is not checked, because ruff gave no answer: {error}"]
    root = os.path.realpath(source)
    found = []
    for finding in findings:
        name = os.path.relpath(os.path.realpath(finding["filename"]), root)
        cell = f" cell {finding['cell']}" if finding.get("cell") else ""
        line = (finding.get("location") or {}).get("row", 1)
        found.append(f"{name}{cell}:{line}: {finding['message']}")
    return found


def missing_packages(
    source: str, script: str, files: dict[str, list[_Import]], environment: dict[str, Any]
) -> list[str]:
    """Return the imports of packages that the environment will not have.

    Before it is resolved only what is asked for by name is known, not what that brings along. A
    Python of the user's is not looked into.
    """
    if environment["kind"] == "user-managed":
        return []
    from fnmatch import fnmatchcase

    from packaging.utils import canonicalize_name

    from rechain import recipes

    comes_with = recipes.imports()
    there = _names(environment)
    found = []
    seen = set(sys.stdlib_module_names) | _GONE
    for file, imports in files.items():
        for module, line, may_be_missing in imports:
            top = module.partition(".")[0]
            if top in seen or may_be_missing or _local(source, script, top):
                continue
            seen.add(top)
            patterns = comes_with.get(top) or [canonicalize_name(top)]
            if not any(fnmatchcase(name, at) for name in there for at in patterns):
                hint = patterns[0].replace("*", "...")
                found.append(
                    f"{file}:{line}: imports {top}, which nothing in the environment is known to "
                    f"bring: add {hint} to pip_packages"
                )
    return found


def _names(environment: dict[str, Any]) -> set[str]:
    """Return the canonical names of what the environment has, or is asked to have."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    from rechain.environment import era, store

    built = store.find(store.cache_root(), environment["digest"])
    if built is not None:
        return {canonicalize_name(package["name"]) for package in built["lock"]["packages"]}
    recipe = era.recipe_of(environment)
    asked = [*recipe.requires, *recipe.cells[0].pins, *environment["pip"]]
    asked += ["mpi4py"] * ("mpi" in environment)
    if "conda" in environment:
        from rechain.environment.conda.asked import name_of

        asked += map(name_of, environment["conda"]["packages"])
    return {canonicalize_name(Requirement(text).name) for text in asked}


def _minor(environment: dict[str, Any]) -> int | None:
    """Return the minor version of the Python that an environment has, as far as it is known."""
    python = environment["python"]
    if python is None:
        from rechain.environment import era

        python = era.recipe_of(environment).cells[0].python
    found = re.fullmatch(r"(?:python)?3\.(\d+)(?:\.\d+)?", os.path.basename(python))
    return int(found[1]) if found else None


def _files(source: str, script: str) -> dict[str, list[_Import]]:
    """Return the imports of a script and of the modules beside it that it reaches, by file."""
    found: dict[str, list[_Import]] = {}
    waiting = [os.path.normpath(script)]
    while waiting:
        file = waiting.pop(0)
        if file in found:
            continue
        # What is imported has its name from the script's folder on.
        package = os.path.relpath(os.path.dirname(file) or ".", os.path.dirname(script) or ".")
        parts = [] if package == "." else package.split(os.sep)
        found[file] = imports = list(_imports(os.path.join(source, file), parts))
        for module, _, _ in imports:
            waiting += _local(source, script, module)
    return found


def _local(source: str, script: str, module: str) -> list[str]:
    """Return the files of a module that lie beside the script: packages, and itself."""
    folder = os.path.dirname(script)
    found = []
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        path = os.path.normpath(os.path.join(folder, *parts[:end]))
        for name in (f"{path}/__init__.py", f"{path}.py"):
            if os.path.isfile(os.path.join(source, name)):
                found.append(name)
    return found


def _imports(path: str, package: list[str]) -> Iterator[_Import]:
    try:
        tree = ast.parse(_code(path))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # what is wrong with it the linter says
    yield from _below(tree, package, False)


def _below(node: ast.AST, package: list[str], caught: bool) -> Iterator[_Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield alias.name, child.lineno, caught
        elif isinstance(child, ast.ImportFrom):
            above = package[: len(package) - child.level + 1] if child.level else []
            stem = [*above, child.module] if child.module else above
            for alias in child.names:  # which may be a module, too
                yield ".".join([*stem, alias.name]), child.lineno, caught or child.level > 0
        else:
            optional = isinstance(child, ast.Try) and any(map(_catches, child.handlers))
            yield from _below(child, package, caught or optional)


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(
        isinstance(node, ast.Name) and node.id in _CAUGHT for node in ast.walk(handler.type)
    )


def _code(path: str) -> bytes | str:
    """Return the source of a file; of a notebook that of its cells, without magic lines."""
    with open(path, "rb") as file:
        data = file.read()
    if not path.lower().endswith(".ipynb"):
        return data
    import json

    lines: list[str] = []
    try:
        for cell in json.loads(data)["cells"]:
            if cell["cell_type"] == "code":
                lines += "".join(cell["source"]).split("\n")
    except (KeyError, TypeError) as error:
        raise ValueError("not a notebook") from error
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)
