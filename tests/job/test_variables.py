"""Which variables reach a job, which are written down, and which never are."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from rechain.exceptions import UserErrorException
from rechain.job.variables import Secret, has_credentials, inherited, is_secret, recorded, split

pytestmark = pytest.mark.fast

ENVIRON = {
    "HOME": "/home/a", "USER": "a", "PATH": "/bin", "LANG": "C", "LC_ALL": "C", "TZ": "UTC",
    "TMPDIR": "/t", "https_proxy": "http://p", "NO_PROXY": "x", "CUDA_VISIBLE_DEVICES": "0",
    "SLURM_JOB_ID": "1", "OMPI_COMM_WORLD_RANK": "0", "PMI_RANK": "0", "OMP_NUM_THREADS": "2",
    "CHAINER_DTYPE": "mixed16", "PYTHONPATH": "/x", "PYTHONHOME": "/x", "LD_LIBRARY_PATH": "/x",
    "LD_PRELOAD": "/x", "VIRTUAL_ENV": "/x", "CONDA_PREFIX": "/x", "CONDA_DEFAULT_ENV": "x",
    "AWS_SECRET_ACCESS_KEY": "x", "EDITOR": "vi",
}  # fmt: skip
NEVER = {
    "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV", "AWS_SECRET_ACCESS_KEY", "EDITOR",
}  # fmt: skip


def test_a_managed_job_inherits_a_list() -> None:
    assert inherited(ENVIRON, managed=True).keys() == ENVIRON.keys() - NEVER


def test_a_user_managed_job_inherits_everything() -> None:
    found = inherited(ENVIRON, managed=False)
    assert found == ENVIRON
    assert found is not ENVIRON


def test_recorded() -> None:
    environ = {
        **ENVIRON,
        "CHAINER_TOKEN": "x",
        "CHAINER_DATASET_ROOT": "http://u:p@host/",
        "MKL_NUM_THREADS": "1",
    }
    assert recorded(environ) == {
        "LANG": "C", "LC_ALL": "C", "TZ": "UTC", "CUDA_VISIBLE_DEVICES": "0",
        "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "1", "CHAINER_DTYPE": "mixed16",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("GITHUB_TOKEN", "x", True),
        ("hf_token", "x", True),
        ("TOKENIZERS_PARALLELISM", "false", False),
        ("DB_PASSWORD", "x", True),
        ("MYSQL_PWD", "x", True),
        ("PWD", "/home", False),
        ("OLDPWD", "/home", False),
        ("AWS_ACCESS_KEY_ID", "x", True),
        ("AWS_SECRET_ACCESS_KEY", "x", True),
        ("WANDB_API_KEY", "x", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", "x", True),
        ("AZURE_STORAGE_CONNECTION_STRING", "x", True),
        ("KEYBOARD", "de", False),
        ("SEED", "1", False),
        ("DATABASE", "postgres://me:pw@host/db", True),
        ("REPO", "https://token@host/x", True),
        ("REPO", "ssh://git@host/x", False),
        ("URL", "https://host/a@b:c", False),
    ],
)
def test_is_secret(name: str, value: str, secret: bool) -> None:
    assert is_secret(name, value) is secret


def test_credentials_anywhere_in_a_text() -> None:
    assert has_credentials("see http://host/ and http://a:b@host/")
    assert not has_credentials("see http://host/ and a:b@host ://")


def test_split() -> None:
    plain, secret = split(
        {"A": "1", "B": 2, "C": 0.5, "D": True, "E": "", "MY_TOKEN": "t", "F": Secret("s"),
         "UNSET": None, "PATH_OF": Path("a/b")}
    )  # fmt: skip
    assert plain == {
        "A": "1", "B": "2", "C": "0.5", "D": "True", "E": "", "PATH_OF": os.path.join("a", "b"),
    }  # fmt: skip
    assert secret == {"MY_TOKEN": "t", "F": "s"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"": "x"}, "must not be empty"),
        ({"A=B": "x"}, "'A=B'"),
        ({1: "x"}, "a int"),
        ({"A": {}}, r"environment_variables\['A'\] is a dict"),
        ({"A": ["x"]}, "is a list"),
        ({"A": "x\0"}, "NUL"),
        ({"RECHAIN_RUN_ID": "x"}, "set by Rechain"),
    ],
)
def test_split_refuses(given: dict[str, object], words: str) -> None:
    with pytest.raises(UserErrorException, match=words):
        split(given)


def test_a_secret_does_not_show() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(UserErrorException):
        Secret(1)  # type: ignore[arg-type]
