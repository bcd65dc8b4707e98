"""What is asked of conda: the `conda` of a job's environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rechain.environment.conda import channels
from rechain.environment.errors import EnvironmentFailure
from rechain.exceptions import UserErrorException

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["conda_setting", "fallback", "name_of"]

# One version of Python, however it is written: any Python of it will do, and need not be conda's.
_PLAIN = re.compile(r"python\s*(?:==|>=|~=|=|\s)\s*(3\.\d+(?:\.\d+)?)(?:\.\*)?")
# Provided inside the job by Rechain; conda has them under the same names as the package index.
_OWNED = "azureml-"


def conda_setting(
    packages: Iterable[str], names: Iterable[str], environ: Mapping[str, str]
) -> tuple[dict[str, Any] | None, str | None, list[str]]:
    """Say what packages are asked of conda.

    Args:
        packages: as conda reads them (`numpy=1.14`, `conda-forge::scipy`), Python among them.
        names: the channels, the first choice first; those of conda's settings if there are none.
        environ: the submitter's environment variables.

    Returns:
        The `conda` of a job's environment, None if no package has to be conda's; then the version
        of Python that is asked for, if one is; and notes.

    Raises:
        UserErrorException: a package or a channel cannot be understood, or py-rattler, which
            deals with them, is not installed.
    """
    wanted, notes = [], []
    for text in filter(None, (package.strip() for package in packages)):
        if text.rpartition("::")[2].startswith(_OWNED):
            notes.append(f"{text} is not installed: Rechain provides it inside the job")
        else:
            wanted.append(text)
    pips = [text for text in wanted if name_of(text) == "pip"]
    others = [text for text in wanted if text not in ("python", *pips)]
    plain = [at[1] for text in others if (at := _PLAIN.fullmatch(text))]
    if len(plain) == len(others) <= 1:
        notes += [
            f"{text} is not needed: uv installs the packages" for text in pips if text != "pip"
        ]
        return None, plain[0] if plain else None, notes
    try:
        channels.need_rattler()
    except EnvironmentFailure as failure:
        raise UserErrorException(f"{failure.message}. {failure.hint}", failure) from failure
    settings = channels.read(environ)
    where, said = channels.addresses(names, settings)
    asked = sorted({_package(text, settings) for text in wanted})
    for text in asked:
        where += [at for at in text.split("::")[:-1] if at not in where]
    made = {"packages": asked, "channels": where, "priority": settings.priority}
    return made, None, [*notes, *said]


def fallback(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what to ask of conda for a Python alone; None if the settings name no channel.

    Args:
        environ: the variables of whoever asks.
    """
    settings = channels.read(environ)
    if not settings.channels:
        return None
    where, _ = channels.addresses((), settings)
    return {"packages": [], "channels": where, "priority": settings.priority}


def name_of(package: str) -> str:
    """Return the name of the package that is asked for."""
    found = re.match(r"[\w.-]+", package.rpartition("::")[2])
    return found[0].lower() if found else package


def _package(text: str, settings: channels.Settings) -> str:
    """Return what is asked for with its channel as an address."""
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    channel, _, rest = text.rpartition("::")
    try:
        if not re.match(r"[A-Za-z0-9_]", rest) or "*" in rest.split("=")[0].split()[0]:
            raise InvalidMatchSpecError("it must begin with the name of a package")
        MatchSpec(rest)
    except InvalidMatchSpecError as error:
        why = str(error).splitlines()[0]
        raise UserErrorException(
            f"conda package {text!r} cannot be read: {why}; write NAME, NAME=VERSION or "
            "CHANNEL::NAME=VERSION",
            error,
        ) from error
    return f"{channels.address(channel, settings)}::{rest}" if channel else rest
