"""What the benchmarks share: clean places to measure in, interleaved rounds, the results page.

Nothing here is compared with a number measured elsewhere or earlier. Every row has a floor or a
peer that is measured in turn with it (A B C A B C ...), and only ratios of one round are kept.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
INSIDE = HERE / "inside"  # what runs in the tools' own environments
RESULTS = HERE / "RESULTS.md"
PYTHON = "3.11"  # Rechain's, the job's and the peers', where nothing else is said

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_STRIPPED = re.compile(r"PYTHON.*|VIRTUAL_ENV.*|PYENV_VERSION|_?CONDA_.*|RECHAIN_.*")


class BrokenError(Exception):
    """Something that was to be measured did not work; the message says what it said."""


@dataclass(frozen=True)
class Peer:
    """What somebody else's tool is installed from.

    Attributes:
        requirements: for pip; the first names the tool and its version.
        python: the Python it is measured with.
    """

    requirements: tuple[str, ...]
    python: str = PYTHON


PEERS = {
    "azureml": Peer(("azureml-train-core==1.62.0", "setuptools<81"), "3.9"),
    "chainermn": Peer(("chainer==7.8.1", "numpy<1.24", "mpi4py==4.1.2", "setuptools<70")),
    "dvc": Peer(("dvc==3.67.1",)),
    "guild": Peer(("guildai==0.9.0", "setuptools<81")),
    "hydra": Peer(("hydra-core==1.3.8",)),
    "metaflow": Peer(("metaflow==2.19.39",)),
    "mlflow": Peer(("mlflow==3.17.2",)),
    "mlflow-skinny": Peer(("mlflow-skinny==3.17.2",)),
    "sacred": Peer(("sacred==0.8.7", "setuptools<81")),
    "sagemaker": Peer(("sagemaker-training==5.1.4",)),
    "submitit": Peer(("submitit==1.5.4",)),
    "torchx": Peer(("torchx==0.7.0",)),
    "virtualenv": Peer(("virtualenv==20.21.1",)),  # the last that makes Python 3.6
}


# Places.


def uv() -> str:
    """Return uv's executable, which comes with Rechain's requirements."""
    from uv import find_uv_bin

    return str(find_uv_bin())


@functools.cache
def interpreters() -> dict[str, Path]:
    """Return the newest interpreter of each Python minor version there is."""
    import findpython

    found: dict[str, Path] = {}
    for version in sorted(findpython.find_all(allow_prereleases=False), reverse=True):
        code = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
        asked = subprocess.run(
            [str(version.executable), "-I", "-S", "-c", code],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
        if asked.returncode == 0:
            minor, path = asked.stdout.split(maxsplit=1)
            # Through links, so that no shim of a version manager stands in the way.
            found.setdefault(minor, Path(path.strip()).resolve())
    return found


def interpreter(minor: str) -> Path:
    """Return the interpreter of a Python minor version."""
    if minor not in interpreters():
        raise BrokenError(f"there is no Python {minor} on this machine")
    return interpreters()[minor]


def network(**extra: str) -> dict[str, str]:
    """Return the environment for what is not measured or needs the package index."""
    kept = {name: text for name, text in os.environ.items() if not _STRIPPED.fullmatch(name)}
    return {**kept, **extra}


class Lab:
    """One run of the benchmarks: its folders and environments.

    Args:
        peers: where the peers' environments are kept from one run to the next.
    """

    def __init__(self, peers: Path) -> None:
        self.peers = peers.resolve()
        self.work = Path(tempfile.mkdtemp(prefix="rechain-benchmarks-"))
        self.missing: dict[str, str] = {}
        self.used: dict[str, str] = {}
        (self.work / "home").mkdir()

    def close(self) -> None:
        """Throw away all but the peers."""
        shutil.rmtree(self.work, ignore_errors=True)

    def environment(self, **extra: str) -> dict[str, str]:
        """Return the environment to measure in: `python` is the job's, and little else is set."""
        path = f"{self.python().parent}:{_SYSTEM_PATH}"
        home = str(self.work / "home")
        return {"PATH": path, "HOME": home, "LANG": "C.UTF-8", "USER": "somebody", **extra}

    @functools.cache  # noqa: B019 - a lab lives as long as the program
    def python(self, minor: str = PYTHON) -> Path:
        """Return the `python` of a clean environment, with nothing installed in it: the job's."""
        return _venv(self.work / f"job-{minor}", minor)

    @functools.cache  # noqa: B019
    def rechain(self, extra: str = "") -> Path:
        """Return the `bin` folder of a fresh environment with this repository's Rechain."""
        python = _venv(self.work / f"rechain{extra}", PYTHON)
        wheels = self.work / "wheels"
        _say("building and installing Rechain")
        _run([uv(), "build", "-q", "--wheel", "--out-dir", str(wheels), str(REPOSITORY)])
        suffix = f"[{extra}]" if extra else ""
        _install(python, [f"{path}{suffix}" for path in wheels.glob("*.whl")])
        return python.parent

    @functools.cache  # noqa: B019
    def peer(self, name: str) -> Path | None:
        """Return the `bin` folder of a peer's environment; None if it cannot be installed."""
        peer = PEERS[name]
        folder = self.peers / name
        stamp = folder / "requirements.txt"
        text = "\n".join((peer.python, *peer.requirements))
        if not (stamp.exists() and stamp.read_text() == text):
            _say(f"installing {peer.requirements[0]}")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _install(_venv(folder, peer.python), peer.requirements)
            except BrokenError as error:
                self.give_up(name, str(error))
                return None
            stamp.write_text(text)
        self.used[name] = " ".join(peer.requirements[0].split("=="))
        return folder / "bin"

    def give_up(self, name: str, why: str) -> None:
        """Note that a peer cannot be measured."""
        lines = [line.strip() for line in why.splitlines() if line.strip()]
        telling = [line for line in lines if "rror" in line] or lines or ["it gave no reason"]
        # The page tells of tools, not of where they lie on this machine.
        self.missing[name] = re.sub(r"(/[\w.@+-]+){2,}", "...", telling[-1])[:160]
        _say(f"without {name}:\n{why}")


