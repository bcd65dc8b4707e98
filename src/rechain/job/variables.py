"""Environment variables: which a job inherits, which are recorded, which are secrets."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Secret", "has_credentials", "inherited", "is_secret", "recorded", "split"]


class Secret:
    """A value that is passed to the job and never written down.

    Args:
        value: the value.
    """

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise UserErrorException(f"A Secret holds a str, not a {type(value).__name__}.")
        self.value = value

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled: that would write it down")


# What is worth writing down, because it changes results or speed, and can do no harm.
_RECORDED = frozenset(
    {
        "LANG", "LANGUAGE", "TZ", "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED",
        "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    }
)  # fmt: skip
_RECORDED_PREFIXES = ("LC_", "CHAINER_", "CUPY_")

# What else a managed job inherits: who and where it is, the proxies and their certificates, and
# what the scheduler and MPI tell it. Never what makes Python or the loader find other code.
_MANAGED = frozenset(
    {
        "HOME", "USER", "LOGNAME", "SHELL", "PATH", "TERM", "TMPDIR", "XDG_CACHE_HOME",
        "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        "NVIDIA_VISIBLE_DEVICES",
    }
)  # fmt: skip
_MANAGED_PREFIXES = (
    "SLURM_", "OMPI_", "PMI_", "PMIX_", "PRTE_", "I_MPI_", "HYDRA_", "MPICH_", "MPIR_", "UCX_",
)  # fmt: skip

# Looked for at the ends of the words of a name: GITHUB_TOKEN, but not TOKENIZERS_PARALLELISM.
_SECRET_ENDS = tuple(
    word + plural
    for word in (
        "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "PWD", "PASS", "CREDENTIAL",
        "APIKEY", "ACCESSKEY", "SECRETKEY", "WEBHOOK",
    )
    for plural in ("", "S")
)  # fmt: skip
_SECRET_PAIRS = ("API_KEY", "ACCESS_KEY", "ACCOUNT_KEY", "PRIVATE_KEY", "CONNECTION_STRING")


def is_secret(name: str, value: str) -> bool:
    """Say whether a variable looks as if it must not be written down."""
    upper = name.upper()
    if upper in ("PWD", "OLDPWD"):  # a shell's folders, no passwords
        return has_credentials(value)
    return (
        any(word.endswith(_SECRET_ENDS) for word in upper.split("_"))
        or any(pair in upper for pair in _SECRET_PAIRS)
        or upper.endswith("_KEY")
        or has_credentials(value)
    )


def has_credentials(text: str) -> bool:
    """Say whether a text has a URL with credentials in it: `https://user:password@host/`."""
    start = text.find("://")
    while start >= 0:
        host = text[start + 3 :].split("/", 1)[0].split(None, 1)
        user, at, _ = host[0].rpartition("@") if host else ("", "", "")
        # A lone user is no secret for ssh; for http it is how tokens are passed.
        if at and (":" in user or text[:start].lower().endswith(("http", "https"))):
            return True
        start = text.find("://", start + 3)
    return False


def inherited(environ: Mapping[str, str], managed: bool) -> dict[str, str]:
    """Return what a job inherits of its submitter's environment variables.

    Args:
        environ: the submitter's.
        managed: whether Rechain provides the job's Python. Such a job inherits a fixed list; one
            that brings its own inherits everything.
    """
    if not managed:
        return dict(environ)
    return {
        name: value
        for name, value in environ.items()
        if name in _RECORDED
        or name.upper() in _MANAGED
        or name.startswith(_RECORDED_PREFIXES)
        or name.startswith(_MANAGED_PREFIXES)
    }


def recorded(environ: Mapping[str, str]) -> dict[str, str]:
    """Return which inherited variables are written into the record, with their values."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if (name in _RECORDED or name.startswith(_RECORDED_PREFIXES))
        and not is_secret(name, value)
    }


def split(given: Mapping[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    """Part the variables that the user sets into those to write down and secrets.

    Numbers and paths become text, as v1's service did; None is a variable that is not set.

    Raises:
        UserErrorException: a name or a value cannot be an environment variable.
    """
    plain: dict[str, str] = {}
    secret: dict[str, str] = {}
    for name, value in given.items():
        _check_name(name)
        if isinstance(value, Secret):
            text = value.value
        elif value is None:
            continue
        elif isinstance(value, (str, os.PathLike)) or hasattr(value, "__float__"):
            text = str(value)
        else:
            raise UserErrorException(
                f"environment_variables[{name!r}] is a {type(value).__name__}; environment "
                "variables are text: pass a str, a number or a Secret."
            )
        if "\0" in text:
            raise UserErrorException(
                f"environment_variables[{name!r}] has a NUL character, which no environment "
                "variable can hold."
            )
        hidden = isinstance(value, Secret) or is_secret(name, text)
        (secret if hidden else plain)[name] = text
    return plain, secret


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise UserErrorException(
            f"environment_variables has the name {name!r}, a {type(name).__name__}; names are str."
        )
    if not name or "=" in name or "\0" in name:
        raise UserErrorException(
            f"environment_variables has the name {name!r}; a name must not be empty or hold '=' "
            "or NUL."
        )
    if name.startswith("RECHAIN_"):
        raise UserErrorException(
            f"environment_variables sets {name}; names that start with RECHAIN_ are set by "
            "Rechain in every job. Choose another name."
        )
