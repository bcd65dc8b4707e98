"""How long environments take: to find again, to build from a lock, to resolve and build.

Run with the Python that Rechain is developed in: `.venv/bin/python benchmarks/environment.py`.
Needs Python 3.6 on this machine, and the package index.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from common import INSIDE, Command, Lab, Row, interpreter, main, network, uv

RECIPE, PYTHON = "chainer-7.0.0", "3.6"
_PIP, _VIRTUALENV = "venv and pip", "virtualenv and pip"
_MORE = "tqdm==4.64.1"


class Studio:
    """Rechain's caches for one row, and what is done with them.

    Args:
        lab: where to measure.
        name: the row's.
    """

    def __init__(self, lab: Lab, name: str) -> None:
        self.folder = lab.work / name
        self.folder.mkdir(parents=True)
        self.cache = self.folder / "cache"
        self.wheels = self.folder / "wheels"
        self._python = lab.rechain() / "python"
        self._virtualenv = lab.peer("virtualenv")
        self.spec = self._ask(f"venv_spec({RECIPE!r}, {PYTHON!r})")

    def _ask(self, expression: str) -> Any:
        code = "import json; from rechain.environment.spec import venv_spec; "
        argv = [str(self._python), "-c", f"{code} print(json.dumps({expression}))"]
        return json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)

    @property
    def variables(self) -> dict[str, str]:
        """The user's own environment, with caches of this row's own."""
        pip = str(self.folder / "pip")
        return network(
            RECHAIN_CACHE=str(self.cache), UV_CACHE_DIR=str(self.wheels), PIP_CACHE_DIR=pip
        )

    def more(self, layered: bool) -> dict[str, Any]:
        """Return the spec of the same with one package more.

        Args:
            layered: whether it is built on top of the recipe's own.
        """
        spec: dict[str, Any] = self._ask(f"venv_spec({RECIPE!r}, {PYTHON!r}, [{_MORE!r}])")
        return {**spec, "layered": layered}

    def prepare(
        self, before: Callable[[], object] = lambda: None, spec: dict[str, Any] | None = None
    ) -> Command:
        """Return the command with which a run's supervisor has its environment prepared."""
        spec = spec or self.spec
        job = self.folder / f"job-{spec['digest'][:8]}-{spec.get('layered')}.json"
        job.write_text(json.dumps({"schema": 1, "environment": spec}))
        result = self.folder / "result.json"
        argv = [self._python, "-I", "-m", "rechain.environment", job, result]
        return Command(argv, self.variables, self.folder, before)

    def pips(self, *options: str, spec: dict[str, Any] | None = None) -> dict[str, Command]:
        """Return the commands that make the same by the rivals, to whom each version is given."""
        made = {_PIP: self.pip(*options, spec=spec)}
        if self._virtualenv is not None:
            maker = f'"{self._virtualenv}/virtualenv" -q -p "{interpreter(PYTHON)}"'
            made[_VIRTUALENV] = self.pip(*options, maker=maker, spec=spec)
        return made

    def pip(self, *options: str, maker: str = "", spec: dict[str, Any] | None = None) -> Command:
        """Return the command that makes the same by venv, or another maker, and pip."""
        maker = maker or f'"{interpreter(PYTHON)}" -m venv'
        target = self.folder / "by-pip"
        pins = self.folder / "pins.txt"

        def before() -> None:
            shutil.rmtree(target, ignore_errors=True)
            packages = self.lock(spec)["packages"]
            pins.write_text("".join(f"{at['name']}=={at['version']}\n" for at in packages))

        install = f'"{target}/bin/python" -m pip install -q {" ".join(options)} -r "{pins}"'
        script = f'{maker} "{target}" && exec {install}'
        return Command(["/bin/sh", "-c", script], self.variables, self.folder, before)

    def lock(self, spec: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the recipe, or another spec, resolved to."""
        path = self.cache / "resolved" / f"{(spec or self.spec)['digest']}.json"
        lock: dict[str, Any] = json.loads(path.read_text())["lock"]
        return lock

    def forget_environment(self) -> None:
        """Throw what was built away; the lock and uv's wheels stay."""
        shutil.rmtree(self.cache / "envs", ignore_errors=True)

    def forget_more(self, lock: bool, wheels: bool = False) -> None:
        """Throw the environment with one package more away, which has tqdm in its lock.

        Args:
            lock: whether its lock goes, too.
            wheels: whether uv's wheels go as well.
        """
        for folder in (self.cache / "envs").iterdir():
            if "tqdm" in (folder / "lock.json").read_text():
                shutil.rmtree(folder)
        if lock:
            (self.cache / "resolved" / f"{self.more(False)['digest']}.json").unlink(True)
        if wheels:
            shutil.rmtree(self.wheels, ignore_errors=True)

    def forget_lock(self) -> None:
        """Throw the lock away as well; uv's wheels and answers stay."""
        self.forget_environment()
        shutil.rmtree(self.cache / "resolved", ignore_errors=True)

    def forget_all(self) -> None:
        """Begin as on a new machine."""
        shutil.rmtree(self.cache, ignore_errors=True)
        shutil.rmtree(self.wheels, ignore_errors=True)


# Finding one that is built.


@contextmanager
def finding(lab: Lab) -> Iterator[Row]:
    """What finding a built environment adds to the supervisor."""
    studio = Studio(lab, "find")
    studio.prepare()()
    source = next((lab.rechain().parent / "lib").glob("python*/site-packages"))
    argv = [str(lab.rechain() / "python"), "-I", "-S", str(INSIDE / "find.py")]
    argv += [str(source), str(studio.cache), studio.spec["digest"]]
    theirs = _uv(lab, studio)

    def once() -> dict[str, float]:
        said = subprocess.run(argv, capture_output=True, check=True).stdout
        return {"ours": float(said), "uv --version": theirs()}

    yield Row("finding a built environment", "ms", {"uv --version": 5}, once)


@contextmanager
def reusing(lab: Lab) -> Iterator[Row]:
    """What a managed run costs beyond a user-managed one with the same interpreter."""
    studio = Studio(lab, "reuse")
    here = studio.folder / "here"
    here.mkdir()
    (here / "train.py").write_text("pass\n")
    environment = lab.environment(
        RECHAIN_HOME=str(studio.folder / "workspace"), **_only_ours(studio.variables)
    )
    run: list[object] = [lab.rechain() / "rechain", "run", "-q", "--no-docker"]
    version = RECIPE.partition("-")[2]
    managed = Command(
        [*run, "--framework-version", version, "--python", PYTHON, "train.py"], environment, here
    )
    studio.prepare()()
    (built,) = (studio.cache / "envs").iterdir()
    python = str(built / "bin" / "python")
    plain = Command([*run, "--user-managed", "--python", python, "train.py"], environment, here)
    theirs = _uv(lab, studio)

    def once() -> dict[str, float]:
        return {"ours": managed() - plain(), "uv --version": theirs()}

    what = "a run in a built environment, beyond a user-managed run with its Python"
    yield Row(what, "ms", {"uv --version": 5}, once)


def _uv(lab: Lab, studio: Studio) -> Command:
    return Command([uv(), "--version"], lab.environment(), studio.folder)


def _only_ours(variables: dict[str, str]) -> dict[str, str]:
    return {name: variables[name] for name in ("RECHAIN_CACHE", "UV_CACHE_DIR")}


# Making one.


@contextmanager
def building(lab: Lab) -> Iterator[Row]:
    """Building from a lock, all wheels cached."""
    studio = Studio(lab, "build")
    studio.prepare()()
    what = f"building {RECIPE} on Python {PYTHON} from its lock"
    yield _against_pip(what, 1 / 100, studio.prepare(studio.forget_environment), studio.pips())


@contextmanager
def resolving(lab: Lab) -> Iterator[Row]:
    """Resolving and building, all wheels cached."""
    studio = Studio(lab, "resolve")
    ours = studio.prepare(studio.forget_lock)
    yield _against_pip("the same, resolving first", 1 / 3, ours, studio.pips())


@contextmanager
def beginning(lab: Lab) -> Iterator[Row]:
    """Everything from nothing: interpreters, resolution, downloads, builds."""
    studio = Studio(lab, "cold")
    ours, theirs = studio.prepare(studio.forget_all), studio.pips("--no-cache-dir")
    yield _against_pip("the same, with nothing cached", 1 / 3, ours, theirs, at_most=3)


@contextmanager
def from_lock_cold(lab: Lab) -> Iterator[Row]:
    """From the lock, with no wheel cached: downloads and builds."""
    studio = Studio(lab, "lock-cold")
    studio.prepare()()

    def forget() -> None:
        studio.forget_environment()
        shutil.rmtree(studio.wheels, ignore_errors=True)

    ours, theirs = studio.prepare(forget), studio.pips("--no-cache-dir")
    yield _against_pip("the same, from its lock, no wheel cached", None, ours, theirs, at_most=3)


@contextmanager
def adding(lab: Lab) -> Iterator[Row]:
    """One package more, resolved, all wheels cached; with and without optimized mode."""
    yield _adding(lab, "more", "one package more, resolving first", wheels=False)


@contextmanager
def adding_cold(lab: Lab) -> Iterator[Row]:
    """One package more where uv's cache was emptied; with and without optimized mode."""
    yield _adding(lab, "more-cold", "one package more, no wheel cached", wheels=True)


def _adding(lab: Lab, name: str, what: str, wheels: bool) -> Row:
    studio = Studio(lab, name)
    studio.prepare()()

    def forget() -> None:
        studio.forget_more(lock=True, wheels=wheels)

    layered = studio.prepare(forget, studio.more(layered=True))
    whole = studio.prepare(forget, studio.more(layered=False))
    # Of a wheel in a folder of links pip 18 does not see which Python it needs: no choice is left.
    rivals = studio.pips(*(["--no-cache-dir"] if wheels else []), spec=studio.more(False))

    def once() -> dict[str, float]:
        return {
            "ours": layered(),
            "as a whole": whole(),
            **{rival: command() for rival, command in rivals.items()},
        }

    budgets: dict[str, float | None] = {"as a whole": None, **dict.fromkeys(rivals)}
    return Row(f"{what}, in optimized mode", "s", budgets, once, 3 if wheels else 5)


def _against_pip(
    what: str, budget: float | None, ours: Command, theirs: dict[str, Command], at_most: int = 5
) -> Row:
    def once() -> dict[str, float]:
        return {"ours": ours(), **{rival: command() for rival, command in theirs.items()}}

    budgets = {rival: budget if rival == _PIP else None for rival in theirs}
    return Row(what, "s", budgets, once, at_most)


# Environments of conda belong here: solved and linked, cold and warm.

ROWS = {
    "find": finding,
    "reuse": reusing,
    "build": building,
    "resolve": resolving,
    "cold": beginning,
    "lock-cold": from_lock_cold,
    "more": adding,
    "more-cold": adding_cold,
}

if __name__ == "__main__":
    main("environment", ROWS)