def _venv(folder: Path, minor: str) -> Path:
    # Not `uv venv`: its environments run a patch of theirs at every start.
    _run([str(interpreter(minor)), "-m", "venv", "--without-pip", str(folder)])
    return folder / "bin" / "python"


def _install(python: Path, requirements: Sequence[str]) -> None:
    # What was published before 2020 is built with what setuptools had then.
    _run([uv(), "pip", "install", "-q", "--compile-bytecode", "--python", str(python),
          "--build-constraints", str(INSIDE / "build-constraints.txt"),
          *requirements])  # fmt: skip


def _run(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, env=network(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BrokenError(done.stderr or f"{argv[0]} ended with {done.returncode}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Measuring.


@dataclass(frozen=True)
class Command:
    """A command whose time is measured from its start to its end.

    Attributes:
        argv: the command line, beginning with a path.
        environment: all its variables.
        folder: its current folder.
        before: called before each time, unmeasured.
    """

    argv: Sequence[object]
    environment: Mapping[str, str]
    folder: Path
    before: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        """Run it; return the seconds it took.

        Raises:
            BrokenError: it failed.
        """
        self.before()
        with tempfile.TemporaryFile() as said:
            begun = time.perf_counter()
            done = subprocess.run(
                list(map(str, self.argv)), env=dict(self.environment), cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, check=False,
            )  # fmt: skip
            seconds = time.perf_counter() - begun
            if done.returncode:
                said.seek(0)
                text = said.read().decode(errors="replace")
                raise BrokenError(text or f"{self.argv[0]} ended with {done.returncode}")
        return seconds


class Worker:
    """A warm process that times functions of a program in `inside/` when told to.

    Args:
        python: the interpreter of a tool's environment.
        environment: its variables.
        folder: its current folder.
        program: the program.
    """

    def __init__(
        self, python: Path, environment: Mapping[str, str], folder: Path, program: str = "warm.py"
    ) -> None:
        self._process = subprocess.Popen(
            [str(python), str(INSIDE / program)], env=dict(environment), cwd=folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def time(self, function: str) -> float:
        """Return the seconds that one call of a function took.

        Raises:
            BrokenError: it failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer = ""
        try:
            self._process.stdin.write(f"{function}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            return float(answer)
        except (BrokenPipeError, ValueError):
            raise BrokenError(answer or f"{function}: the process died") from None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


@dataclass
class Row:
    """One thing that is measured.

    Attributes:
        what: what it is.
        unit: of the measured values: a key of `_UNITS`.
        budgets: how much of each rival's value ours may be; None: there is no budget.
        once: measures all once, one after the other: `{"ours": ..., rival: ...}`.
        at_most: rounds, however many are asked for.
    """

    what: str
    unit: str
    budgets: dict[str, float | None]
    once: Callable[[], dict[str, float]]
    at_most: int = 1000


@dataclass(frozen=True)
class Outcome:
    """What came of a row, against one rival."""

    what: str
    rival: str
    unit: str
    ours: float
    theirs: float
    ratios: list[float] = field(compare=False)
    budget: float | None

    @property
    def met(self) -> bool | None:
        """Whether the median is within the budget; None without one."""
        return None if self.budget is None else statistics.median(self.ratios) <= self.budget


_UNITS = {"s": (1.0, "s"), "ms": (1e3, "ms"), "µs": (1e6, "µs"), "MiB": (2.0**-20, "MiB")}


def measure(row: Row, rounds: int) -> list[Outcome]:
    """Measure a row in interleaved rounds; the first round only warms up."""
    samples = []
    for number in range(min(rounds, row.at_most) + 1):
        sample = row.once()
        if number:
            samples.append(sample)
        _say(f"  {row.what}: round {number} of {min(rounds, row.at_most)}")
    outcomes = []
    for rival, budget in row.budgets.items():
        ratios = [sample["ours"] / sample[rival] for sample in samples]
        ours = statistics.median(sample["ours"] for sample in samples)
        theirs = statistics.median(sample[rival] for sample in samples)
        outcomes.append(Outcome(row.what, rival, row.unit, ours, theirs, ratios, budget))
    return outcomes


# Saying it.


def _value(value: float, unit: str) -> str:
    factor, name = _UNITS[unit]
    number = value * factor
    return f"{number:.0f} {name}" if number >= 1000 else f"{number:.3g} {name}"


def _ratio(ratio: float) -> str:
    if ratio <= 0:
        return "below 0"  # a difference of two times, lost in their noise
    return f"{ratio:.2f}" if ratio >= 0.95 else f"1/{_short(1 / ratio)}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


def _line(outcome: Outcome) -> str:
    middle = _ratio(statistics.median(outcome.ratios))
    spread = f"{_ratio(min(outcome.ratios))} to {_ratio(max(outcome.ratios))}"
    budget = f"≤ {_ratio(outcome.budget)}" if outcome.budget else ""
    verdict = {True: "met", False: "**MISSED**", None: ""}[outcome.met]
    cells = [
        outcome.what, _value(outcome.ours, outcome.unit), outcome.rival,
        _value(outcome.theirs, outcome.unit), f"{middle} ({spread})", str(len(outcome.ratios)),
        budget, verdict,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _report(lab: Lab, outcomes: Sequence[Outcome], load: float) -> str:
    used = "; ".join(sorted(lab.used.values())) or "none"
    missing = "; ".join(f"{name} ({why})" for name, why in sorted(lab.missing.items()))
    lines = [
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}, {_processor()}, "
        f"{os.cpu_count()} cores, Linux {_kernel()}, load before {load:.1f}. "
        f"Python {_versions()}. Peers: {used}.",
        *(["", f"Not measured: {missing}."] if missing else []),
        "",
        "| what | ours | against | theirs | ratio: median (min to max) | rounds | budget | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_line, outcomes),
    ]
    return "\n".join(lines)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _kernel() -> str:
    found = re.match(r"[\d.]+", platform.release())
    return found[0] if found else platform.release()


def _versions() -> str:
    """Return the full versions of the Pythons that took part."""
    took_part = {PYTHON, "3.6", *(peer.python for peer in PEERS.values())}
    code = "import sys; print(sys.version.split()[0])"
    found = [
        subprocess.check_output([str(path), "-c", code], text=True).strip()
        for minor, path in interpreters().items()
        if minor in took_part
    ]
    return ", ".join(sorted(found, key=lambda text: [int(n) for n in text.split(".")]))


def _write(section: str, report: str) -> None:
    """Replace a script's own section of the results page."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    body = f"{begin}\n\n## benchmarks/{section}.py\n\n{report}\n\n{end}"
    try:
        page = RESULTS.read_text()
    except FileNotFoundError:
        page = "# Results\n\nWritten by the benchmarks; README.md beside it says how to read it.\n"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    known = pattern.search(page)
    RESULTS.write_text(pattern.sub(lambda _: body, page) if known else f"{page}\n{body}\n")


# The program.

Rows = Mapping[str, Callable[[Lab], AbstractContextManager[Row]]]


def main(section: str, rows: Rows) -> None:
    """Measure rows, print the table, and keep it if it is whole.

    Args:
        section: the script's name.
        rows: makes the rows, by the name that `--only` takes.
    """
    parser = argparse.ArgumentParser(prog=f"benchmarks/{section}.py")
    peers, names = "where the peers' environments are kept", ", ".join(rows)
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="default 20")
    parser.add_argument("--peers", type=Path, default=_default_peers(), metavar="DIR", help=peers)
    parser.add_argument(
        "--only", action="append", choices=list(rows), metavar="NAME",
        help=f"one of {names}; repeatable; leaves RESULTS.md as it is",
    )  # fmt: skip
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with _lab(options.peers) as lab:
        outcomes: list[Outcome] = []
        for name in options.only or rows:
            outcomes += _measured(lab, name, rows[name], options.rounds)
        report = _report(lab, outcomes, load)
    print(report)
    if not options.only:
        _write(section, report)


def _measured(
    lab: Lab, name: str, make: Callable[[Lab], AbstractContextManager[Row]], rounds: int
) -> list[Outcome]:
    try:
        with make(lab) as row:
            return measure(row, rounds)
    except BrokenError as error:
        lab.give_up(name, str(error))
        return []


def _default_peers() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rechain-benchmarks"


@contextmanager
def _lab(peers: Path) -> Iterator[Lab]:
    lab = Lab(peers)
    try:
        yield lab
    finally:
        lab.close()
