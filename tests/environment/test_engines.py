"""Which engines there are is asked, not guessed."""

from __future__ import annotations

import json
import os

import pytest

from rechain.environment import engines, trial
from rechain.environment.errors import EnvironmentFailure
from rechain.exceptions import UserErrorException


@pytest.fixture
def fake_engine(tmp_path):
    """A function that makes a client which answers `--version` and `info` with these words."""
    folder = tmp_path / "clients"
    folder.mkdir()

    def make(name, version, info, status=0, errors=""):
        client = folder / name
        client.write_text(
            f"#!/bin/sh\ncase $1 in --version) echo '{version}';;\n"
            f"*) echo '{info if isinstance(info, str) else json.dumps(info)}'\n"
            f"echo '{errors}' >&2; exit {status};; esac\n"
        )
        client.chmod(0o755)
        return {"PATH": str(folder)}

    return make


PODMAN = {"version": {"Version": "5.2.1"}, "host": {"security": {"rootless": True}}}


@pytest.mark.fast
def test_without_an_engine_the_error_says_what_to_install(tmp_path) -> None:
    with pytest.raises(EnvironmentFailure, match="no container engine here") as error:
        engines.find({"PATH": str(tmp_path)})
    assert "Install podman or docker" in error.value.hint


@pytest.mark.fast
def test_a_fake_rootless_podman_is_taken_first(fake_engine) -> None:
    fake_engine("docker", "Docker version 28.2.2", {"ServerVersion": "28.2.2"})
    environ = fake_engine("podman", "podman version 5.2.1", PODMAN)
    environ |= {"XDG_RUNTIME_DIR": "/run/user/7", "TOKEN": "x"}
    found = engines.find(environ)[0]
    assert found.title == "podman 5.2.1 (rootless)"
    assert found.variables == {"PATH": environ["PATH"], "XDG_RUNTIME_DIR": "/run/user/7"}
    assert engines.find({**environ, engines.CHOICE: "docker"})[0].title == "docker 28.2.2"


@pytest.mark.fast
def test_a_fake_docker_that_is_podman_counts_as_podman(fake_engine) -> None:
    environ = fake_engine("docker", "podman version 5.2.1", PODMAN)
    found = engines.find(environ)[0]
    assert (found.name, os.path.basename(found.program)) == ("podman", "docker")


@pytest.mark.fast
@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "Start its"),
        ("permission denied while trying to connect to the Docker daemon", "group docker"),
    ],
)
def test_a_fake_docker_without_a_daemon_is_no_engine(fake_engine, error, hint) -> None:
    environ = fake_engine(
        "docker", "Docker version 28.2.2", {"ID": "", "ServerErrors": [error]}, status=1
    )
    with pytest.raises(EnvironmentFailure, match="docker does not work") as failure:
        engines.find(environ)
    assert error.rstrip(".") in failure.value.message
    assert hint in failure.value.hint


@pytest.mark.fast
def test_a_fake_podman_that_fails_is_no_engine_and_the_next_is_taken(fake_engine) -> None:
    environ = fake_engine("podman", "podman version 4.3.1", "", 125, "Error: no newuidmap")
    with pytest.raises(EnvironmentFailure, match="podman does not work: no newuidmap"):
        engines.find(environ)
    fake_engine("docker", "Docker version 28.2.2", {"ServerVersion": "28.2.2"})
    assert engines.find(environ)[0].name == "docker"


@pytest.mark.fast
def test_a_chosen_engine_that_is_not_there_is_an_error(fake_engine) -> None:
    environ = fake_engine("podman", "podman version 5.2.1", PODMAN)
    with pytest.raises(EnvironmentFailure, match="nerdctl"):
        engines.find({**environ, engines.CHOICE: "nerdctl"})


@pytest.mark.fast
def test_a_wrongly_named_engine_is_refused_before_anything_runs(fake_engine) -> None:
    environ = fake_engine("podman", "podman version 5.2.1", PODMAN)
    with pytest.raises(UserErrorException, match="RECHAIN_ENGINE is 'podmna'"):
        engines.check_choice({**environ, engines.CHOICE: "podmna"})
    for right in ("", "podman", "docker", f"{environ['PATH']}/podman"):
        engines.check_choice({**environ, engines.CHOICE: right})


def refusing(environ, words):
    """Make a fake podman that answers, and whose runtime refuses to start; return its log."""
    log = os.path.join(environ["PATH"], "log")
    with open(os.path.join(environ["PATH"], "podman"), "w", encoding="utf-8") as file:
        file.write(
            f"#!/bin/sh\necho $1 >> {log}\ncase $1 in --version) echo podman version 5.2.1;;\n"
            f"run) echo '{words}' >&2; exit 126;;\n*) echo '{json.dumps(PODMAN)}';; esac\n"
        )
    os.chmod(os.path.join(environ["PATH"], "podman"), 0o755)
    return log


