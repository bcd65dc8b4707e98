"""Images in real engines: built, fetched, from a registry that asks for a password."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from rechain import Environment, Estimator, Experiment, ScriptRunConfig, Workspace
from rechain.environment import engines, store, stored
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.image import names
from rechain.environment.image.ensure import LABEL, ensure
from rechain.environment.prepare import prepare
from rechain.environment.spec import mpi_setting, venv_spec
from rechain.exceptions import UserErrorException
from rechain.record import jsonl
from rechain.record.journal import fold_attempt
from rechain.runconfig import (
    CondaDependencies,
    ContainerRegistry,
    DockerBuildContext,
    DockerConfiguration,
)
from rechain.testing import processes_of, wait_for
from rechain.testing.engines import PodmanEngine
from rechain.workspace.archive import export_runs
from tests.conftest import interpreter, missing, uv_cache
from tests.registries import PASSWORD, USER, private_registry

pytestmark = pytest.mark.engines


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own; what was downloaded once serves all."""
    monkeypatch.setenv("UV_CACHE_DIR", uv_cache())
    monkeypatch.setenv("RECHAIN_CACHE", str(tmp_path / "cache"))
    return str(tmp_path / "cache")


def wanted(engine, recipe="plain", python="3.8", pip=(), mpi=None, **image):
    """Return the environment of a job that runs in an image built on the tests' base image."""
    interpreter(python)
    spec = venv_spec(recipe, python, pip, mpi=mpi)
    made = names.image_spec(image.pop("asked", None) or engine.base_image(), **image)
    return {**spec, "image": made}


def built(spec, cache, say=lambda line: None, log=os.devnull):
    found = prepare(spec, cache)
    return ensure(spec, found, cache, engines.find()[0], say, log=str(log))


def layers(engine, made):
    (facts,) = json.loads(engine.run("image", "inspect", made["id"]))
    return facts["RootFS"]["Layers"]


def run_in(engine, made, *command, user="1234:1234"):
    variables = []
    for name, value in (made["mpi"] or {"variables": {}})["variables"].items():
        if name == "LD_LIBRARY_PATH":  # as the container's first process does
            variables.append(f"--env={name}={value}:{made['variables'][name]}")
            continue
        variables.append(f"--env={name}={value}")
    options = ["run", "--rm", "--network=host", f"--user={user}", *variables]
    return engine.run(*options, made["id"], *command).strip()


@pytest.mark.parametrize(
    ("recipe", "python", "pip"),
    [
        ("plain", "3.8", ["six"]),
        pytest.param("chainer-5.1.0", "3.6", [], marks=pytest.mark.matrix),
        pytest.param("chainer-7.0.0", "3.6", [], marks=pytest.mark.matrix),
        pytest.param("chainer-7.8.1", "3.11", [], marks=pytest.mark.matrix),
    ],
)
def test_one_more_package_makes_one_layer_new(
    engine, cache, tmp_path, recipe, python, pip
) -> None:
    said: list[str] = []
    log = tmp_path / "log"
    base = new_base(engine, tmp_path)

    def with_pip(*packages):
        return wanted(engine, recipe, python, packages, asked=base)

    made = built(with_pip(*pip), cache, said.append, log)
    assert [line.split()[0] for line in said] == ["building", "built"]
    assert re.search(r"(?im)^step \d+/\d+", log.read_text()), "the engine's own words"
    code = "import ssl, sqlite3, sys; print(sys.prefix, *map(int, sys.version_info[:2]))"
    prefix = f"/opt/rechain/environment {python.replace('.', ' ')}"
    assert run_in(engine, made, "python", "-c", code) == prefix
    if recipe != "plain":
        code = "import chainer, sys; print(chainer.__version__)"
        assert run_in(engine, made, "python", "-c", code) == recipe.partition("-")[2]

    more = built(with_pip(*pip, "tqdm"), cache)
    assert run_in(engine, more, "python", "-c", "import tqdm; print('there')") == "there"
    before, after = layers(engine, made), layers(engine, more)
    new = [layer for layer in after if layer not in before]
    assert len(new) <= 2, "what is copied, and what is compiled of it"

    said.clear()
    again = built(with_pip(*pip), cache, said.append)
    assert (again["id"], said) == (made["id"], [])
    (facts,) = json.loads(engine.run("image", "inspect", made["id"]))
    assert re.fullmatch(r"[0-9a-f]{64}", facts["Config"]["Labels"][LABEL])

    engine.run("rmi", "--force", made["id"])
    assert run_in(engine, built(with_pip(*pip), cache), "true") == ""


