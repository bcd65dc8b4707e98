"""`script_params` become the arguments that v1 made of them."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rechain.estimator.arguments import freeze, to_argv
from rechain.exceptions import UserErrorException
from rechain.job.variables import Secret

pytestmark = pytest.mark.fast


def argv(params: dict[Any, Any]) -> list[str]:
    return to_argv(freeze(params))


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, ["1"]),
        (0, ["0"]),
        (1.5, ["1.5"]),
        ("a b", ["a b"]),
        (" ", [" "]),
        ("", []),
        (None, []),
        (True, ["True"]),
        (False, ["False"]),
        ([1, "a", None, ""], ["1", "a"]),
        ((1, 2), ["1", "2"]),
        (range(2), ["0", "1"]),
        ([], []),
        (["x y", [1, 2]], ["x y", "[1, 2]"]),
        ({"c", "a", "b"}, ["a", "b", "c"]),
        (iter([1, 2]), ["1", "2"]),
        (Path("a/b"), ["a/b"]),
        (Colour.RED, ["Colour.RED"]),
        ("-1", ["-1"]),
        ("$HOME *", ["$HOME *"]),
    ],
)
def test_values(value: object, expected: list[str]) -> None:
    assert argv({"--p": value}) == ["--p", *expected]


def test_keys_and_order() -> None:
    assert argv({"--b": 1, "--a": "", "": "x", None: "y", 3: "z"}) == [
        "--b", "1", "--a", "x", "y", "3", "z",
    ]  # fmt: skip


def test_an_estimator_can_be_compiled_often() -> None:
    frozen = freeze({"--p": iter("ab")})
    assert to_argv(frozen) == to_argv(frozen) == ["--p", "a", "b"]


class Array:
    """As NumPy's arrays: iterable by type, but not without dimensions."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def __iter__(self) -> Any:
        if not self.values:
            raise TypeError("iteration over a 0-d array")
        return iter(self.values)

    def __index__(self) -> int:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")

    def __str__(self) -> str:
        return "0.1"


def test_arrays() -> None:
    assert argv({"--p": Array(1, 2)}) == ["--p", "1", "2"]
    assert argv({"--p": Array()}) == ["--p", "0.1"]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"--p": b"x"}, "decode"),
        ({"--p": [b"x"]}, "decode"),
        ({"--p": {"k": 1}}, "json.dumps"),
        ({"--p": [{"k": 1}]}, "json.dumps"),
        ({"--p": Secret("hunter2")}, "environment_variables"),
        ({"--p": [Secret("hunter2")]}, "environment_variables"),
        ({"--p": object()}, "no text form"),
        ({"--p": "a\0b"}, "NUL"),
        ({b"--p": 1}, "key b'--p'"),
        ({("--p",): 1}, "keys are"),
    ],
)
def test_refused(params: dict[Any, Any], words: str) -> None:
    with pytest.raises(UserErrorException, match=words) as caught:
        argv(params)
    assert "--p" in str(caught.value)
    assert "hunter2" not in str(caught.value)


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)


@given(st.dictionaries(text, st.one_of(scalar, st.lists(scalar)), max_size=5))
def test_v1s_rule(params: dict[str, Any]) -> None:
    expected: list[object] = []
    for key, value in params.items():
        expected.append(key)
        expected.extend(value if isinstance(value, list) else [value])
    assert argv(params) == [str(item) for item in expected if item is not None and item != ""]
