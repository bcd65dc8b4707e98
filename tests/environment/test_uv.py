import os

import pytest

from rechain.environment import pipconf, uv

pytestmark = pytest.mark.fast


def test_only_index_settings_reach_uv():
    given = {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy",
        "UV_INDEX": "a",
        "UV_INDEX_A_PASSWORD": "b",
        "UV_PYTHON": "2.7",
        "UV_CONSTRAINT": "c.txt",
        "UV_RESOLUTION": "lowest",
        "PYTHONPATH": "/x",
        "PYTHONHOME": "/x",
        "VIRTUAL_ENV": "/x",
        "CONDA_PREFIX": "/x",
        "PIP_NO_BINARY": ":all:",
    }
    passed = uv.variables({**given, "PIP_CONFIG_FILE": os.devnull})
    assert {n: v for n, v in passed.items() if n in given} == {
        "PATH": "/bin",
        "HTTPS_PROXY": "http://proxy",
        "UV_INDEX": "a",
        "UV_INDEX_A_PASSWORD": "b",
    }


def test_pips_settings_are_translated(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    links = tmp_path / "links"
    links.mkdir()
    own = tmp_path / "pip.conf"
    own.write_text(
        "[global]\nindex-url = http://file/simple\nfind-links =\n"
        f"    {links}\n    {tmp_path}/missing\n"
        "extra-index-url = file:///x/simple https://more/simple\n"
        "[install]\ntrusted-host = file\n"
    )
    given = {
        "PIP_CONFIG_FILE": str(own),
        "PIP_INDEX_URL": "http://env/simple",
        "PIP_CERT": "/missing.pem",
    }
    assert pipconf.for_uv(given) == {
        "UV_DEFAULT_INDEX": "http://env/simple",
        "UV_INDEX": "https://more/simple",
        "UV_FIND_LINKS": str(links),
        "UV_INSECURE_HOST": "file",
    }


def test_pips_indexes_do_not_count_once_uv_has_been_told():
    given = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://pip/simple",
        "PIP_CERT": __file__,
        "UV_DEFAULT_INDEX": "http://uv/simple",
    }
    assert pipconf.for_uv(given) == {"SSL_CERT_FILE": __file__}


def test_a_container_is_given_pips_files_and_what_they_name(home, tmp_path):
    links, cert = tmp_path / "links", tmp_path / "ca.pem"
    links.mkdir()
    cert.touch()
    old, new = (tmp_path / "home" / at for at in (".pip/pip.conf", ".config/pip/pip.conf"))
    for path in (old, new):
        path.parent.mkdir(parents=True)
    old.write_text(f"[global]\ncert = /not/there\nlog = {cert}\nconstraint = {cert}\n")
    new.write_text(f"[global]\nindex-url = file://{links}/\nfind-links = {links} here\n")
    given = pipconf.in_container({})
    assert given[:2] == [str(new), str(old)]
    assert given[-2:] == [str(cert), str(links)]
    assert len(given) == len(set(given))


# What uv 0.13.9 says; the frames of older versions follow.
UNSATISFIABLE = """\
error: No solution found when resolving dependencies
  cause: Because the current Python version (3.6.15) does not satisfy Python>=3.9 and \
scikit-learn==1.6.0 depends on Python>=3.9, we can conclude that scikit-learn==1.6.0 cannot be \
used.
         And because you require scikit-learn>=1.6, we can conclude that your requirements are \
unsatisfiable.
"""
LIMITED = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because you require numpy>=1.26 and numpy<1.24, we can conclude that
      your requirements are unsatisfiable.
"""
PINNED = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because chainer==6.0.0 depends on protobuf>=3.20 and you require
      protobuf==3.19.6, we can conclude that your requirements are unsatisfiable.
"""
UNREACHABLE = """\
error: Request failed after 3 retries in 8.6s
  cause: Failed to fetch: http://127.0.0.1:9/simple/six/
  cause: error sending request for url (http://127.0.0.1:9/simple/six/)
  cause: Connection refused (os error 111)
"""
FORBIDDEN = """\
error: Failed to fetch: http://127.0.0.1:9/simple/six/
  cause: HTTP status client error (403 Forbidden) for url (http://127.0.0.1:9/simple/six/)
"""
UNBUILT = """\
error: Failed to build `a==1`
  cause: Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)

         [stderr]
         Traceback (most recent call last):
         ModuleNotFoundError: No module named 'numpy'
"""
FULL = """\
error: Failed to install: six-1.17.0-py2.py3-none-any.whl (six==1.17.0)
  cause: failed to copy file: No space left on device (os error 28)
"""


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            UNSATISFIABLE,
            "you require scikit-learn>=1.6, but the current Python version (3.6.15) does not "
            "satisfy Python>=3.9 and scikit-learn==1.6.0 depends on Python>=3.9",
        ),
        (LIMITED, "you require numpy>=1.26 and numpy<1.24"),
        (UNREACHABLE, "the package index could not be reached"),
        (FORBIDDEN, "the package index answered with HTTP 403"),
        (
            UNBUILT,
            "a==1 has no wheel for this Python and could not be built: "
            "ModuleNotFoundError: No module named 'numpy'",
        ),
        (FULL, "the disk is full"),
        ("", "uv gave no reason"),
    ],
)
def test_an_error_becomes_one_line(said, message):
    failure = uv.explain(said, "trying")
    assert failure.message == f"trying failed: {message}"
    assert failure.detail == said.strip()


def test_the_recipes_part_in_a_conflict_is_said():
    failure = uv.explain(LIMITED, "trying", ["numpy<1.24", "six==1"])
    assert failure.hint.startswith("numpy<1.24 is the recipe's")
    assert failure.message == "trying failed: you require numpy>=1.26, and the recipe numpy<1.24"


def test_what_the_recipe_requires_is_not_put_on_the_user():
    failure = uv.explain(PINNED, "trying", ["protobuf==3.19.6"])
    assert failure.message == (
        "trying failed: chainer==6.0.0 depends on protobuf>=3.20 and the recipe requires "
        "protobuf==3.19.6"
    )


@pytest.mark.parametrize(
    ("package", "says"),
    [("numpy==1.15.4", "Choose Python 3.7, which"), ("a==1", "Choose an older Python (--python")],
)
def test_what_cannot_be_built_names_a_python_that_has_a_wheel(package, says):
    assert uv.explain(UNBUILT.replace("a==1", package), "trying").hint.startswith(says)