@pytest.mark.matrix
def test_an_image_whose_archive_was_removed_is_built_again(engine, cache, tmp_path) -> None:
    spec = wanted(engine, pip=["six"])
    found, run, said = prepare(spec, cache), tmp_path / "run_1", list[str]()
    run.mkdir()
    store.want(cache, spec, str(run))

    def made():
        said.clear()
        return ensure(spec, found, cache, engines.find()[0], said.append, carried=True)

    first = made()
    assert any("kept for other nodes" in line for line in said)
    engine.run("rmi", "--force", first["reference"])
    assert stored.collect_carried(cache, 0) == 0
    assert made()["loaded"]["from"].endswith(f"-{engine.name}.tar")
    run.rmdir()
    assert stored.collect_carried(cache, 0) > 1 << 20
    engine.run("rmi", "--force", first["reference"])
    assert "loaded" not in made()
    assert any("building the image" in line for line in said)
    assert stored.collect_carried(cache, 0) > 1 << 20


@pytest.mark.matrix
def test_ranks_find_the_mpi_of_the_image(engine, cache) -> None:
    mpi = mpi_setting("mpich", os.environ)
    made = built(wanted(engine, "chainer-7.8.1", "3.8", mpi=mpi), cache)
    code = "from mpi4py import MPI; import chainermn; print(MPI.COMM_WORLD.size)"
    assert run_in(engine, made, "mpiexec", "-n", "2", "python", "-c", code).split() == ["2", "2"]


@pytest.mark.matrix
def test_git_is_put_into_an_image_of_ours(engine, cache) -> None:
    spec = {**wanted(engine), "image": names.image_spec(None, base=engine.base_image())}
    assert run_in(engine, built(spec, cache), "git", "--version").startswith("git version")


@pytest.mark.matrix
def test_an_interpreter_of_the_system_is_taken_along(engine, cache) -> None:
    path = "/usr/bin/python3"
    if not os.path.exists(path):
        missing("Python at /usr/bin")
    spec = {**venv_spec("plain", path), "image": names.image_spec(engine.base_image())}
    made = built(spec, cache)
    assert run_in(engine, made, "python", "-c", "import ssl, sys; print(sys.prefix)") == (
        "/opt/rechain/environment"
    )


PREFIX = "import sys; print(sys.prefix)"
OF_CONDA = """
import os, ssl, sqlite3, subprocess, sys
import numpy, six
print(sys.prefix, sys.executable, numpy.__version__, numpy.__file__, six.__version__)
print(os.environ["TOOL_HOME"], os.environ["CONDA_PREFIX"])
for command in (["greet"], ["tool"], ["conda", "list", "--json"], ["conda", "env", "export"]):
    print(subprocess.check_output(command).decode())
"""


@pytest.mark.parametrize(
    "engine",
    ["podman", pytest.param("docker", marks=pytest.mark.matrix)],
    indirect=True,
)
def test_an_environment_of_conda_is_in_its_image_as_it_is_outside(
    engine, cache, channel, source, tmp_path
) -> None:
    (tmp_path / "home" / ".condarc").write_text(f"channels:\n- {channel}\n")
    (source / "train.py").write_text(OF_CONDA)

    def run(*, pip=("six",), **given):
        estimator = Estimator(
            str(source), entry_script="train.py", compute_target="local", pip_packages=list(pip),
            conda_packages=["python=3.6", "numpy=1.14", "greeting", "tool=1"], **given,
        )  # fmt: skip
        made = Experiment(Workspace.local(), "x").submit(estimator)
        made.wait_for_completion(raise_on_error=False)
        errors = Path(made._paths.attempt(1).stderr(0)).read_text()
        assert made.get_status() == "Completed", f"{made.get_details()} {errors}"
        text = Path(made._paths.attempt(1).stdout(0)).read_text()
        return text, jsonl.read(made._paths.lock)

    outside, lock = run(use_docker=False)
    prefix = outside.split()[0]
    assert prefix.startswith(f"{cache}/envs/")
    inside, contained = run(custom_docker_image=engine.base_image())
    assert inside == outside
    assert contained["digest"] == lock["digest"]
    image = contained["image"]
    assert image["python"] == f"{prefix}/bin/python"
    _, more = run(custom_docker_image=engine.base_image(), pip=["six", "tqdm"])
    assert more["image"]["id"] != image["id"]