@pytest.mark.fast
@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("Error: crun: cgroups in hybrid mode not supported", 'runtime = "runc"'),
        ("Error: error setting rlimit type 7: operation not permitted", "default_ulimits = ["),
        ("Error: cannot find newuidmap", "/etc/subuid"),
        ("Error: something else", "Try `podman run` yourself"),
    ],
)
def test_a_fake_podman_that_starts_no_container_is_said_with_its_cure(
    fake_engine, tmp_path, words, hint
) -> None:
    environ = fake_engine("podman", "podman version 5.2.1", PODMAN)
    refusing(environ, words)
    with pytest.raises(EnvironmentFailure, match="starts no container") as failure:
        engines.find(environ, lambda finding: trial.tried(finding, str(tmp_path)))
    assert words.removeprefix("Error: ") in failure.value.message
    assert hint in failure.value.hint


@pytest.mark.fast
def test_the_next_of_two_fake_engines_is_taken_and_said_and_remembered(
    fake_engine, tmp_path
) -> None:
    environ = fake_engine("docker", "Docker version 28.2.2", {"ServerVersion": "28.2.2"})
    log = refusing(environ, "Error: no cgroups")

    def find(**more):
        return engines.find(environ | more, lambda one: trial.tried(one, str(tmp_path / "cache")))

    found, notes = find()
    assert found.name == "docker"
    problem = "podman 5.2.1 (rootless) starts no container (no cgroups)"
    assert notes == [f"{problem}: docker 28.2.2 is used"]
    assert find() == (found, notes), "what does not work is tried again: it may have been mended"
    fake_engine("podman", "podman version 5.2.1", PODMAN)
    assert find()[0].name == "podman"
    assert find()[1] == []
    refusing(environ, "Error: no cgroups")

    def runs():
        with open(log, encoding="utf-8") as file:
            return file.read().count("run\n")

    before = runs()
    assert find()[0].name == "docker", "the client has changed"
    assert runs() == before + 2, "with limits, and without"


@pytest.mark.fast
def test_a_fake_engine_that_starts_containers_is_tried_once_for_its_settings(
    fake_engine, tmp_path
) -> None:
    environ = fake_engine("podman", "podman version 5.2.1", PODMAN)
    log = tmp_path / "log"
    client = os.path.join(environ["PATH"], "podman")
    with open(client, encoding="utf-8") as file:
        text = file.read().replace("#!/bin/sh\n", f"#!/bin/sh\necho $1 >> {log}\n")
    with open(client, "w", encoding="utf-8") as file:
        file.write(text)
    settings = tmp_path / "containers.conf"
    settings.write_text("[engine]\n")
    environ["CONTAINERS_CONF"] = str(settings)

    def runs():
        engines.find(environ, lambda one: trial.tried(one, str(tmp_path / "cache")))
        return log.read_text().split().count("run")

    assert [runs(), runs()] == [1, 1]
    settings.write_text("[engine]\nruntime = 'crun'\n")
    assert [runs(), runs()] == [2, 2]


@pytest.mark.fast
def test_limits_that_a_fake_rootless_podman_ignores_are_said(fake_engine) -> None:
    said = "Resource limits are not supported and ignored on cgroups V1 rootless systems"
    environ = fake_engine("podman", "podman version 5.2.1", PODMAN, errors=said)
    found = engines.find(environ)[0]
    made = trial.start(found, limits=True)
    assert (made.problem, made.without_limits) == (said, True)
    assert trial.start(found, limits=False).problem == ""


@pytest.mark.fast
def test_a_program_that_is_no_engine_is_refused_before_anything_runs(fake_engine) -> None:
    environ = fake_engine("nerdctl", "nerdctl version 1.7.0", {})
    with pytest.raises(UserErrorException, match="neither podman nor docker") as failure:
        engines.check_choice({**environ, engines.CHOICE: "nerdctl"})
    assert "RECHAIN_ENGINE is 'nerdctl'" in failure.value.message
    with pytest.raises(EnvironmentFailure, match="neither podman nor docker"):
        engines.find({**environ, engines.CHOICE: "nerdctl"})


@pytest.mark.engines
def test_the_real_engines_say_what_they_are(engine) -> None:
    found = engines.find()[0]
    assert found.name == engine.name
    assert not found.rootless
    assert set(engine.environment) - {engines.CHOICE} <= set(found.variables)
    assert found.check("images", "--quiet", doing="listing") == engine.run("images", "--quiet")


@pytest.mark.engines
def test_what_a_real_engine_refuses_is_said_in_one_line(engine) -> None:
    lines: list[str] = []
    found = engines.find()[0]
    with pytest.raises(EnvironmentFailure, match=f"starting failed: {found.name}: ") as failure:
        found.check("start", "nothing-here", doing="starting", hint="Do it.", on_line=lines.append)
    assert failure.value.hint == "Do it."
    assert "nothing-here" in lines[0]
