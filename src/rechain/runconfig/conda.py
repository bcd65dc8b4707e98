"""The conda environments that there are on this machine, as the conda command tells."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["export"]


def export(name: str) -> Any:
    """Return the specification of a conda environment of this machine; None if there is none.

    Raises:
        UserErrorException: there is no conda command, or it fails.
    """
    folders = _conda("env", "list")["envs"]
    if name != "base" and name not in {os.path.basename(folder) for folder in folders}:
        return None
    specification = _conda("env", "export", "--no-builds", "--name", name)
    specification.pop("prefix", None)
    return specification


def _conda(*arguments: str) -> Any:
    import json
    import subprocess

    command = ["conda", *arguments, "--json"]
    try:
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return json.loads(said)
    except FileNotFoundError as error:
        raise UserErrorException(
            "there is no conda command on the PATH, and only conda knows its environments; "
            "write a specification with `conda env export`, and use from_conda_specification.",
            error,
        ) from error
    except subprocess.CalledProcessError as error:
        raise UserErrorException(
            f"`{' '.join(command)}` failed: {error.stderr.strip()}", error
        ) from error
    except ValueError as error:
        raise UserErrorException(f"`{' '.join(command)}` gave no JSON: {error}", error) from error
