"""The parameters of a notebook, from the values of a submission to those in its cells."""

from __future__ import annotations

import math

import pytest

from rechain.estimator.arguments import freeze, to_notebook_argv
from rechain.guest.rechain_guest.notebook import parameters, read, write

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    "value",
    ["a", "", "001", "1", "1.5", "True", "None", "nan", "-x", "--x y", "'q'", "[1]", "a b", "/a/b",
     1, -1, 0.5, -1e-5, True, False, None, math.inf, "{'a': 1}", "b'x'", "ü"],
)  # fmt: skip
def test_a_value_keeps_its_type_and_itself(value) -> None:
    argv = to_notebook_argv(freeze({"x": value, "y": [value, 2]}))
    if value == "":
        argv = to_notebook_argv(freeze({"x": value}))
        assert parameters(argv) == {"x": ""}
        return
    found = parameters(argv)
    assert found == {"x": value, "y": [value, 2]}
    assert type(found["x"]) is type(value)


def test_nan() -> None:
    assert math.isnan(read(write(math.nan)))


def test_names() -> None:
    argv = to_notebook_argv(freeze({"--learning-rate": 0.1, "n": 3, "--flag": "", "list": []}))
    assert argv == ["--learning-rate", "0.1", "--n", "3", "--flag", "--list", "[]"]
    assert parameters(argv) == {"learning_rate": 0.1, "n": 3, "flag": True, "list": []}


def test_from_a_command_line() -> None:
    line = [
        "--lr=0.1",
        "--name=",
        "-e",
        "3",
        "--shift",
        "-2",
        "--text",
        "1_or_2",
        "--many",
        "1",
        "a",
    ]
    assert parameters(line) == {
        "lr": 0.1, "name": "", "e": 3, "shift": -2, "text": "1_or_2", "many": [1, "a"],
    }  # fmt: skip
    assert to_notebook_argv(freeze({"": line})) == line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["3"], "'3' has no name"),
        (["train"], "'train' has no name: a notebook takes parameters, such as --lr 0.1"),
        (["--a.b", "1"], "'--a.b' is no name"),
        (["-"], "'-' is no name"),
    ],
)
def test_what_is_no_parameter(line, says) -> None:
    with pytest.raises(ValueError, match=says):
        parameters(line)
