"""Chainer's own tests, for the CPU, on an old Python and on new ones: how many of them pass.

`.venv/bin/python benchmarks/upstream.py CHECKOUT [FOLDER ...]`, with a checkout of Chainer's
repository at the version's tag and folders or files below `tests/chainer_tests`. Prints a table
of what pytest counts, and what fails on a newer Python but not on the oldest.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from pathlib import Path

from rechain.environment import store
from rechain.environment.prepare import prepare
from rechain.environment.spec import venv_spec

GUEST = Path(__file__).parents[1] / "src" / "rechain" / "guest"
MARKS = "not gpu and not cudnn and not slow and not ideep and not chainerx and not multi_gpu"
# What Chainer's tests were written with, and what the newer Pythons can still run them with.
TOOLS = {"3.6": ["pytest<4.2", "attrs<19.2"]}
NEWER = ["pytest<8"]
FOLDERS = [
    "dataset_tests", "datasets_tests", "functions_tests/activation_tests", "iterators_tests",
    "links_tests/connection_tests", "optimizers_tests", "serializers_tests", "training_tests",
]  # fmt: skip


def count(checkout: Path, version: str, minor: str, folder: str) -> tuple[str, set[str]]:
    """Return pytest's own summary, and the names of the tests that failed."""
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
    summary = said.stdout.strip().splitlines()[-1:] or [said.stderr.strip()[-200:]]
    failed = re.findall(r"^(?:FAIL|FAILED|ERROR) (\S+)", said.stdout, re.MULTILINE)
    return re.sub(r"=+ ?| ?=+|,? *\d+ warnings?| in .*", "", summary[0]), set(failed)


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("folders", nargs="*", default=FOLDERS)
    parser.add_argument("--version", default="7.8.1")
    parser.add_argument("--python", action="append", help="the oldest first")
    given = parser.parse_args()
    pythons = given.python or ["3.6", "3.12", "3.13"]
    print("| folder |" + "".join(f" Python {minor} |" for minor in pythons))
    print("| --- |" + " --- |" * len(pythons))
    news: list[str] = []
    for folder in given.folders:
        found = [count(given.checkout, given.version, minor, folder) for minor in pythons]
        print(f"| {folder} | " + " | ".join(said for said, _ in found) + " |", flush=True)
        for minor, (_, failed) in zip(pythons[1:], found[1:], strict=True):
            news += [f"Python {minor}: {name}" for name in sorted(failed - found[0][1])]
    print("", *(news or ["No test fails on a newer Python only."]), sep="\n")


if __name__ == "__main__":
    main()
