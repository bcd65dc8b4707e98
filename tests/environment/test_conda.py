"""Packages of conda, from a channel of real ones: solved, locked, built, activated; or why not."""

import base64
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rechain.environment import locks, store, stored, wheelhouse
from rechain.environment.conda.asked import conda_setting
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.prepare import prepare, resolved
from rechain.environment.spec import mpi_setting, venv_spec
from tests import conda_channel
from tests.conftest import missing, uv_cache
from tests.environment.conftest import _command_lines

pytestmark = pytest.mark.engines


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A cache of the test's own, on a machine without any settings of conda."""
    for name in list(os.environ):
        if name.startswith(("CONDA_", "RATTLER_")) or name in ("CONDARC", "NETRC"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir(exist_ok=True)
    return str(tmp_path / "own")


def spec_of(channel, *packages, recipe="plain", pip=(), **given):
    setting, python, notes = conda_setting(packages, [str(channel)], os.environ)
    assert notes == []
    return venv_spec(recipe, given.pop("python", python), pip, conda=setting, **given)


def contents(prefix):
    """Return the digest of each file."""
    return {
        str(path.relative_to(prefix)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(prefix).rglob("*")
        if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"
        if path.name != "seal"  # of modification times
    }


def says(program, *arguments, **variables):
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin", **variables},
    ).stdout.strip()  # fmt: skip


def test_an_environment_of_conda_with_pip_on_top(channel, index, own):
    made = prepare(
        spec_of(channel, "python=3.6", "numpy=1.14", "greeting", "tool=1", pip=["tiny"]), own
    )
    prefix, lock = made["prefix"], made["lock"]
    code = "import ctypes, sqlite3, ssl, sys, numpy as n, tiny as t\n"
    code += "print(sys.prefix, n.__version__, t.version)"
    assert says(made["python"], "-c", code) == f"{prefix} 1.14.6 1.0"
    # A noarch package has come to this Python's folder, with its command; prefixes are replaced.
    assert says(f"{prefix}/bin/greet") == "hello from a command"
    assert says(f"{prefix}/bin/tool") == f"{prefix}/share"
    data = Path(prefix, "share/tool.bin").read_bytes()
    assert data.startswith(f"\0{prefix}/share\0".encode())
    assert data.endswith(b"\0end\0")
    assert len(data) == len(conda_channel.PLACEHOLDER) + 12
    left = [p for p in contents(prefix) if b"_placehold_placehold" in Path(prefix, p).read_bytes()]
    assert [p for p in left if not p.startswith("conda-meta/")] == []
    assert lock["kind"] == "conda"
    assert {one["name"] for one in lock["packages"]} == {"tiny", "helper"}
    packages = {one["name"]: one for one in lock["conda"]["packages"]}
    assert sorted(packages) == ["greeting", "numpy", "python", "tool"]
    forms = {name: one["url"].rpartition(".")[2] for name, one in packages.items()}
    assert forms == {"greeting": "conda", "numpy": "conda", "python": "bz2", "tool": "bz2"}
    for one in packages.values():
        file = channel / one["subdir"] / os.path.basename(one["url"])
        assert one["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    # What its activation scripts set is known; so is where the job finds it.
    activation = made["activation"]
    assert (activation["PATH"], activation["CONDA_PREFIX"]) == (f"{prefix}/bin", prefix)
    assert activation["TOOL_HOME"] == f"{prefix}/share"
    assert activation["TOOL_SEEN"] == "it's 1"
    (one,) = stored.all_stored(own)
    assert stored.verify(one) == []
    Path(prefix, "share/tool.txt").write_text("changed")
    Path(prefix, "lib/python3.6/site-packages/greeting.py").write_text("changed")
    os.unlink(f"{prefix}/bin/greet")
    assert stored.verify(one) == [
        "bin/greet: is missing",
        "lib/python3.6/site-packages/greeting.py: was changed",
        "share/tool.txt: was changed",
    ]


def test_its_lock_makes_the_same_to_the_byte_offline_and_without_the_channel(
    channel, index, own, tmp_path
):
    """In a network namespace of its own, from the exported folder, to the same path."""
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        missing("right to make a network namespace (unshare -n)")
    copy = tmp_path / "copy"
    shutil.copytree(channel, copy)
    made = prepare(spec_of(copy, "python=3.6", "greeting", "tool=1", pip=["tiny"]), own)
    folder = str(tmp_path / "wheels")
    wheelhouse.export(made, folder, own)
    before = contents(made["prefix"])
    shutil.rmtree(own)
    shutil.rmtree(copy)
    code = (
        "import os\n"
        "from rechain.environment import locks\n"
        "from rechain.environment.prepare import prepare\n"
        f"spec = locks.lock_spec(locks.read({folder!r}), os.environ)\n"
        f"print(prepare(spec, {own!r})['prefix'], flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-c", code],
        capture_output=True, text=True, check=False,
        env={**os.environ, "UV_CACHE_DIR": str(tmp_path / "empty")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == made["prefix"]
    assert contents(made["prefix"]) == before
    for name, version in (("tool", "1.0"), ("greeting", "2.1")):  # one of each format
        archive = next(Path(folder, "conda").rglob(f"{name}-*"))
        whole = archive.read_bytes()
        archive.write_bytes(whole + b" ")
        changed = rf"{name}-{version}.* is not the file that was recorded"
        with pytest.raises(EnvironmentFailure, match=changed):
            prepare(locks.lock_spec(locks.read(folder), os.environ), str(tmp_path / "other"))
        archive.unlink()
        with pytest.raises(EnvironmentFailure, match=f"has no archive of {name} {version}"):
            prepare(locks.lock_spec(locks.read(folder), os.environ), str(tmp_path / "other"))
        archive.write_bytes(whole)


def test_the_recipes_order_decides_among_the_channels_pythons(channel, own):
    first, _ = resolved(
        spec_of(channel, "tool=1"), own
    )  # without a framework newer ones are first
    named, _ = resolved(spec_of(channel, "tool=1", python="3.6"), own)
    needed, _ = resolved(spec_of(channel, "numpy=1.14"), own)
    found = [lock["interpreter"]["version"] for lock in (first, named, needed)]
    assert [version.rpartition(".")[0] for version in found] == ["3.9", "3.6", "3.6"]


PLAIN = "python=3.6"
FAILURES = {
    "not there": (["nothing-here"], r"there is no package nothing-here$"),
    "no such version": (["tool=7"], r"there is no package tool 7\.\*$"),
    "needs another": (["tool=2"], "tool 2.0 would require libtool-not-there >=3"),
    "needs a GPU": (["needs-gpu"], "needs-gpu 1.0 would require __cuda >=9"),
    "no such Python": (
        ["python=3.7.9", "tool"],
        "has no Python that will do: python=3.7.9 is asked",
    ),
    "do not fit": ([PLAIN, "numpy=1.22"], r"numpy 1.22.4 would require python >=3.9,<3.10"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_be_solved_is_said_in_the_users_words(name, channel, own):
    packages, words = FAILURES[name]
    with pytest.raises(EnvironmentFailure, match=words) as raised:
        prepare(spec_of(channel, *packages), own)
    assert "\n" not in raised.value.message
    assert raised.value.hint
    assert os.listdir(store.environments(own)) == []
    if name == "needs a GPU":
        assert "CONDA_OVERRIDE_CUDA" in raised.value.hint


def test_what_the_machine_has_can_be_said(channel, own, monkeypatch):
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "11.2")
    lock, _ = resolved(spec_of(channel, PLAIN, "needs-gpu"), own)
    assert "needs-gpu" in {one["name"] for one in lock["conda"]["packages"]}


def test_a_channel_that_is_not_there_or_cannot_be_reached(channel, own, tmp_path):
    with pytest.raises(EnvironmentFailure, match=f"there is no channel at file://{tmp_path}/no"):
        prepare(spec_of(tmp_path / "no", "tool"), own)
    with pytest.raises(
        EnvironmentFailure, match=r"channel http://127\.0\.0\.1:9/x cannot be reached"
    ) as failure:
        prepare(spec_of("http://127.0.0.1:9/x", "tool"), own)
    assert "name it with --pip" in failure.value.hint


def test_conda_and_pip_that_ask_for_different_versions(channel, index, own):
    with pytest.raises(EnvironmentFailure, match=r"numpy is asked of pip \(>=1.15\), and conda"):
        prepare(spec_of(channel, PLAIN, "numpy", pip=["numpy>=1.15"]), own)


def test_an_mpi4py_of_condas_own_mpi_is_refused(channel, own, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(channel, copy)
    for build in ("h0", "external_1"):  # conda-forge's name for the one of the machine
        made = conda_channel.Recipe(tmp_path / "making", "mpich", "4.0.3", build)
        made.write("share/mpich.txt", build)
        made.pack(copy)
    made = conda_channel.Recipe(
        tmp_path / "making", "mpi4py", "3.1.4", depends=["mpich", "python >=3.6"]
    )
    info = "lib/python3.6/site-packages/mpi4py-3.1.4.dist-info"
    made.write(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mpi4py\nVersion: 3.1.4\n")
    made.pack(copy)
    conda_channel.index(copy)
    if shutil.which("mpiexec.openmpi") is None:
        missing("mpiexec.openmpi")
    mpi = mpi_setting("mpiexec.openmpi", os.environ)
    with pytest.raises(EnvironmentFailure, match=r"conda's mpich 4\.0\.3, which does not start"):
        resolved(spec_of(copy, PLAIN, "mpi4py", "mpich=4.0.3=h0", mpi=mpi), own)
    resolved(spec_of(copy, PLAIN, "mpi4py", "mpich=4.0.3=external_1", mpi=mpi), own)
    # What speaks no MPI has nothing to fear.
    resolved(spec_of(copy, PLAIN, "mpi4py", "mpich=4.0.3=h0"), own)


@pytest.mark.parametrize(
    ("package", "section"),
    [("tool-1.0-h1_0", "packages"), ("greeting-2.1-pyh0_0", "packages.conda")],
)
def test_an_archive_that_is_another_or_broken(package, section, channel, own, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(channel, copy)
    wish = spec_of(copy, PLAIN, "{}={}".format(*package.split("-")[:2]))
    archive = next(copy.rglob(f"{package}.*"))
    with tarfile.open(archive, "w:bz2"):
        pass  # another file than the channel's index says
    with pytest.raises(EnvironmentFailure, match=rf"{package} is not the file .* hash differs"):
        prepare(wish, own)
    archive.write_bytes(b"BZh9 broken" * 50)
    index = archive.with_name("repodata.json")
    document = json.loads(index.read_text())
    entry = document[section][archive.name]
    entry.update(sha256=hashlib.sha256(archive.read_bytes()).hexdigest(), size=550)
    del entry["md5"]
    index.write_text(json.dumps(document))
    index.with_name("repodata.json.zst").unlink()
    with pytest.raises(EnvironmentFailure, match=f"{package} cannot be installed"):
        prepare(wish, own)
    archive.unlink()
    with pytest.raises(EnvironmentFailure, match=f"{package} is not on its channel any more"):
        prepare(wish, own)
    assert os.listdir(store.environments(own)) == []


def test_of_both_formats_of_a_package_the_newer_is_taken(channel, own, tmp_path):
    """As channels of the world have them; what is installed is the same."""
    copy = tmp_path / "copy"
    shutil.copytree(channel, copy)
    for recipe in conda_channel.small_packages(tmp_path / "making"):
        recipe.form = conda_channel.CONDA
        recipe.pack(copy)
    conda_channel.index(copy)
    made = {}
    for place, form in ((channel, ".tar.bz2"), (copy, ".conda")):
        found = prepare(spec_of(place, PLAIN, "tool=1"), own)
        packages = {one["name"]: one for one in found["lock"]["conda"]["packages"]}
        assert packages["tool"]["url"] == f"{place.as_uri()}/linux-64/tool-1.0-h1_0{form}"
        (one,) = [at for at in stored.all_stored(own) if at.prefix == found["prefix"]]
        assert stored.verify(one) == []
        made[form] = {
            path: Path(found["prefix"], path).read_bytes().replace(found["prefix"].encode(), b"@")
            for path in ("bin/tool", "share/tool.txt", "etc/conda/activate.d/tool.sh")
        }
    assert made[".tar.bz2"] == made[".conda"]


@pytest.fixture
def guarded(channel):
    """The channel on a loopback port, for those who know the password; and what was seen there."""
    seen = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            seen.extend(line for line in _command_lines() if "s3cr3t" in line)
            wanted = "Basic " + base64.b64encode(b"ann:s3cr3t").decode()
            if self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="channel"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            super().do_GET()

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(channel))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


def test_a_channel_with_a_password_that_is_nowhere_written_down(guarded, own, tmp_path):
    url, seen = guarded
    with pytest.raises(EnvironmentFailure, match=rf"channel {url} wants a login \(HTTP 401\)"):
        prepare(spec_of(url, PLAIN, "tool=1"), own)
    settings = tmp_path / "home" / ".condarc"
    settings.write_text(f"channel_alias: {url.replace('//', '//ann:s3cr3t@')}\n")
    asked, _, _ = conda_setting([PLAIN, "tool=1"], [url], os.environ)
    made = prepare(venv_spec("plain", conda=asked), own)
    folder = str(tmp_path / "wheels")
    wheelhouse.export(made, folder, own)
    assert {one["url"].rsplit("/", 2)[0] for one in made["lock"]["conda"]["packages"]} == {url}
    for root in (own, folder):
        for path in Path(root).rglob("*"):
            if path.is_file():
                assert b"s3cr3t" not in path.read_bytes(), path
    assert seen == []


def test_a_python_that_the_machine_lacks_comes_from_the_channel_of_condas_settings(
    channel, own, tmp_path, monkeypatch
):
    for name in list(os.environ):
        if name.startswith(("PYENV_", "ASDF_", "MISE_", "RYE_")):
            monkeypatch.delenv(name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bash").symlink_to(shutil.which("bash"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", "http://127.0.0.1:9")
    spec = venv_spec("plain", "3.6")
    with pytest.raises(EnvironmentFailure, match=r"no Python for .* was found") as raised:
        prepare(spec, own)
    assert "~/.condarc" in raised.value.hint
    (tmp_path / "home" / ".condarc").write_text(f"channels:\n- {channel}\n")
    made = prepare(spec, own)
    assert made["lock"]["interpreter"]["from"] == "conda"
    assert says(made["python"], "-c", "import sys; print(sys.version_info[:2])") == "(3, 6)"
    assert store.find(own, spec["digest"]) == made


def test_unpacked_packages_that_no_environment_has_are_collected(channel, own):
    plain = prepare(spec_of(channel, PLAIN, "numpy=1.14"), own)
    more = prepare(spec_of(channel, PLAIN, "tool=1"), own)

    def unpacked():
        return {path.name for path in Path(own, "conda", "pkgs").iterdir()}

    def named(lock):
        return {one["sha256"] for one in lock["conda"]["packages"]}

    assert unpacked() == named(plain["lock"]) | named(more["lock"])
    (gone,) = [one for one in stored.all_stored(own) if one.prefix == more["prefix"]]
    would = stored.collect_unpacked(own, 0, [gone], dry=True)
    assert stored.collect_unpacked(own, 0, []) == 0
    stored.remove(own, gone)
    assert stored.collect_unpacked(own, 86400, []) == 0  # a build may be about to link them
    assert stored.collect_unpacked(own, 0, []) == would > 0
    assert unpacked() == named(plain["lock"])
    assert stored.verify(stored.all_stored(own)[0]) == []
    assert prepare(spec_of(channel, PLAIN, "tool=1"), own)["prefix"] == more["prefix"]


def test_as_of_holds_for_packages_of_conda(channel, own, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(channel, copy)
    for subdir in ("linux-64", "noarch"):
        path = copy / subdir / "repodata.json"
        document = json.loads(path.read_text())
        for name, entry in (document["packages"] | document["packages.conda"]).items():
            del entry["indexed_timestamp"]
            if name.startswith("tool-1.0"):
                entry["timestamp"] = 1_700_000_000_000  # 2023
        path.write_text(json.dumps(document))
        path.with_name("repodata.json.zst").unlink()
    with pytest.raises(EnvironmentFailure, match=r"tool 1\.\*"):
        resolved(spec_of(copy, PLAIN, "tool=1", as_of="2020-12-31"), own)
    lock, _ = resolved(spec_of(copy, PLAIN, "tool=1", as_of="2023-12-31"), own)
    assert "tool" in {one["name"] for one in lock["conda"]["packages"]}


@pytest.mark.parametrize(
    "version",
    ["5.1.0", pytest.param("7.0.0", marks=pytest.mark.matrix)],
)
def test_chainer_trains_on_condas_python_with_condas_numpy(
    version, channel, cache, tmp_path, monkeypatch
):
    monkeypatch.setenv("UV_CACHE_DIR", uv_cache())
    spec = spec_of(channel, PLAIN, "numpy=1.14", recipe=f"chainer-{version}")
    made = prepare(spec, cache)
    train = Path(__file__).with_name("train_tiny.py")
    said = json.loads(says(made["python"], str(train), str(tmp_path / "out")).splitlines()[-1])
    assert (said["chainer"], said["numpy"], said["prefix"]) == (version, "1.14.6", made["prefix"])
    assert said["losses"][-1] < said["losses"][0]


def test_settings_that_cannot_be_read_are_said(channel, own, tmp_path):
    spec = spec_of(channel, PLAIN, "tool=1")
    settings = tmp_path / "home" / ".condarc"
    settings.write_text("channels: [")
    with pytest.raises(EnvironmentFailure, match=rf"conda's settings {settings} cannot be read"):
        prepare(spec, own)
