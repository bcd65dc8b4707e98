"""What is in an image, and under which name: nothing here needs an engine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rechain import recipes
from rechain.environment import engines
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.image import containerfile, context, names, registry
from rechain.environment.spec import gpu_setting, mpi_setting, venv_spec
from rechain.exceptions import UserErrorException

pytestmark = pytest.mark.fast

GOLDEN = Path(__file__).parent / "golden"


def planned(version, *, gpu=False, ranks=False, **image):
    spec = venv_spec(
        f"chainer-{version}",
        mpi=mpi_setting("mpich", os.environ) if ranks else None,
        gpu=gpu_setting("required") if gpu else None,
    )
    return context.planned({**spec, "image": names.image_spec(image.pop("asked", None), **image)})


def hold(name, text):
    path = GOLDEN / f"{name}.Containerfile"
    if os.environ.get("RECHAIN_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("version", ["5.1.0", "7.0.0", "7.8.1"])
def test_the_image_for_the_cpu(version) -> None:
    hold(f"{version}-cpu", planned(version))


def test_the_image_for_ranks() -> None:
    hold("7.0.0-cpu-mpi", planned("7.0.0", ranks=True))


def test_the_image_of_an_environment_of_conda() -> None:
    conda = "/home/me/.cache/rechain/envs/a-b"
    made = containerfile.text("ubuntu:24.04", "Yours", "3.6", mpi=True, ours=True, conda=conda)
    hold("conda", made)


@pytest.mark.parametrize("character", [" ", "é", "$"])
def test_an_environment_of_conda_that_cannot_have_its_path_is_an_error(
    tmp_path, character
) -> None:
    lock = {"conda": {}, "interpreter": {"version": "3.6.15"}}
    found = {"prefix": f"/home/m{character}e/envs/a-b", "lock": lock}
    with pytest.raises(EnvironmentFailure, match="path of a Containerfile") as failure:
        context.write(found, {"reference": None}, str(tmp_path / "image"))
    assert "RECHAIN_CACHE" in failure.value.hint
    assert not (tmp_path / "image").exists()


def test_the_image_on_one_of_the_users_own_keeps_what_it_has() -> None:
    text = planned("7.0.0", asked="registry.example:5000/lab/torch:2")
    hold("7.0.0-custom", text)
    assert "apt-get" not in text


@pytest.mark.parametrize("version", ["5.1.0", "7.0.0"])
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_documented_image_whose_base_is_not_pulled_here(version, kind) -> None:
    text = planned(version, gpu=kind == "gpu", base="documented")
    hold(f"{version}-{kind}-documented", text)


@pytest.mark.parametrize("version", ["5.1.0", "7.0.0", "7.8.1"])
def test_the_image_for_a_gpu_whose_base_is_not_pulled_here(version) -> None:
    hold(f"{version}-gpu", planned(version, gpu=True))


def test_every_cupy_of_a_recipe_has_an_image() -> None:
    known = recipes.images()["gpu"]
    for name in recipes.names():
        for cell in recipes.load(name).cells:
            assert {one.partition("==")[0] for one in cell.cupy} <= set(known), name


def test_a_containerfile_says_the_same_whatever_else_is_installed() -> None:
    """So one more package leaves all layers but its own."""
    image = names.image_spec(None)
    texts = {
        context.planned({**venv_spec("chainer-7.0.0", pip=pip), "image": image})
        for pip in ([], ["scipy"], ["tqdm", "scipy==1.0"])
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("chainer:5.1.0-cpu", ("5.1.0", False)),
        ("viennaprivate.azurecr.io/chainer:7.0.0-gpu", ("7.0.0", True)),
        ("mcr.microsoft.com/azureml/base:intelmpi2018.3-ubuntu16.04", (None, False)),
        ("mcr.microsoft.com/azureml/base-gpu:intelmpi2018.3-cuda9.0-ubuntu16.04", (None, True)),
        ("mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:20251130.v1", (None, False)),
        ("mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.8-cudnn8-ubuntu22.04", (None, True)),
        ("mcr.microsoft.com/windows/servercore", None),
        ("mine/chainer:5.1.0-cpu", None),
        ("chainer/chainer:v7.8.1-python3", None),
    ],
)  # fmt: skip
def test_the_images_of_v1_are_known(name, known) -> None:
    assert names.of_v1(name) == known


def test_an_image_of_v1_is_replaced_and_that_is_said() -> None:
    made = names.image_spec("chainer:5.1.0-cpu", recipe="chainer-5.1.0")
    assert (made["reference"], made["built"], made["asked"]) == (None, True, "chainer:5.1.0-cpu")
    (note,) = made["notes"]
    assert note == (
        "chainer:5.1.0-cpu is an image of v1: Rechain's own takes its place, with chainer 5.1.0"
    )
    (note,) = names.image_spec("chainer:5.1.0-cpu", recipe="chainer-7.0.0")["notes"]
    assert note.endswith("with chainer 7.0.0 (not 5.1.0, as the name says)")


def test_a_public_image_of_v1_is_taken_as_it_is_by_who_manages_its_python() -> None:
    name = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04"
    made = names.image_spec(name, user_managed=True)
    assert (made["reference"], made["built"], made["notes"]) == (name, False, [])


@pytest.mark.parametrize(
    ("asked", "given", "says"),
    [
        ("My/Image", {}, "capital letters"),
        ("a b", {}, "it is no name"),
        ("--privileged", {}, "it is no name"),
        ("https://host/image", {}, "it is no name"),
        ("image:", {}, "it is no name"),
        (None, {"user_managed": True}, "no image is named"),
        ("chainer:5.1.0-cpu", {"user_managed": True}, "nobody can pull"),
        (None, {"base": "Not Good"}, "RECHAIN_BASE_IMAGE"),
    ],
)
def test_what_is_no_image_is_an_error(asked, given, says) -> None:
    with pytest.raises(UserErrorException, match=says):
        names.image_spec(asked, **given)


@pytest.mark.parametrize(
    ("asked", "address", "reference"),
    [
        ("lab/torch:2", "registry.example:5000", "registry.example:5000/lab/torch:2"),
        ("registry.example/lab/torch", "https://registry.example/", "registry.example/lab/torch"),
        ("torch", None, "torch"),
    ],
)
def test_the_registrys_address_is_part_of_the_name(asked, address, reference) -> None:
    login = {"address": address, "username": "me"} if address else None
    assert names.image_spec(asked, registry=login)["reference"] == reference


# What engines say, word for word (podman 4.3.1, docker 20.10.24 and 28.2.2).
SAID = {
    "refuses the user 'me': wrong name or password": [
        "Error response from daemon: Head http://r:5/v2/a/manifests/1: no basic auth credentials: "
        "unauthorized: authentication required",
        'Error: initializing source docker://r:5/a:1: unable to retrieve auth token: invalid '
        "username/password: authentication required",
    ],
    "there is no image": [
        "Error response from daemon: manifest for r:5/a:1 not found: manifest unknown: "
        "manifest unknown",
        "Error: initializing source docker://r:5/a:1: reading manifest 1: manifest unknown",
    ],
    "cannot be reached": [
        'Error response from daemon: Get "http://r:5/v2/": dial tcp 127.0.0.1:5: connect: '
        "connection refused",
        "Error: initializing source docker://r:5/a:1: pinging container registry r:5: Get "
        '"https://r:5/v2/": dial tcp: lookup r: no such host',
    ],
    "may not be fetched by me": [
        "Error response from daemon: pull access denied for a, repository does not exist or may "
        "require 'docker login': denied: requested access to the resource is denied",
    ],
    "does not speak the TLS": [
        'Error response from daemon: Get "https://r:5/v2/": http: server gave HTTP response to '
        "HTTPS client",
    ],
    "images is full": ["Error: writing blob: write /x: no space left on device"],
}  # fmt: skip


@pytest.mark.parametrize(("says", "text"), [(k, t) for k, texts in SAID.items() for t in texts])
def test_why_an_image_cannot_be_had_is_told_apart(says, text) -> None:
    engine = engines.Engine("docker", "/usr/bin/docker", "28.2.2", False, {})
    failure = registry.explain(engine, "r:5/a:1", {"address": "r:5", "username": "me"}, text)
    assert says in failure.message
    assert failure.detail == text


@pytest.mark.parametrize(
    ("reference", "text", "says", "hint"),
    [
        (
            "lab/torch:2",
            'Error: short-name "lab/torch:2" did not resolve to an alias and no '
            'unqualified-search registries are defined in "/etc/containers/registries.conf"',
            "does not know which registry lab/torch:2 is in",
            "docker.io/lab/torch:2",
        ),
        (
            "ubuntu:24.04",
            'Error: short-name "ubuntu:24.04" did not resolve to an alias and no '
            "unqualified-search registries are defined",
            "does not know which registry ubuntu:24.04 is in",
            "docker.io/library/ubuntu:24.04",
        ),
        (
            "localhost/nothere:1",
            "Error: initializing source docker://localhost/nothere:1: pinging container registry "
            'localhost: Get "https://localhost/v2/": dial tcp 127.0.0.1:443: connect: connection '
            "refused",
            "this machine has no image localhost/nothere:1",
            "podman images",
        ),
    ],
)
def test_what_podman_means_by_a_name(reference, text, says, hint) -> None:
    engine = engines.Engine("podman", "/usr/bin/podman", "4.3.1", True, {})
    failure = registry.explain(engine, reference, None, text)
    assert says in failure.message
    assert hint in failure.hint


def test_what_podman_has_built_is_looked_for_in_no_registry() -> None:
    engine = engines.Engine("podman", "/no/such/program", "4.3.1", True, {})
    with pytest.raises(EnvironmentFailure, match="this machine has no image localhost/a") as error:
        registry.pull(engine, "localhost/a:1", None, None, lambda line: None, "/not/made")
    assert error.value.detail == ""
    warned = 'time="now" level=warning msg="failed, retrying"\nError: manifest unknown'
    failure = registry.explain(engine, "r:5/a:1", None, warned)
    assert failure.detail == "Error: manifest unknown"


RECORDED = {
    "id": f"sha256:{'1' * 64}", "reference": "localhost/rechain:1", "engine": "podman 4.3.1",
    "base": {"reference": "r:5/a:1", "id": f"sha256:{'2' * 64}", "digest": f"sha256:{'3' * 64}"},
}  # fmt: skip


def test_the_image_of_a_run_is_pinned_for_its_replay() -> None:
    image = names.image_spec("a:1", registry={"address": "r:5", "username": "me"}, pull=True)
    pinned = names.pinned_spec(image, RECORDED)
    assert pinned["pinned"] == RECORDED
    assert (pinned["reference"], pinned["built"], pinned["pull"]) == ("r:5/a:1", True, False)
    assert "registry" not in pinned  # its password is nowhere recorded
    other = names.pinned_spec(image, {**RECORDED, "id": f"sha256:{'4' * 64}"})
    assert len({image["digest"], pinned["digest"], other["digest"]}) == 3
    assert names.base_for({**pinned, "base": "r:5/a@sha256:3"}, []) == "r:5/a@sha256:3"


@pytest.mark.parametrize("kind", ["podman", "docker"])
def test_a_login_is_in_memory_only(kind, tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"credsStore": "x", "currentContext": "far"}')
    (tmp_path / "contexts").mkdir()
    engine = engines.Engine(kind, kind, "1", False, {"DOCKER_CONFIG": str(tmp_path)})
    login = {"address": "r:5", "username": "me"}
    with registry.credentials(engine, "r:5/a", login, "hunter2") as extra:
        ((name, value),) = extra.items()
        path = value if name == "REGISTRY_AUTH_FILE" else f"{value}/config.json"
        inside = path if kind == "podman" else os.readlink(path)
        assert os.readlink(inside) == "/memfd:rechain-login (deleted)"
        with open(path) as file:
            document = json.load(file)
        assert document["auths"] == {"r:5": {"auth": "bWU6aHVudGVyMg=="}}
        if kind == "docker":
            assert document["currentContext"] == "far"
            assert "credsStore" not in document
            assert os.path.isdir(f"{value}/contexts")
    assert not os.path.exists(path)


def test_who_does_not_log_in_has_no_variables() -> None:
    engine = engines.Engine("podman", "podman", "1", False, {})
    with registry.credentials(engine, "r:5/a", None, None) as extra:
        assert extra == {}
