"""A notebook as entry script, executed by papermill in an environment that Rechain makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rechain import Chainer, Experiment, Run, Workspace
from tests.conftest import interpreter

pytestmark = pytest.mark.engines

TRAIN = """
import sys
from azureml.core.run import Run
import chainer, helper
run = Run.get_context()
run.log("loss", lr)
run.log("epochs", epochs)
print("chainer", chainer.__version__, name, repr(tag), verbose, sizes)
print("to stderr", file=sys.stderr)
"""
PARAMETERS = """
lr, epochs, name, tag, verbose, sizes = 1.0, 1, "none", None, False, []
fail = False
"""
FAIL = """
x = 1
if fail:
    raise ValueError("no digits")
"""


def write(path: Path, *cells: str, parameters: str = PARAMETERS) -> None:
    def cell(text: str, *tags: str) -> dict[str, object]:
        return {
            "cell_type": "code", "metadata": {"tags": tags}, "execution_count": None,
            "outputs": [], "source": text.strip(),
        }  # fmt: skip

    kernel = {"name": "some-kernel-of-another-machine", "display_name": "x", "language": "python"}
    document = {
        "cells": [cell(parameters, "parameters"), *map(cell, cells)],
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 2,
    }
    path.write_text(json.dumps(document))


def submit(source: Path, minor: str, params: dict[str, object]) -> Run:
    estimator = Chainer(
        str(source),
        entry_script="nb/train.ipynb",
        script_params=params,
        compute_target="local",
        framework_version="7.0.0",
        use_docker=False,
    )
    from rechain.workspace.submit import prepare

    experiment = Experiment(Workspace.local(), "notebooks")
    run = prepare(experiment, estimator, python=interpreter(minor)).start()
    run.wait_for_completion(raise_on_error=False)
    return run


@pytest.mark.parametrize("minor", ["3.6", "3.11"])
def test_a_notebook_is_executed_and_kept(source: Path, environments: Path, minor: str) -> None:
    (source / "nb").mkdir()
    (source / "nb" / "helper.py").touch()
    write(source / "nb" / "train.ipynb", TRAIN, FAIL)
    given: dict[str, object] = {
        "lr": 0.25, "--epochs": 3, "name": "001", "tag": "", "--verbose": "", "sizes": [1, 2.5],
    }  # fmt: skip
    run = submit(source, minor, given)
    out, err = (Path(run.folder, f"attempts/1/0.{end}").read_text() for end in ("out", "err"))
    assert run.get_status() == "Completed", err
    assert "chainer 7.0.0 001 '' True [1, 2.5]\n" in out
    assert "to stderr\n" in err
    assert run.get_metrics() == {"loss": 0.25, "epochs": 3}
    assert "outputs/train.ipynb" in run.get_file_names()
    executed = json.loads(Path(run.folder, "outputs/train.ipynb").read_text())
    assert "chainer 7.0.0" in json.dumps(executed["cells"])
    failed = submit(source, minor, {**given, "fail": True})
    assert failed.cause == "user error (exit 1, ValueError at nb/train.ipynb cell 4:3)"
    assert failed._state().end["detail"] == "ValueError: no digits"
    assert "no digits" in Path(failed.folder, "outputs/train.ipynb").read_text()


@pytest.mark.fast
def test_a_python_of_the_users_needs_papermill(source: Path) -> None:
    write(source / "x.ipynb", "")
    estimator = Chainer(
        str(source), entry_script="x.ipynb", compute_target="local",
        user_managed=True, use_docker=False,
    )  # fmt: skip
    run = Experiment(Workspace.local(), "notebooks").submit(estimator)
    run.wait_for_completion(raise_on_error=False)
    said = Path(run.folder, "attempts/1/0.err").read_text()
    assert run.get_status() == "Failed"
    assert said.startswith("rechain: x.ipynb runs through papermill, and ")
    assert "install papermill and ipykernel there" in said
