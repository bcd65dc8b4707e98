"""Find a Python for an environment.

Where to look is cheap to list; what is there has to be run to be believed, which takes seconds
for a dozen of them. So each interpreter is asked once and its answer kept until its file changes.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from rechain.environment import seal, store, uv
from rechain.environment.build import alone
from rechain.environment.errors import EnvironmentFailure
from rechain.record import jsonl

if TYPE_CHECKING:
    from rechain.recipes import Recipe

__all__ = ["Interpreter", "choose", "found", "probe"]

# Runs on whatever calls itself Python; -I and -S keep the user's own start-up code out of it.
_ASK = """
import json, os, sys
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except ValueError:
    libc = None
print(json.dumps({
    "path": os.path.realpath(sys.executable),
    "version": sys.version.split()[0],
    "implementation": sys.implementation.name,
    "abi": "cp%d%d%s" % (sys.version_info[0], sys.version_info[1], sys.abiflags),
    "bits": 64 if sys.maxsize > 2 ** 32 else 32,
    "machine": os.uname()[4],
    "libc": libc,
}))
"""
_PATIENCE = 20.0  # seconds for one interpreter to answer; a cold network disk is slow
_OLDEST_DOWNLOAD = (3, 8)  # what uv's own builds of Python start with


class Interpreter(NamedTuple):
    """A Python that has been run.

    Attributes:
        path: its executable, real.
        version: such as `3.6.15`.
        abi: such as `cp36m`.
        machine: such as `x86_64`.
        libc: such as `glibc 2.36`; None where there is no telling.
        found_by: who knew of it: a findpython provider, `conda`, `mise`, `rechain` or `user`.
        stat: modification time (ns) and size (bytes) of its file when it was run.
    """

    path: str
    version: str
    abi: str
    machine: str
    libc: str | None
    found_by: str
    stat: list[int]

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(int(part) for part in self.version.split("."))


def choose(
    wanted: str | None, recipe: Recipe, cache: str, strict: bool, say: Callable[[str], None]
) -> tuple[Interpreter, list[str]]:
    """Choose the interpreter to build an environment on.

    Args:
        wanted: a version, a path, or None for the recipe's preference.
        recipe: says which Pythons will do, the preferred first.
        cache: what `store.cache_root` returned.
        strict: whether another patch level than the one named is refused.
        say: takes lines for people.

    Returns:
        The interpreter, and notes about what is different from what was asked for.

    Raises:
        EnvironmentFailure: there is none that will do.
    """
    if wanted is not None and os.sep in wanted:
        return _named(wanted, recipe, cache), []
    here = found(cache)
    if wanted is not None:
        minors = [".".join(wanted.split(".")[:2])]
        best = _best(here, minors, wanted) or _download(minors, cache, here, recipe, say)
    else:
        best = _preferred(here, recipe, cache, strict, say)
    if wanted is None or wanted.count(".") < 2 or best.version == wanted:
        return best, []
    note = f"Python {best.version} is used: {wanted} is not on this machine"
    if strict:
        raise EnvironmentFailure(
            f"Python {wanted} is not on this machine",
            f"Install it, or allow {best.version} by leaving out strict.",
        )
    return best, [note]


def found(cache: str) -> list[Interpreter]:
    """Return the interpreters of this machine that environments can be built on."""
    candidates = dict(_candidates(cache))
    answers = _ask_all(cache, list(candidates))
    usable: dict[str, Interpreter] = {}
    for path, by in candidates.items():
        answer = answers.get(path)
        if answer and _usable(answer["facts"]):
            interpreter = _interpreter(answer, by)
            usable.setdefault(interpreter.path, interpreter)
    return list(usable.values())


def probe(cache: str, path: str, by: str) -> Interpreter | None:
    """Return the interpreter at a path; None if there is no usable one."""
    answer = _ask_all(cache, [path]).get(path)
    return _interpreter(answer, by) if answer and _usable(answer["facts"]) else None


def _named(path: str, recipe: Recipe, cache: str) -> Interpreter:
    interpreter = probe(cache, os.path.realpath(path), "user")
    if interpreter is None:
        raise EnvironmentFailure(
            f"{path} is not a 64-bit CPython that can be run",
            "Name another interpreter, or leave out python to have one chosen.",
        )
    if recipe.cell(interpreter.version) is None:
        raise EnvironmentFailure(
            f"{path} is Python {interpreter.version}; {recipe.title} has recipes for "
            f"{recipe.pythons}",
            "Name another interpreter, or leave out python to have one chosen.",
        )
    return interpreter


def _best(here: list[Interpreter], minors: list[str], wanted: str | None) -> Interpreter | None:
    for minor in minors:
        same = sorted(one for one in here if one.version.rpartition(".")[0] == minor)
        if same:  # the same choice every time: of equals the shortest path, then the alphabet
            return max(same, key=lambda one: (one.version == wanted, one.release, -len(one.path)))
    return None


def _preferred(
    here: list[Interpreter],
    recipe: Recipe,
    cache: str,
    strict: bool,
    say: Callable[[str], None],
) -> Interpreter:
    """Return a Python that the framework runs on as it is; one with patches if there is none."""
    patched = [cell.python for cell in recipe.cells if cell.patched]
    minors = [cell.python for cell in recipe.cells if not cell.patched] or patched
    best = _best(here, minors, None)
    if best is not None:
        return best
    try:
        return _download(minors, cache, here, recipe, say)
    except EnvironmentFailure:
        best = None if strict else _best(here, patched, None)
        if best is None:
            raise
        return best


def _download(
    minors: list[str],
    cache: str,
    here: list[Interpreter],
    recipe: Recipe,
    say: Callable[[str], None],
) -> Interpreter:
    detail = [f"Found on this machine: {one.version} at {one.path}" for one in here]
    offered = [m for m in minors if tuple(map(int, m.split("."))) >= _OLDEST_DOWNLOAD]
    if offered:
        say(f"downloading Python {offered[0]}: none of {', '.join(minors)} is on this machine")
        own = store.pythons(cache)
        with alone(f"{own}.lock", say):
            for folder in _unsealed(own):  # of a killed download, or changed since
                seal.discard(folder)
            extra = {"UV_PYTHON_INSTALL_DIR": own}
            done = uv.run(["python", "install", "--no-bin", offered[0]], extra=extra)
            for folder in _unsealed(own) if done.code == 0 else ():
                seal.put(folder)
        fresh = _best(found(cache), [offered[0]], None) if done.code == 0 else None
        if fresh is not None:
            return fresh
        detail += ["", f"Downloading Python {offered[0]} failed:", done.errors.strip()]
    one = minors[0] if len(minors) == 1 else f"{', '.join(minors[:-1])} or {minors[-1]}"
    raise EnvironmentFailure(
        f"no Python for {recipe.title} was found on this machine, and none "
        f"{'could be' if offered else 'can be'} downloaded ({one} will do)",
        _ways(minors[0], offered, here, recipe),
        "\n".join(detail),
    )


def _ways(minor: str, offered: list[str], here: list[Interpreter], recipe: Recipe) -> str:
    """Return how people come by a Python, for them to choose."""
    commands = [f"`pyenv install {minor}`", f"`conda create -n py python={minor}`"]
    commands += [f"`uv python install {one}`" for one in offered[:1]]
    present = {one.version.rpartition(".")[0] for one in here}
    fitting = [c.python for c in recipe.cells if c.python in present and not c.patched]
    instead = (
        f" Python {fitting[0]} is here and would do: --python {fitting[0]}." if fitting else ""
    )
    return (
        f"Install one with {', '.join(commands)}, or as a package of your system (python{minor}; "
        f"for Ubuntu, deadsnakes has it); or name one by its path: --python PATH.{instead}"
    )


def _unsealed(own: str) -> Iterator[str]:
    """Yield the Pythons in our folder that are not as they were when they were complete."""
    import glob

    for folder in glob.glob(f"{glob.escape(own)}/*-*"):
        if not os.path.islink(folder) and os.path.isdir(folder) and not store.holds(folder):
            yield folder


def _candidates(cache: str) -> Iterator[tuple[str, str]]:
    """Yield paths that may be interpreters, each once, with who knows of them."""
    from findpython.providers import ALL_PROVIDERS

    seen = set()
    for name, kind in ALL_PROVIDERS.items():
        provider = kind.create()
        for python in provider.find_pythons() if provider else ():
            path = _key(str(python.executable))
            if path is not None and path not in seen:
                seen.add(path)
                yield path, name
    for executable, by in _more(cache):
        path = _key(executable)
        if path is not None and path not in seen and os.access(path, os.X_OK):
            seen.add(path)
            yield path, by


def _more(cache: str) -> Iterator[tuple[str, str]]:
    """Yield the places that findpython does not know."""
    import glob

    own = store.pythons(cache)
    changed = set(_unsealed(own))
    for folder in sorted(glob.glob(f"{glob.escape(own)}/*-*")):
        if not os.path.islink(folder) and folder not in changed:
            yield f"{folder}/bin/python3", "rechain"
    mise = os.environ.get("MISE_DATA_DIR") or os.path.expanduser("~/.local/share/mise")
    for path in sorted(glob.glob(f"{mise}/installs/python/*/bin/python3")):
        yield path, "mise"
    try:  # conda lists every environment it ever made here
        with open(os.path.expanduser("~/.conda/environments.txt"), encoding="utf-8") as file:
            prefixes = file.read().split("\n")
    except OSError:
        prefixes = []
    for prefix in filter(None, prefixes):
        yield f"{prefix}/bin/python", "conda"


def _key(executable: str) -> str | None:
    """Return the file to ask; None for one that only forwards to others.

    pyenv, asdf and mise put shims on PATH, which fail or answer differently from folder to
    folder. What they forward to is found where it is installed.
    """
    if os.path.basename(os.path.dirname(executable)) == "shims":
        return None
    real = os.path.realpath(executable)
    if os.path.exists(f"{os.path.dirname(os.path.dirname(real))}/pyvenv.cfg"):
        return None  # a virtual environment made of copies: not a base to build on
    return real


def _ask_all(cache: str, paths: list[str]) -> dict[str, dict[str, Any]]:
    document = store.read_known(store.interpreters(cache)) or {"schema": 1, "probes": {}}
    probes: dict[str, dict[str, Any]] = document["probes"]
    stats = {path: stat for path in paths if (stat := _stat(path))}
    unknown = [p for p, stat in stats.items() if p not in probes or probes[p]["stat"] != stat]
    if unknown:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(4) as pool:
            for path, facts in zip(unknown, pool.map(_ask, unknown), strict=True):
                probes[path] = {"stat": stats[path], "facts": facts}
        kept = {path: one for path, one in probes.items() if _stat(path) == one["stat"]}
        os.makedirs(cache, exist_ok=True)
        jsonl.write_atomic(store.interpreters(cache), {"schema": 1, "probes": kept})
    return {path: probes[path] for path in stats}


def _stat(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_mtime_ns, status.st_size]


def _ask(path: str) -> dict[str, Any] | None:
    try:
        said = subprocess.run(
            [path, "-I", "-S", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
        facts = json.loads(said.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return facts if isinstance(facts, dict) else None


def _usable(facts: dict[str, Any] | None) -> bool:
    return (
        facts is not None
        and facts["implementation"] == "cpython"
        and facts["bits"] == 64
        and facts["machine"] == os.uname().machine
        and facts["abi"].lstrip("cp0123456789") in ("", "m")  # no debug, no free-threaded build
        and facts["version"].replace(".", "").isdigit()  # a release, not a pre-release
    )


def _interpreter(answer: dict[str, Any], by: str) -> Interpreter:
    facts = answer["facts"]
    return Interpreter(
        path=facts["path"],
        version=facts["version"],
        abi=facts["abi"],
        machine=facts["machine"],
        libc=facts["libc"],
        found_by=by,
        stat=answer["stat"],
    )
