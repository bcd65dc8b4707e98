"""v1's key vault: secrets are the variables of the environment here."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Keyvault"]


class Keyvault:
    """Where v1 keeps secrets. Rechain keeps none: they are read from the environment.

    Args:
        workspace: the workspace.
    """

    def __init__(self, workspace: object) -> None:
        self.workspace = workspace

    def get_secret(self, name: str) -> str | None:
        """Return a variable of this process's environment, or None."""
        return os.environ.get(name)

    def get_secrets(self, secrets: list[str]) -> dict[str, str | None]:
        """Return several variables by name."""
        return {name: self.get_secret(name) for name in secrets}

    def list_secrets(self) -> list[dict[str, str]]:
        """Return nothing: no secrets are kept."""
        return []

    def get_secret_content_type(self, name: str) -> None:
        """Return None: a variable has none."""

    def set_secret(self, name: str, value: str, content_type: str | None = None) -> NoReturn:
        """Refuse: no secrets are kept.

        Raises:
            UserErrorException: always.
        """
        raise _keeps_none(name)

    def set_secrets(self, secrets_batch: dict[str, str]) -> NoReturn:
        """Refuse: no secrets are kept.

        Raises:
            UserErrorException: always.
        """
        raise _keeps_none(", ".join(secrets_batch))

    def delete_secret(self, name: str) -> NoReturn:
        """Refuse: no secrets are kept.

        Raises:
            UserErrorException: always.
        """
        raise _keeps_none(name)

    def delete_secrets(self, secrets_batch: list[str]) -> NoReturn:
        """Refuse: no secrets are kept.

        Raises:
            UserErrorException: always.
        """
        raise _keeps_none(", ".join(secrets_batch))


def _keeps_none(names: str) -> UserErrorException:
    return UserErrorException(
        f"{names}: Rechain keeps no secrets. Set a variable of the environment before you submit, "
        "and pass it on with environment_variables."
    )