@pytest.mark.parametrize(
    "engine", ["podman", pytest.param("docker", marks=pytest.mark.matrix)], indirect=True
)
def test_the_image_of_a_dockerfile_is_built_once(engine, cache) -> None:
    base = engine.base_image()
    found, said = engines.find()[0], list[str]()

    def made(text, **more):
        image = names.image_spec(None, source={"dockerfile": text}, user_managed=True, **more)
        spec = {"kind": "user-managed", "python": "python", "image": image}
        return ensure(spec, None, cache, found, said.append)

    text = f"FROM {base}\nRUN echo of the Dockerfile > /made\n"
    one = made(text)
    assert run_in(engine, one, "cat", "/made") == "of the Dockerfile"
    assert any("building the image localhost/rechain-dockerfile:" in line for line in said)
    said.clear()
    assert (made(text)["id"], said) == (one["id"], [])
    with pytest.raises(EnvironmentFailure, match="image of the Dockerfile failed") as failure:
        made(f"FROM {base}\nCOPY not-there /x\n")
    assert "To COPY some" in failure.value.hint


@pytest.mark.parametrize(
    "engine", ["podman", pytest.param("docker", marks=pytest.mark.matrix)], indirect=True
)
def test_the_image_of_a_folder_is_built_again_for_a_replay(engine, cache, source, home) -> None:
    folder = home / "image"
    (folder / "docker").mkdir(parents=True)
    (folder / "docker" / "Dockerfile").write_text(
        f"FROM {engine.python_image(sys.executable)}\n"
        "COPY setup.sh /setup.sh\nADD . /all\nRUN /setup.sh\n"
    )
    (folder / "setup.sh").write_text("#!/bin/sh\ncat /all/*.txt > /made\n")
    (folder / "setup.sh").chmod(0o755)
    (folder / ".gitignore").write_text("*.txt\n")
    (folder / ".dockerignore").write_text("secret.txt\n")
    (folder / "ä b.txt").write_text("of the folder\n")
    (folder / "secret.txt").write_text("not to be copied\n")
    (source / "train.py").write_text("print(open('/made').read(), end='')\n")
    workspace = Workspace.local()
    context = DockerBuildContext.from_local_directory(workspace, folder, "docker/Dockerfile")
    shutil.rmtree(folder)
    environment = Environment.from_docker_build_context("e", context)
    config = ScriptRunConfig(
        str(source), "train.py", environment=environment,
        docker_runtime_config=DockerConfiguration(use_docker=True),
    )  # fmt: skip
    first = Experiment(workspace, "x").submit(config)
    for again in (False, True):
        if again:
            engine.run("rmi", "--force", jsonl.read(first._paths.lock)["image"]["reference"])
        run = first.replay() if again else first
        run.wait_for_completion(raise_on_error=False)
        assert run.get_status() == "Completed", run.get_details()
        assert Path(run._paths.attempt(1).stdout(0)).read_text() == "of the folder\n"
        assert "setup.sh" in Path(run._paths.attempt(1).image_log).read_text()
    export_runs([first], str(home / "run.tar"))
    with tarfile.open(home / "run.tar") as archive:
        digest = first._job["environment"]["image"]["context"]["snapshot"]
        assert f"store/snapshots/{digest}.json" in archive.getnames()
    shutil.rmtree(workspace._paths.store)
    image = {**first._job["environment"]["image"], "pull": True}
    with pytest.raises(EnvironmentFailure, match="folder that the image is built from") as failure:
        spec = {**first._job["environment"], "image": image}
        ensure(spec, None, cache, engines.find()[0], kept=workspace._paths.store)
    assert "from_local_directory" in failure.value.hint


