"""What is told of a script before it runs."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from rechain.environment import store
from rechain.estimator import Chainer, compile
from rechain.job.job import Job

pytestmark = pytest.mark.fast

SCRIPT = """\
import os, json
import chainer, yaml, helper, imp
from chainermn import create_communicator
from pkg.inner import thing
from azureml.core.run import Run
try:
    import cupy
except ImportError:
    cupy = None
print(undefined_here)
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "code"
    (folder / "pkg").mkdir(parents=True)
    (folder / "train.py").write_text(SCRIPT)
    (folder / "helper.py").write_text("import pandas\ndef f():\n    print(x)\n    x = 1\nx = 2\n")
    (folder / "pkg" / "__init__.py").write_text("from . import other\n")
    (folder / "pkg" / "inner.py").write_text("if True:\nthing = 1\n")
    (folder / "pkg" / "other.py").write_text("from ..nothing import a\nnope\n")
    (folder / "unused.py").write_text("nobody_asks\n")
    return folder


def compiled(code: Path, **given: Any) -> Job:
    python = given.pop("python", None)
    estimator = Chainer(
        code,
        **{
            "entry_script": "train.py", "compute_target": "local", "use_docker": False,
            "framework_version": "7.0.0", "_disable_validation": False, **given,
        },
    )  # fmt: skip
    return compile(estimator, experiment="e", python=python)


def notes(code: Path, **given: Any) -> list[str]:
    return compiled(code, **given).notes


def test_everything_the_script_reaches_is_looked_at(code: Path) -> None:
    found = notes(code, pip_packages=["pandas>1"])
    wrong = [note.partition(": ")[0] for note in found]
    assert "train.py:10: Undefined name `undefined_here`" in found
    assert "helper.py:3" in wrong
    assert "pkg/inner.py:2" in wrong
    assert "pkg/other.py:2: Undefined name `nope`" in found
    (package,) = [note for note in found if "pip_packages" in note]
    assert package.startswith("train.py:2: imports yaml, ")
    assert package.endswith("add pyyaml to pip_packages")
    assert not [note for note in found if "unused.py" in note]


def test_modules_are_those_beside_the_script(code: Path) -> None:
    found = notes(code.parent, entry_script="code/train.py", pip_packages=["pyyaml"])
    assert "code/pkg/other.py:2: Undefined name `nope`" in found
    (package,) = [note for note in found if "pip_packages" in note]
    assert package.startswith("code/helper.py:1: imports pandas, ")


def test_nothing_is_looked_at_unless_asked_for(code: Path) -> None:
    assert notes(code, _disable_validation=True) == []


def test_the_linter_knows_which_python_it_is_for(code: Path) -> None:
    (code / "train.py").write_text("match 1:\n    case 1:\n        pass\n")
    assert [note.partition(": ")[0] for note in notes(code, python="3.6")] == ["train.py:1"]
    assert notes(code, python="3.11") == []


def test_warnings_are_logged_as_asked_for(code: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    notes(code)
    assert "pandas" not in caplog.text
    caplog.clear()
    notes(code, _show_package_warnings=True)
    assert [m.partition(",")[0] for m in caplog.messages if "imports" in m] == [
        "train.py:2: imports yaml", "helper.py:1: imports pandas",
    ]  # fmt: skip
    caplog.clear()
    notes(code, _show_lint_warnings=True)
    assert "pkg/other.py:2: Undefined name `nope`" in caplog.messages
    assert not [message for message in caplog.messages if "pip_packages" in message]


def test_a_python_of_the_users_has_what_it_has(code: Path) -> None:
    found = notes(code, user_managed=True, framework_version=None)
    assert not [note for note in found if "pip_packages" in note]
    assert "train.py:10: Undefined name `undefined_here`" in found


def test_what_an_environment_has_that_was_built_before(code: Path, tmp_path: Path) -> None:
    """Its packages are those in the lock; the lock is made by hand here."""
    spec = compiled(code).environment
    cache = str(tmp_path / "cache")
    prefix = Path(store.environments(cache), "e")
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(sys.executable)
    (prefix / "seal").write_text(store.contents(str(prefix)))
    base = os.stat(sys.executable)
    packages = [{"name": name} for name in ("chainer", "PyYAML", "pandas")]
    known = {
        "schema": 1,
        "environment": "e",
        "base": [base.st_mtime_ns, base.st_size],
        "lock": {"packages": packages, "interpreter": {"path": sys.executable}},
    }
    path = Path(store.resolved(cache, spec["digest"]))
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(known))
    assert store.find(cache, spec["digest"]) is not None
    assert not [note for note in notes(code) if "pip_packages" in note]


def test_a_notebook(code: Path) -> None:
    cells = ["%matplotlib inline\nimport yaml", "print(nope)"]
    document = {
        "cells": [
            {"cell_type": "code", "source": text, "metadata": {}, "outputs": [],
             "execution_count": None}
            for text in cells
        ],
        "metadata": {}, "nbformat": 4, "nbformat_minor": 2,
    }  # fmt: skip
    (code / "n.ipynb").write_text(json.dumps(document))
    found = notes(code, entry_script="n.ipynb")
    assert "n.ipynb cell 2:1: Undefined name `nope`" in found
    assert [note for note in found if note.startswith("n.ipynb:2: imports yaml")]


def test_without_ruff_that_is_said_and_nothing_stopped(code: Path, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "ruff" else real(name, *a)
    )
    found = notes(code)
    assert "the script is not checked, because ruff is not there: install rechain[lint]" in found
