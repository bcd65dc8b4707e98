"""What is asked of conda, before anything is fetched: packages, channels, conda's own settings."""

import os
import subprocess
import sys

import pytest

from rechain.environment.conda import channels
from rechain.environment.conda.asked import conda_setting, fallback, name_of
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.spec import venv_spec
from rechain.exceptions import UserErrorException

pytestmark = pytest.mark.fast


@pytest.fixture
def environ(tmp_path):
    """The variables of somebody with a HOME and nothing else."""
    return {"HOME": str(tmp_path)}


@pytest.fixture
def condarc(tmp_path, environ):
    """A function that writes conda's settings, and returns them as they are read."""

    def write(text, **variables):
        (tmp_path / ".condarc").write_text(text)
        return channels.read({**environ, **variables})

    return write


def test_a_python_alone_need_not_be_condas(environ):
    for text in ("python=3.6", "python==3.6", "python 3.6", "python=3.6.*", "python>=3.6"):
        assert conda_setting([text, "pip"], [], environ) == (None, "3.6", [])
    assert conda_setting(["python=3.6.15"], [], environ)[1] == "3.6.15"
    assert conda_setting(["pip", "python", " "], ["x"], environ) == (None, None, [])
    said = ["pip=23.0 is not needed: uv installs the packages"]
    assert conda_setting(["python=3.6.2", "pip=23.0"], ["x"], environ) == (None, "3.6.2", said)
    for text in ("python=3.6.8=h1_0", "python>=3.6,<3.8", "python=3.6|3.7", "mine::python=3.6"):
        setting, python, _ = conda_setting([text], ["/c"], environ)
        assert python is None
        assert setting is not None


def test_what_is_asked_is_canonical(environ):
    setting, python, notes = conda_setting(
        ["scipy>=1", "numpy=1.14", "numpy=1.14", "python=3.6", "/d::tool", "azureml-defaults"],
        ["/c"],
        environ,
    )
    assert python is None
    assert setting == {
        "packages": ["file:///d::tool", "numpy=1.14", "python=3.6", "scipy>=1"],
        "channels": ["file:///c", "file:///d"],
        "priority": "strict",
    }
    assert len(notes) == 1
    assert notes[0].startswith("azureml-defaults is not installed")
    assert [name_of(text) for text in setting["packages"]] == ["tool", "numpy", "python", "scipy"]


@pytest.mark.parametrize("text", ["==3", "*", "[x]", "numpy[version", "a::"])
def test_a_package_that_cannot_be_read(text, environ):
    with pytest.raises(UserErrorException, match=r"conda package .* cannot be read") as raised:
        conda_setting([text], ["/c"], environ)
    assert text in raised.value.message


@pytest.mark.parametrize(
    "url",
    ["https://eve:s3cr3t@example.org/c", "https://s3cr3t@example.org/c",
     "https://example.org/t/s3cr3t/c"],
)  # fmt: skip
def test_an_address_with_a_secret_is_refused_and_not_repeated(url, environ):
    for packages, names in ((["x"], [url]), ([f"{url}::x"], ["/c"])):
        with pytest.raises(UserErrorException, match="holds a password or token") as raised:
            conda_setting(packages, names, environ)
        assert "s3cr3t" not in raised.value.message
        assert "eve" not in raised.value.message


def test_names_are_looked_up_as_conda_does(condarc, environ, tmp_path):
    settings = condarc(
        "channel_alias: https://example.org/all\nchannels: [defaults, mine]\n"
        "default_channels: [https://ann:s3cr3t@example.org/t/tok/main]\n"
        "custom_channels: {lab: 'https://lab.example.org'}\nchannel_priority: disabled\n"
    )
    found = channels.addresses([], settings)
    assert found == (["https://example.org/main", "https://example.org/all/mine"], [])
    assert settings.priority == "disabled"
    named = channels.addresses(["nodefaults", "defaults", "lab", "a/label/b"], settings)[0]
    assert named == ["https://lab.example.org/lab", "https://example.org/all/a/label/b"]
    assert str(settings.logins) == "{'example.org': {'CondaToken': 'tok'}}"
    environ["CONDA_CHANNELS"] = "/x,/y"
    assert channels.addresses([], channels.read(environ))[0] == ["file:///x", "file:///y"]


def test_a_token_may_come_from_a_variable(condarc):
    settings = condarc("channels: ['https://${WHO}:${PW}@e.org/c']", WHO="ann", PW="p%40w")
    assert settings.channels == ("https://e.org/c",)
    assert settings.logins["e.org"]["BasicHTTP"] == {"username": "ann", "password": "p@w"}


def test_v1s_channels_are_those_of_nobody(environ):
    found, notes = channels.addresses([], channels.read(environ))
    assert [url.rpartition("/")[2] for url in found] == ["anaconda", "conda-forge"]
    assert notes == []
    assert fallback(environ) is None
    assert channels.addresses(["defaults"], channels.read(environ))[1]
    with pytest.raises(UserErrorException, match="neither a name"):
        channels.addresses(["what is this?"], channels.read(environ))


def test_a_path_of_a_python_does_not_go_with_packages_of_conda(environ):
    setting, _, _ = conda_setting(["tool"], ["/c"], environ)
    with pytest.raises(UserErrorException, match="come with a Python of their own"):
        venv_spec("plain", sys.executable, conda=setting)
    first, other = (
        venv_spec("plain", conda=one) for one in (setting, {**setting, "channels": []})
    )
    assert first["kind"] == "conda"
    assert first["digest"] != other["digest"] != venv_spec("plain")["digest"]


def test_without_the_extra_the_command_that_installs_it_is_said(monkeypatch, environ):
    monkeypatch.setitem(sys.modules, "rattler", None)
    with pytest.raises(EnvironmentFailure) as raised:
        channels.need_rattler()
    assert raised.value.hint == "Install it with: pip install 'rechain[conda]'"
    with pytest.raises(UserErrorException, match=r"pip install 'rechain\[conda\]'"):
        conda_setting(["numpy"], [], environ)
    assert conda_setting(["python=3.6"], [], environ)[1] == "3.6"  # which needs none


def test_what_asks_nothing_of_conda_does_not_load_rattler():
    code = (
        "import os, sys\n"
        "from rechain.environment.conda.asked import conda_setting\n"
        "conda_setting(['python=3.6'], [], os.environ)\n"
        "print('rattler' in sys.modules, 'asyncio' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False False"
    assert os.path.exists(sys.executable)