@pytest.mark.parametrize(
    "engine", ["podman", pytest.param("docker", marks=pytest.mark.matrix)], indirect=True
)
def test_build_local_builds_what_the_next_run_takes(engine, cache, source, home, capfd) -> None:
    (home / "image").mkdir()
    dockerfile = home / "image" / "Dockerfile"
    dockerfile.write_text(
        f"FROM {engine.python_image(sys.executable)}\nCOPY Dockerfile /\nRUN echo {home} > /made\n"
    )
    (source / "train.py").write_text("print(open('/made').read(), end='')\n")
    workspace = Workspace.local()
    context = DockerBuildContext.from_local_directory(workspace, home / "image")
    environment = Environment.from_docker_build_context("e", context)
    capfd.readouterr()
    assert environment.build_local(workspace, useDocker=True) is None
    said = capfd.readouterr().out
    assert re.search(r"(?im)^step \d+/\d+ ?: copy dockerfile", said), "the engine's own words"
    name = re.search(
        rf"^{engine.name} has the image (localhost/rechain-dockerfile:\w+)$", said, re.M
    )
    assert name is not None, said
    docker = DockerConfiguration(use_docker=True)
    config = ScriptRunConfig(
        str(source), "train.py", environment=environment, docker_runtime_config=docker
    )
    run = Experiment(workspace, "x").submit(config)
    run.wait_for_completion()
    assert Path(run._paths.attempt(1).stdout(0)).read_text() == f"{home}\n"
    assert jsonl.read(run._paths.lock)["image"]["reference"] == name[1]
    assert not os.path.exists(run._paths.attempt(1).image_log)
    dockerfile.write_text("FROM localhost/not-there:1\n")
    context = DockerBuildContext.from_local_directory(workspace, home / "image")
    environment = Environment.from_docker_build_context("e", context)
    with pytest.raises(UserErrorException, match="building the image of the Dockerfile failed"):
        environment.build_local(workspace, useDocker=True)


@pytest.mark.matrix
def test_build_local_puts_packages_into_an_image(engine, cache, home, capfd) -> None:
    workspace = Workspace.local()
    (home / "image").mkdir()
    (home / "image" / "Dockerfile").write_text(f"FROM {engine.base_image()}\n")
    context = DockerBuildContext.from_local_directory(workspace, home / "image")
    environment = Environment.from_docker_build_context("e", context)
    with pytest.raises(UserErrorException, match="or give the environment conda_dependencies: th"):
        environment.build_local(workspace, useDocker=True)
    environment = Environment.from_docker_image("e", engine.base_image())
    environment.python.user_managed_dependencies = False
    environment.python.conda_dependencies = CondaDependencies.create(
        pip_packages=["six"], python_version="3.8"
    )
    capfd.readouterr()
    environment.build_local(workspace)
    assert "has the image" not in capfd.readouterr().out
    environment.build_local(workspace, useDocker=True)
    assert f"{engine.name} has the image localhost/rechain:" in capfd.readouterr().out


@pytest.mark.matrix
def test_packages_go_into_the_image_of_a_dockerfile(engine, cache) -> None:
    text = f"FROM {engine.base_image()}\nRUN echo of the Dockerfile > /made\n"
    interpreter("3.8")
    image = names.image_spec(None, source={"dockerfile": text})
    made = built({**venv_spec("plain", "3.8", ["six"]), "image": image}, cache)
    code = "import six; print(open('/made').read())"
    assert run_in(engine, made, "python", "-c", code) == "of the Dockerfile"
    assert made["base"]["reference"] == image["reference"]


@pytest.mark.matrix
def test_packages_go_beside_the_python_that_a_base_has(engine, cache) -> None:

    image = engine.python_image(sys.executable)
    own = engine.run("run", "--rm", "--network=host", image, "python", "-c", PREFIX).strip()
    made = built(wanted(engine, pip=["six"], asked=image), cache)
    assert run_in(engine, made, "python", "-c", f"import six\n{PREFIX}", user="0:0") == (
        "/opt/rechain/environment"
    )
    assert run_in(engine, made, f"{own}/bin/python3", "-c", PREFIX, user="0:0") == own


