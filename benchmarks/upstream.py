"""Chainer's own tests, for the CPU, on an old Python and on new ones: how many of them pass.

`.venv/bin/python benchmarks/upstream.py CHECKOUT --version 7.0.0`, with a checkout of Chainer's
repository at the version's tag. It writes the version's part of docs/upstream.md: what pytest
counts in each folder, and what fails on a newer Python but not on the oldest.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from rechain.environment import store
from rechain.environment.prepare import prepare
from rechain.environment.spec import venv_spec

GUEST = Path(__file__).parents[1] / "src" / "rechain" / "guest"
MARKS = "not gpu and not cudnn and not slow and not ideep and not chainerx and not multi_gpu"
# What Chainer's tests were written with, and what the newer Pythons can still run them with.
TOOLS = {"3.6": ["pytest<4.2", "attrs<19.2"]}
NEWER = ["pytest<8"]
FOLDERS = [
    "dataset_tests", "datasets_tests",
    "functions_tests/activation_tests", "functions_tests/array_tests",
    "functions_tests/connection_tests", "functions_tests/loss_tests",
    "functions_tests/math_tests", "functions_tests/normalization_tests",
    "functions_tests/pooling_tests", "functions_tests/rnn_tests",
    "iterators_tests", "links_tests/connection_tests", "links_tests/normalization_tests",
    "links_tests/rnn_tests", "optimizers_tests", "serializers_tests", "training_tests",
    "utils_tests", "test_link.py", "test_optimizer.py", "test_reporter.py", "test_variable.py",
]  # fmt: skip
PAGE = Path(__file__).parents[1] / "docs" / "upstream.md"


class Count(NamedTuple):
    """What became of a folder's tests."""

    passed: int
    skipped: int
    failed: frozenset[str]


def count(checkout: Path, version: str, minor: str, folder: str) -> Count:
    """Run a folder's tests.

    Raises:
        SystemExit: pytest could not run them.
    """
    tools = [*TOOLS.get(minor, NEWER), "mock", "scipy", "h5py"]
    made = prepare(venv_spec(f"chainer-{version}", minor, tools), store.cache_root())
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "MPLBACKEND": "Agg"}
    if compat := made["lock"].get("compat"):
        environment["PYTHONPATH"] = f"{GUEST}/hooks:{GUEST}"
        environment["RECHAIN_COMPAT"] = " ".join(compat)
    options = ["-q", "-rfE", "--tb=no", "-m", MARKS, "-p", "no:cacheprovider"]
    options += ["-o", "addopts=", "-o", "filterwarnings=ignore"]
    said = subprocess.run(
        [made["python"], "-m", "pytest", *options, f"chainer_tests/{folder}"],
        cwd=checkout / "tests", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if said.returncode not in (0, 1):
        sys.exit(f"{folder} on Python {minor}: {said.stdout[-500:]}{said.stderr[-500:]}")
    summary = said.stdout.strip().splitlines()[-1]
    words = {word: int(number) for number, word in re.findall(r"(\d+) (passed|skipped)", summary)}
    # The names of Chainer's parameterized tests have spaces in them.
    failed = re.findall(r"^(?:FAIL|FAILED|ERROR) (.+?)(?: - .*)?$", said.stdout, re.MULTILINE)
    return Count(words.get("passed", 0), words.get("skipped", 0), frozenset(failed))


def section(version: str, pythons: list[str], found: dict[str, list[Count]]) -> str:
    """Return a version's part of the page."""
    lines = ["| passed / failed |" + "".join(f" Python {minor} |" for minor in pythons)]
    lines.append("| --- |" + " --- |" * len(pythons))
    for folder, counts in found.items():
        row = [f"{one.passed} / {len(one.failed)}" for one in counts]
        lines.append(f"| {folder.replace('_tests', '')} | " + " | ".join(row) + " |")
    columns = list(zip(*found.values(), strict=True))
    sums = [(sum(o.passed for o in c), sum(len(o.failed) for o in c)) for c in columns]
    lines.append("| **all** | " + " | ".join(f"{p} / {f}" for p, f in sums) + " |")
    old = frozenset().union(*(one.failed for one in columns[0]))
    lines += ["", f"Python {pythons[0]} passes {sums[0][0]}. Of these fail"]
    for minor, column in zip(pythons[1:], columns[1:], strict=True):
        new = frozenset().union(*(one.failed for one in column)) - old
        share = 100 * (1 - len(new) / sums[0][0])
        lines += ["", f"- on Python {minor}: {len(new)} ({share:.2f} % hold)"]
        lines[-1] += ":" if new else ""
        kinds = Counter(re.sub(r"_param_.*?(?=::|$)", "", name) for name in new)
        for name, number in sorted(kinds.items()):
            lines.append(f"  - {number} x `{name.removeprefix('chainer_tests/')}`")
    return f"## Chainer {version}\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Count, and write the page's part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--python", action="append", help="the oldest first")
    given = parser.parse_args()
    pythons = given.python or ["3.6", "3.11", "3.12", "3.13"]
    found: dict[str, list[Count]] = {}
    for folder in FOLDERS:
        if (given.checkout / "tests" / "chainer_tests" / folder).exists():
            found[folder] = [count(given.checkout, given.version, p, folder) for p in pythons]
            print(folder, *(f"{c.passed}/{len(c.failed)}" for c in found[folder]), flush=True)
    parts = re.split(r"^(?=## )", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    title = f"## Chainer {given.version}\n"
    parts = [part for part in parts if not part.startswith(title)]
    parts.append(section(given.version, pythons, found))
    texts = [parts[0], *sorted(parts[1:])]
    PAGE.write_text("\n\n".join(text.strip() for text in texts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
