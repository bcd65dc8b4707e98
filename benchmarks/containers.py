"""How long containers take: a first image, one more package, a job that does nothing.

Run with the Python that Rechain is developed in: `.venv/bin/python benchmarks/containers.py`.
Needs root, podman with runc, docker.io, mmdebstrap, Python 3.6 and the package index. Both engines
are thrown away afterwards.

Theirs is a Containerfile as one writes it by hand: a base with Python, and `RUN pip install` of
the same packages. Both begin without a layer, with what pip and uv have downloaded before.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from common import Command, Lab, Row, interpreter, main, network

from rechain.testing.engines import DockerEngine, PodmanEngine, ThrowAwayEngine

RECIPE, PYTHON = "chainer-7.0.0", "3.6"
_MORE = "tqdm==4.64.1"
ENGINES = {"podman": PodmanEngine, "docker": DockerEngine}


class Yard:
    """An engine with a base image, and how both sides build on it.

    Args:
        lab: where to measure.
        engine: the engine, running.
    """

    def __init__(self, lab: Lab, engine: ThrowAwayEngine) -> None:
        self.engine = engine
        self.folder = lab.work / engine.name
        (self.folder / "1").mkdir(parents=True, exist_ok=True)
        self.base = engine.python_image(str(interpreter(PYTHON)))
        self._python = lab.rechain() / "python"
        self.variables = network(
            RECHAIN_CACHE=str(self.folder / "cache"), UV_CACHE_DIR=str(lab.work / "uv"),
            **engine.environment,
        )  # fmt: skip

    def clear(self) -> None:
        """Throw all away but the base: images, and the layers that a build would find again."""
        keep = {self.base, self.engine.base_image()}
        listed = self.engine.run("images", "--format", "{{.Repository}}:{{.Tag}}").split()
        for name in listed:
            if name not in keep and "<none>" not in name:
                self.engine.run("rmi", "--force", name)
        self.engine.run("image", "prune", "--force")
        if self.engine.name == "docker":
            self.engine.run("builder", "prune", "--force", check=False)

    def ours(self, *pip: str, before: Callable[[], object] = lambda: None) -> Command:
        """Return the command with which a run has its image prepared."""
        code = (
            "import json, sys; from rechain.environment.spec import venv_spec; "
            "from rechain.environment.image.names import image_spec; "
            f"spec = venv_spec({RECIPE!r}, {PYTHON!r}, {list(pip)!r}); "
            f"image = image_spec({self.base!r}); "
            "print(json.dumps({**spec, 'image': image}))"
        )
        said = subprocess.run([str(self._python), "-c", code], capture_output=True, check=True)
        job = self.folder / f"job-{len(pip)}.json"
        job.write_text(json.dumps({"schema": 1, "environment": json.loads(said.stdout)}))
        argv = [
            self._python,
            "-I",
            "-m",
            "rechain.environment",
            job,
            self.folder / "1" / "result.json",
        ]
        return Command(argv, self.variables, self.folder, before)

    def theirs(self, *pip: str, before: Callable[[], object] = lambda: None) -> Command:
        """Return the command that builds the same by hand."""
        (path, *_) = sorted((self.folder / "cache" / "resolved").glob("*.json"))
        packages = json.loads(path.read_text())["lock"]["packages"]
        pins = [f"{one['name']}=={one['version']}" for one in packages]
        pins = [pin for pin in pins if not pin.startswith(("tqdm=", "zipp=", "importlib"))]
        lines = [f"FROM {self.base}", f"RUN pip install --no-cache-dir {' '.join(pins)}"]
        lines += [f"RUN pip install --no-cache-dir {one}" for one in pip]
        folder = self.folder / f"by-hand-{len(pip)}"
        folder.mkdir(exist_ok=True)
        (folder / "Containerfile").write_text("\n".join(lines) + "\n")
        argv = [self.engine.name, "build", "--network=host", "--tag", f"by-hand:{len(pip)}"]
        argv += ["--file", f"{folder}/Containerfile", str(folder)]
        return Command(["/usr/bin/env", *argv], self.variables, folder, before)


@contextmanager
def first(lab: Lab, yard: Yard) -> Iterator[Row]:
    """A first image of a framework version."""
    yard.ours()()  # resolved and downloaded
    ours, theirs = yard.ours(before=yard.clear), yard.theirs(before=yard.clear)
    rival = f"{yard.engine.name} build, RUN pip install"

    def once() -> dict[str, float]:
        return {"ours": ours(), rival: theirs()}

    yield Row(f"first image of {RECIPE}, {yard.engine.name}", "s", {rival: None}, once, 3)


@contextmanager
def more(lab: Lab, yard: Yard) -> Iterator[Row]:
    """The image again, with one more package."""
    yard.ours()()
    yard.theirs()()
    numbers = itertools.count()

    def forget() -> None:
        next(numbers)
        for name in yard.engine.run("images", "--format", "{{.Repository}}:{{.Tag}}").split():
            if name.endswith("by-hand:1") or name in new:
                yard.engine.run("rmi", "--force", name)

    before = set(yard.engine.run("images", "--format", "{{.Repository}}:{{.Tag}}").split())
    yard.ours(_MORE)()
    after = set(yard.engine.run("images", "--format", "{{.Repository}}:{{.Tag}}").split())
    new = after - before
    ours, theirs = yard.ours(_MORE, before=forget), yard.theirs(_MORE, before=forget)
    rival = f"{yard.engine.name} build, RUN pip install"

    def once() -> dict[str, float]:
        return {"ours": ours(), rival: theirs()}

    yield Row(f"one more package, {yard.engine.name}", "s", {rival: None}, once, 5)


@contextmanager
def nothing(lab: Lab, yard: Yard) -> Iterator[Row]:
    """A run whose script does nothing, in an image that is there."""
    here = yard.folder / "here"
    here.mkdir(exist_ok=True)
    (here / "train.py").write_text("pass\n")
    kept = {key: yard.variables[key] for key in ("RECHAIN_CACHE", "UV_CACHE_DIR")}
    environment = lab.environment(
        RECHAIN_HOME=str(yard.folder / "workspace"), **kept, **yard.engine.environment
    )
    argv = [lab.rechain() / "rechain", "run", "-q", "--user-managed", "--image", yard.base]
    ours = Command([*argv, "train.py"], environment, here)
    plain = [yard.engine.name, "run", "--rm", "--network=host", yard.base, "python", "-c", "pass"]
    rival = f"{yard.engine.name} run"
    theirs = Command(["/usr/bin/env", *plain], yard.variables, here)

    def once() -> dict[str, float]:
        return {"ours": ours(), rival: theirs()}

    yield Row(f"a job that does nothing, {yard.engine.name}", "s", {rival: None}, once, 10)


def _rows() -> Mapping[str, Callable[[Lab], AbstractContextManager[Row]]]:
    def made(
        name: str, row: Callable[[Lab, Yard], AbstractContextManager[Row]]
    ) -> Callable[[Lab], AbstractContextManager[Row]]:
        @contextmanager
        def within(lab: Lab) -> Iterator[Row]:
            with ENGINES[name]() as engine, row(lab, Yard(lab, engine)) as one:
                yield one

        return within

    kinds: dict[str, Any] = {"first": first, "more": more, "nothing": nothing}
    return {f"{kind}-{name}": made(name, row) for name in ENGINES for kind, row in kinds.items()}


if __name__ == "__main__":
    os.umask(0o022)
    main("containers", _rows())