def start_building(engine, cache, folder, spec):
    """Start a process that builds an image, and says what happens on stdout."""
    (folder / "spec.json").write_text(json.dumps(spec))
    code = (
        "import json, sys\n"
        "from rechain.environment import engines\n"
        "from rechain.environment.prepare import prepare\n"
        "from rechain.environment.image.ensure import ensure\n"
        "spec, cache = json.load(open(sys.argv[1])), sys.argv[2]\n"
        "say = lambda line: print(line, flush=True)\n"
        "engine = engines.find()[0]\n"
        "found = prepare(spec, cache) if spec['kind'] != 'user-managed' else None\n"
        "print('ID', ensure(spec, found, cache, engine, say, log='/dev/stdout')['id'])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "spec.json"), cache],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.matrix
def test_twenty_first_builds_are_one(engine, cache, tmp_path) -> None:
    spec = wanted(engine, pip=["six"])
    started = [start_building(engine, cache, tmp_path, spec) for _ in range(20)]
    said = [process.communicate(timeout=600)[0] for process in started]
    assert len({text.split("ID ")[1] for text in said}) == 1
    assert sum("building the image" in text for text in said) == 1


def new_base(engine, tmp_path):
    """Return a base of the test's own, so that no layer of another test hides a step."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "Dockerfile").write_text(
        f"FROM {engine.base_image()}\nENV TEST={os.getpid()}-{tmp_path.name}\n"
    )
    name = f"localhost/rechain-test-base:{tmp_path.name.lower()[-100:]}"
    engine.run("build", "--network=host", "--tag", name, str(tmp_path / "base"))
    return name


def killed_at(engine, cache, tmp_path, spec, step):
    """Kill a build as soon as it says `step`; return the name of the image it was building."""
    killed = start_building(engine, cache, tmp_path, spec)
    assert killed.stdout is not None
    name = ""
    for line in killed.stdout:
        if found := re.search(r"building the image (\S+)", line):
            name = found[1]
        if re.search(step, line):
            break
    else:
        pytest.fail(f"it never came to {step}")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.stdout.read()
    killed.wait()
    return name


FETCH_IN_CI = {("podman", "supervisor"), ("docker", "client")}
IN_CI = {
    ("podman", "COPY python/"), ("docker", "COPY packages/"), ("podman", "COPY --from=one"),
}  # fmt: skip


def each_killed_at(*steps):
    """Parametrize a test by engine and step; CI runs some of them."""
    cells = [
        pytest.param(
            name,
            step,
            marks=pytest.mark.engines if (name, step) in IN_CI else pytest.mark.matrix,
            id=f"{name}-{'-'.join(re.findall('[a-z]+', step))}",
        )
        for name in ("podman", "docker")
        for step in steps
    ]
    return pytest.mark.parametrize(("engine", "step"), cells, indirect=["engine"])


def nothing_is_left(engine, cache):
    """See that no container and no folder of a build stays."""
    assert not [one for one in os.listdir(f"{cache}/envs") if one.startswith(".building")]
    everything = ["--external"] if engine.name == "podman" else []
    assert engine.run("ps", "--all", "--quiet", *everything).split() == []


@each_killed_at(
    "COPY python/", "RUN cd /opt/rechain", "COPY recipe/", "RUN .*compileall", "COPY packages/",
    "^built in",
)  # fmt: skip
def test_a_build_killed_at_any_step_leaves_nothing_and_the_next_is_whole(
    engine, cache, tmp_path, step
) -> None:
    spec = wanted(engine, pip=["six"], asked=new_base(engine, tmp_path))
    name = killed_at(engine, cache, tmp_path, spec, step)
    if step != "^built in":
        assert not engine.run("images", "--quiet", name).strip()
        assert store.find_image(cache, spec, engine.name) is None
    again = start_building(engine, cache, tmp_path, spec)
    said = again.communicate(timeout=600)[0]
    made = store.find_image(cache, spec, engine.name)
    assert f"ID {made['id']}" in said
    code = "import six, ssl, os; print(os.path.exists(six.__cached__))"
    assert run_in(engine, made, "python", "-c", code) == "True"
    nothing_is_left(engine, cache)


OF_STAGES = """\
FROM {base} AS one
RUN echo one > /one
FROM {base}
COPY --from=one /one /two
RUN cat /two > /three
"""


@each_killed_at("FROM .* AS one", "RUN echo one", "COPY --from=one", "RUN cat /two")
def test_a_build_of_a_dockerfile_killed_at_any_step_leaves_nothing(
    engine, cache, tmp_path, step
) -> None:
    text = OF_STAGES.format(base=new_base(engine, tmp_path))
    image = names.image_spec(None, source={"dockerfile": text}, user_managed=True)
    spec = {"kind": "user-managed", "python": "python", "image": image}
    name = killed_at(engine, cache, tmp_path, spec, step)
    assert name == image["reference"]
    assert not engine.run("images", "--quiet", name).strip()
    assert store.find_image(cache, spec, engine.name) is None
    said = start_building(engine, cache, tmp_path, spec).communicate(timeout=600)[0]
    made = store.find_image(cache, spec, engine.name)
    assert f"ID {made['id']}" in said
    assert run_in(engine, made, "cat", "/three") == "one"
    nothing_is_left(engine, cache)


@pytest.mark.matrix
def test_a_build_killed_while_git_is_installed_leaves_nothing(engine, cache, tmp_path) -> None:
    base = new_base(engine, tmp_path)
    spec = {**wanted(engine), "image": names.image_spec(None, base=base)}
    killed_at(engine, cache, tmp_path, spec, "Reading package lists|^Get:|^Selecting|Unpacking")
    made = built(spec, cache)
    assert run_in(engine, made, "git", "--version").startswith("git version")
    nothing_is_left(engine, cache)


@pytest.mark.matrix
def test_a_full_disk_of_the_engine_is_one_clear_error(cache, tmp_path, monkeypatch) -> None:
    class Small(PodmanEngine):
        def _start(self):
            os.mkdir(f"{self.root}/storage")
            command = ["mount", "-t", "tmpfs", "-o", "size=250m", "tmpfs", f"{self.root}/storage"]
            subprocess.run(command, check=True)
            super()._start()

    with Small() as small:
        for key, value in small.environment.items():
            monkeypatch.setenv(key, value)
        spec = wanted(small, "chainer-7.8.1", "3.8", ["scipy"])
        found = prepare(spec, cache)
        with pytest.raises(EnvironmentFailure, match="images is full") as failure:
            ensure(spec, found, cache, engines.find()[0])
        assert "image prune" in failure.value.hint
        assert "localhost/rechain:" not in small.run("images")


def below(folder):
    return [f"{where}/{name}" for where, _, files in os.walk(folder) for name in files]


def test_a_full_disk_of_the_cache_is_one_clear_error(engine, cache, small_disk) -> None:
    spec = wanted(engine)
    found = prepare(spec, cache)
    with pytest.raises(EnvironmentFailure, match=r"the disk that holds .* is full"):
        ensure(spec, found, str(small_disk), engines.find()[0])
    assert not [path for path in below(small_disk) if "/image/" in path]


# A registry.


@pytest.fixture
def private(engine, tmp_path, monkeypatch):
    """A private registry that the engine may reach without TLS."""
    with private_registry(engine, tmp_path, monkeypatch) as made:
        yield made


def client_of(pid):
    """Return the pid of the engine's client that a process has started to fetch an image."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"\0pull\0" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    pytest.fail("nothing is fetched")


def as_it_is(reference, login, **more):
    image = names.image_spec(reference, user_managed=True, registry=login, **more)
    return {"kind": "user-managed", "python": "python", "image": image}


def test_a_private_image_is_had_with_its_password_which_is_nowhere(
    engine, private, cache, tmp_path
) -> None:
    reference = private.push(engine, b"one", "lab/base:1")
    seen: list[bytes] = []
    done = threading.Event()
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode())

    def watch() -> None:
        while not done.is_set():
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        seen.append(file.read())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        spec = as_it_is("lab/base:1", private.login)
        made = ensure(spec, None, cache, engines.find()[0], password=PASSWORD)
    finally:
        done.set()
        watcher.join()
    assert made["reference"] == reference
    assert made["base"]["digest"].startswith("sha256:")
    commands = b"\n".join(seen)
    assert reference.encode() in commands, "it was looked at while it was fetched"
    assert PASSWORD.encode() not in commands
    assert encoded not in commands
    for folder in (cache, engine.root, str(tmp_path / "home")):
        for path in below(folder):
            if os.path.isfile(path) and os.path.getsize(path) < 1 << 20:
                try:
                    with open(path, "rb") as file:
                        content = file.read()
                except OSError:
                    continue  # a namespace
                assert PASSWORD.encode() not in content, path
                assert encoded not in content, path
    assert PASSWORD not in json.dumps([spec, made])
    engine.run("rmi", reference)


