"""Other tools' files, and what of them a lock can hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rechain.estimator import importing
from rechain.exceptions import UserErrorException

pytestmark = pytest.mark.fast


@pytest.fixture
def read(tmp_path):
    """A function: write files, the first of which is read."""

    def make(**files: str) -> importing.Imported:
        paths = []
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_txt", ".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            paths.append(path)
        return importing.read(str(paths[0]))

    return make


@pytest.mark.parametrize("name", ["pyproject.toml", "Pipfile", "poetry.lock", "setup.py"])
def test_a_file_of_another_kind_is_refused_by_its_name(tmp_path, name) -> None:
    (tmp_path / name).write_text("[build-system]\n")
    with pytest.raises(UserErrorException, match=r"known are requirement files.*Pipfile\.lock"):
        importing.read(f"{tmp_path}/{name}")


def test_a_requirement_file_with_all_it_can_have(read) -> None:
    found = read(
        req_txt=(
            "# a comment\n"
            "--extra-index-url https://user:secret@example.org/simple\n"
            "-r sub/more.txt\n"
            "-c limits.txt\n"
            "chainer==5.1.0  # the framework\n"
            "six==1.12.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
            'enum34; python_version < "3.4"\n'
            "-e git+https://example.org/tool.git@v1#egg=tool\n"
        ),
        sub__more_txt="numpy\n-rdeeper.txt\n",
        sub__deeper_txt="pillow\n",
        limits_txt="numpy<1.16\n",
    )
    assert found.pip == [
        "numpy",
        "pillow",
        "chainer==5.1.0",
        "six==1.12.0",
        'enum34; python_version < "3.4"',
        "tool @ git+https://example.org/tool.git@v1",
    ]
    assert found.constraints == ["numpy<1.16"]
    assert found.hashes == {"six": {"sha256:aa", "sha256:bb"}}
    (note,) = found.notes
    assert note.startswith("--extra-index-url (")
    assert "secret" not in note
    assert importing.recipe_for(found)[0] == "chainer-5.1.0"
    assert "chainer==5.1.0" not in importing.recipe_for(found)[1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", '[project]\nname = "x"\ndependencies = ["six>=1", "numpy"]\n'),
        ("setup.cfg", "[options]\ninstall_requires =\n    six>=1\n    numpy\n"),
        ("setup.py", "from setuptools import setup\nn = ['six>=1', 'numpy']\n"
                     "setup(name='x', install_requires=n)\n"),
    ],
)  # fmt: skip
def test_the_project_itself_is_what_it_needs(read, tmp_path, name, text) -> None:
    (tmp_path / name).write_text(text)
    found = read(req_txt="-e .\n")
    assert [one for one in found.pip if one] == ["six>=1", "numpy"]
    assert "only what it needs" in found.notes[0]


def test_a_project_that_does_not_say_what_it_needs_is_said(read, tmp_path) -> None:
    (tmp_path / "setup.py").write_text("from setuptools import setup\nsetup(**read())\n"
                                       "setup(install_requires=open('x').read())\n")  # fmt: skip
    found = read(req_txt="-e .\n")
    assert found.pip == []
    assert "what it needs is not known" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--frobnicate", "line 1: --frobnicate is no option that is known here"),
        ("-r missing.txt", "missing.txt, which does not exist"),
        ("-r req.txt", "which includes itself"),
        ("./wheels/a.whl", "is a file of this machine, which cannot be reproduced"),
        ("git+https://example.org/a.git", "has no name; write NAME @ git+https"),
    ],
)
def test_what_cannot_be_taken_over_is_said_with_its_line(read, text, words) -> None:
    with pytest.raises(UserErrorException) as raised:
        read(req_txt=f"{text}\n")
    assert words in raised.value.message


def test_a_conda_environment_of_pip_packages(read) -> None:
    text = "name: x\ndependencies:\n- python=3.6\n- pip\n- pip:\n  - chainer==7.0.0\n  - six\n"
    found = read(**{"environment.yml": text})
    assert (found.conda, found.pip) == (["python=3.6", "pip"], ["chainer==7.0.0", "six"])
    more = f"{text}- scipy=1.2\nchannels: [mine]\nvariables: {{A: b}}\n"
    found = read(**{"environment.yml": more})
    assert (found.conda[-1], found.channels) == ("scipy=1.2", ["mine"])
    assert ["A" in note for note in found.notes] == [True]


def test_a_pipfile_lock(read) -> None:
    document = {
        "_meta": {"requires": {"python_version": "3.6"}},
        "default": {
            "six": {"version": "==1.12.0", "hashes": ["sha256:aa"], "index": "pypi"},
            "Pillow": {"version": "==6.0.0", "markers": "python_version < '3.8'"},
            "tool": {"git": "https://example.org/tool.git", "ref": "abc"},
        },
        "develop": {"pytest": {"version": "==5.0.0"}},
    }
    found = read(**{"Pipfile.lock": json.dumps(document)})
    assert found.python == "3.6"
    assert found.pip == [
        "six==1.12.0",
        "Pillow==6.0.0 ; python_version < '3.8'",
        "tool @ git+https://example.org/tool.git@abc",
    ]
    packages = [{"name": "six", "version": "1.12.0", "hash": ["sha256:bb"]}]
    with pytest.raises(UserErrorException, match=r"six 1\.12\.0 of the index is not the file"):
        importing.check_hashes(found, packages, "Pipfile.lock")
    packages[0]["hash"].append("sha256:aa")
    importing.check_hashes(found, packages, "Pipfile.lock")
    for text in ("{", "[]", "{}"):
        with pytest.raises(UserErrorException, match=r"is no Pipfile\.lock"):
            read(**{"Pipfile.lock": text})


def test_a_run_configuration(read) -> None:
    text = (
        "environment:\n  python:\n    userManagedDependencies: {}\n    condaDependencies:\n"
        "      dependencies:\n      - python=3.6\n      - pip:\n        - chainer==5.1.0\n"
    )
    found = read(**{"old.runconfig": text.format("false")})
    assert (found.conda, found.pip) == (["python=3.6"], ["chainer==5.1.0"])
    with pytest.raises(UserErrorException, match="nothing is installed, so nothing can be locked"):
        read(**{"old.runconfig": text.format("true")})


def test_a_chainer_without_a_recipe_needs_a_date(read, tmp_path) -> None:
    found = read(req_txt="chainer==4.4.0\n")
    assert importing.recipe_for(found, "2018-09-07") == ("plain", ["chainer==4.4.0"], [])
    assert importing.recipe_for(found)[0] == "chainer-4.4.0"
    with pytest.raises(UserErrorException, match="there is no file"):
        importing.read(str(Path(tmp_path, "none.txt")))
