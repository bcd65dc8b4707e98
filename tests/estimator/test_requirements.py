"""Requirement files are read as pip reads them, or refused by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rechain import recipes
from rechain.environment.spec import venv_spec
from rechain.estimator import importing
from rechain.estimator.requirements import read
from rechain.exceptions import UserErrorException

pytestmark = pytest.mark.fast


def requirements(folder: Path, text: str) -> list[str]:
    (folder / "requirements.txt").write_bytes(text.encode())
    return read(f"{folder}/requirements.txt", "pip_requirements_file")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("numpy\nscipy==1.5\n", ["numpy", "scipy==1.5"]),
        ("# all\n\n  \nnumpy # why\n  # indented\nscipy\t# why\n", ["numpy", "scipy"]),
        ("a @ https://host/a.zip#egg=a # why\n", ["a @ https://host/a.zip#egg=a"]),
        ("numpy \\\n  >=1,\\\n  <2\nscipy", ["numpy   >=1,  <2", "scipy"]),
        ("# a comment \\\nnumpy", ["numpy"]),
        ("numpy\r\nscipy\r\n", ["numpy", "scipy"]),
        ("\ufeffnumpy", ["numpy"]),
        ("numpy\\", ["numpy"]),
        ("a; python_version < '3.8'", ["a; python_version < '3.8'"]),
    ],
)
def test_lines(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert requirements(tmp_path, text) == expected


@pytest.mark.parametrize("line", ["-r {}", "-r{}", "--requirement {}", "--requirement={}"])
def test_includes_are_relative_to_the_file(tmp_path: Path, line: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.txt").write_text("six\n-r more.txt\n")
    (tmp_path / "sub" / "more.txt").write_text("tqdm\n")
    text = f"numpy\n{line.format('sub/base.txt')}\nscipy\n"
    assert requirements(tmp_path, text) == ["numpy", "six", "tqdm", "scipy"]


def test_an_include_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        UserErrorException, match=r"requirements\.txt, line 2, includes .*gone\.txt"
    ):
        requirements(tmp_path, "numpy\n-r gone.txt\n")


def test_a_circle(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("-r requirements.txt\n")
    with pytest.raises(UserErrorException, match="includes itself"):
        requirements(tmp_path, "-r b.txt\n")


def test_twice_is_no_circle(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("six\n")
    assert requirements(tmp_path, "-r b.txt\n-r b.txt\n") == ["six", "six"]


@pytest.mark.parametrize(
    ("line", "cure"),
    [
        ("--index-url https://host/simple", "UV_INDEX"),
        ("-i https://host/simple", "UV_INDEX"),
        ("--extra-index-url=https://host/simple", "UV_INDEX"),
        ("-e .", "source_directory"),
        ("-c constraints.txt", "versions"),
        ("--pre", "pip.conf"),
    ],
)
def test_options_are_refused(tmp_path: Path, line: str, cure: str) -> None:
    with pytest.raises(UserErrorException) as caught:
        requirements(tmp_path, f"numpy\n\n{line}\n")
    assert "requirements.txt, line 3: " in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://me:hunter2@example.org/simple",
        "--extra-index-url\thttps://me:hunter2@example.org/simple",
        "--find-links=https://hunter2@example.org/simple",
        "-ihttps://me:hunter2@example.org/simple",
        "-i=https://me:hunter2@example.org/simple",
        "-r https://me:hunter2@example.org/more.txt",
        "https://me:hunter2@example.org/six.whl",
        "git+https://hunter2@example.org/six.git",
        "six @ https://me:hunter2@example.org/six.whl",
        "chainer = https://me:hunter2@example.org/six.whl",
    ],
)
@pytest.mark.parametrize("of_pip", [True, False])
def test_an_address_is_shown_without_its_password(tmp_path: Path, line: str, of_pip: bool) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text(f"{line}\n")
    said = ""
    try:
        if of_pip:
            asked = importing.read(str(path))
            said = str(asked.notes)
            importing.recipe_for(asked)
            pip = asked.pip
        else:
            pip = read(str(path), "pip_requirements_file")
        assert not venv_spec(recipes.PLAIN, "3.11", pip)["pip"]
    except UserErrorException as error:
        said += str(error)
    assert "hunter2" not in said
    assert said
    with pytest.raises(UserErrorException) as caught:
        venv_spec(recipes.PLAIN, "3.11", [line])
    assert "hunter2" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserErrorException, match=r"pip_requirements_file names .*Is a directory"):
        read(str(tmp_path), "pip_requirements_file")
    (tmp_path / "latin").write_bytes(b"# caf\xe9\n")
    with pytest.raises(UserErrorException, match="not UTF-8"):
        read(f"{tmp_path}/latin", "pip_requirements_file")