@pytest.mark.parametrize(
    ("engine", "victim"),
    [
        pytest.param(
            name,
            victim,
            marks=pytest.mark.engines if (name, victim) in FETCH_IN_CI else pytest.mark.matrix,
            id=f"{name}-{victim}",
        )
        for name in ("podman", "docker")
        for victim in ("supervisor", "guard", "both", "preparer", "client")
    ],
    indirect=["engine"],
)
def test_whoever_is_killed_while_an_image_is_fetched_nothing_is_left(
    engine, cache, source, tmp_path, monkeypatch, victim
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    (source / "train.py").write_text("")
    with private_registry(engine, tmp_path, monkeypatch, stall_after=2 << 20) as slow:
        slow.push(engine, os.urandom(4 << 20), "lab/base:1")
        reference = f"{slow.address}/lab/base:1"
        details = ContainerRegistry()
        details.address, details.username, details.password = slow.address, USER, PASSWORD
        run = Experiment(Workspace.local(), "x").submit(
            Estimator(
                str(source), entry_script="train.py", compute_target="local", user_managed=True,
                custom_docker_image=reference, image_registry_details=details,
            )
        )  # fmt: skip
        attempt = run._paths.attempt(1)
        assert slow.stalled.wait(120), "the engine fetches it"
        told = Path(attempt.image_log)
        wait_for(lambda: "lab/base" in told.read_text(), "the engine's own words are there", 120)
        started = fold_attempt(attempt).attempt
        assert started is not None
        (preparer,) = [
            pid
            for pid in processes_of(run._paths)
            if b"rechain.environment.__main__" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        pids = {"preparer": preparer, "client": client_of(preparer)}
        pids |= {who: int(started[who]["pid"]) for who in ("supervisor", "guard")}
        victims = [
            pids[one] for one in (("supervisor", "guard") if victim == "both" else [victim])
        ]
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        run.wait_for_completion(raise_on_error=False)
        assert run.get_status() == "Failed"
        wait_for(lambda: not processes_of(run._paths, reference), "all are gone", 120)
        slow.goes_on.set()
        made = ensure(
            as_it_is(reference, slow.login), None, cache, engines.find()[0], password=PASSWORD
        )
        assert made["reference"] == reference
        assert os.listdir(scratch) == []
        assert not [one for one in os.listdir(f"{cache}/envs") if one.startswith(".building")]
        engine.run("rmi", reference)


def test_why_a_private_image_cannot_be_had_is_told_apart(engine, private, cache, tmp_path) -> None:
    private.push(engine, b"one", "lab/base:1")
    found, log = engines.find()[0], tmp_path / "image.log"

    def failure(reference, login=private.login, password=PASSWORD):
        with pytest.raises(EnvironmentFailure) as error:
            ensure(as_it_is(reference, login), None, cache, found, password=password, log=str(log))
        assert PASSWORD not in error.value.detail
        assert error.value.detail.splitlines()[-1] in log.read_text(), "the engine's own words"
        return error.value.message

    host = private.address
    refused = f"{host} refuses the user 'me': wrong name or password"
    assert failure("lab/base:1", password="wrong") == refused
    assert failure("lab/base:2") == f"there is no image {host}/lab/base:2"
    assert failure("lab/none:1") == f"there is no image {host}/lab/none:1"
    alone = f"{host} gives {host}/lab/base:1 only to those who log in"
    assert failure(f"{host}/lab/base:1", login=None) == alone
    private.stop()
    assert failure("lab/base:1").startswith(f"{host} cannot be reached")


def test_a_moved_tag_is_followed_when_that_is_asked_for(engine, private, cache) -> None:
    found = engines.find()[0]
    private.push(engine, b"one", "lab/base:1")
    said: list[str] = []

    def now(**more):
        spec = as_it_is("lab/base:1", private.login, **more)
        return ensure(spec, None, cache, found, said.append, password=PASSWORD)

    first = now()
    private.push(engine, b"two", "lab/base:1")
    assert now()["id"] == first["id"]
    second = now(pull=True)
    assert second["id"] != first["id"]
    assert said[-1] == f"note: {private.address}/lab/base:1 is another image than before"
    assert now()["id"] == second["id"]
    private.stop()
    with pytest.raises(EnvironmentFailure, match="is on this machine, and cannot be f") as error:
        now(pull=True)
    assert error.value.message.endswith(f"{private.address} cannot be reached")
    assert "leave out --pull" in error.value.hint
    built = ensure(as_it_is(engine.base_image(), None, pull=True), None, cache, found, said.append)
    assert built["reference"] == engine.base_image()
    assert said[-1].endswith("was built on this machine: it cannot be fetched anew")
    engine.run("rmi", "--force", f"{private.address}/lab/base:1")
