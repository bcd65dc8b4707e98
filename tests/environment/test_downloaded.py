"""A Python that uv downloads: sealed, and downloaded again if somebody changes it."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rechain import recipes
from rechain.environment import interpreters, seal, store, stored
from rechain.environment.prepare import prepare
from rechain.environment.spec import venv_spec
from tests.conftest import missing

pytestmark = pytest.mark.engines
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def mirror(bare, monkeypatch):
    """A place where uv finds one Python to download: a copy of the one that runs this."""
    base = Path(sys.base_prefix)
    if base == Path("/usr"):
        missing("Python with a folder of its own")

    def kept(member):
        parts = set(member.name.split("/"))
        left = parts & {"test", "tests", "site-packages", "__pycache__", "idlelib", "share"}
        return None if left else member

    archive = bare / "python.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(base, "python", filter=kept)
    major, minor, patch = sys.version_info[:3]
    machine = os.uname().machine
    about = {
        "name": "cpython", "arch": {"family": machine, "variant": None}, "os": "linux",
        "libc": "gnu", "major": major, "minor": minor, "patch": patch, "prerelease": "",
        "url": archive.as_uri(), "variant": None, "build": "20240101",
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    }  # fmt: skip
    offered = bare / "offered.json"
    offered.write_text(json.dumps({f"cpython-{major}.{minor}.{patch}-linux": about}))
    monkeypatch.delenv("UV_PYTHON_INSTALL_MIRROR")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(offered))
    return offered


def test_a_downloaded_python_is_sealed_and_one_that_was_changed_comes_again(mirror, bare):
    own, said = str(bare / "cache"), []
    wish = (HERE, recipes.load("plain"), own, False)
    first, _ = interpreters.choose(*wish, said.append)
    assert said == [f"downloading Python {HERE}: none of {HERE} is on this machine"]
    assert first.found_by == "rechain"
    assert interpreters.choose(*wish, pytest.fail)[0] == first
    lock = {"interpreter": {"path": first.path}}
    (folder,) = store.foundations(own, lock)
    assert os.path.dirname(folder) == f"{own}/pythons"
    assert store.holds(folder)
    subprocess.run([first.path, "-c", "import json.tool, http.server"], check=True)
    assert store.holds(folder)  # of bytecode alone
    module = Path(folder, "lib", f"python{HERE}", "json", "__init__.py")
    good = module.read_bytes()
    module.chmod(0o644)
    module.write_bytes(good + b"# more\n")
    assert seal.changes(folder) == [f"lib/python{HERE}/json/__init__.py: was changed"]
    assert interpreters.found(own) == []
    again, _ = interpreters.choose(*wish, said.append)
    assert (again.path, again.version) == (first.path, first.version)
    assert module.read_bytes() == good
    # A download that was killed before its end is none.
    Path(folder, "seal").chmod(0o644)
    Path(folder, "seal").unlink()
    assert interpreters.found(own) == []
    assert interpreters.choose(*wish, said.append)[0].path == first.path
    assert len(said) == 3


def test_an_environment_on_a_downloaded_python_that_was_changed_is_made_again(mirror, bare):
    own, said = str(bare / "cache"), []
    spec = venv_spec("plain", HERE)
    made = prepare(spec, own, said.append)
    (folder,) = store.foundations(own, made["lock"])
    module = Path(folder, "lib", f"python{HERE}", "json", "__init__.py")
    module.chmod(0o644)
    module.write_bytes(b"changed")
    assert store.find(own, spec["digest"]) is None
    (one,) = stored.all_stored(own)
    assert stored.verify(one) == [
        f"pythons/{os.path.basename(folder)}/lib/python{HERE}/json/__init__.py: was changed"
    ]
    assert prepare(spec, own, said.append)["prefix"] == made["prefix"]
    assert stored.verify(one) == []
    assert sum(line.startswith("downloading") for line in said) == 2
