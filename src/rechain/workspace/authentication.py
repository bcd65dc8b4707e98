"""v1's ways to log in: there is nothing to log in to, and nobody is asked."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "AbstractAuthentication",
    "ArmTokenAuthentication",
    "AzureCliAuthentication",
    "AzureMLTokenAuthentication",
    "InteractiveLoginAuthentication",
    "MsiAuthentication",
    "ServicePrincipalAuthentication",
    "TokenAuthentication",
]


class AbstractAuthentication:
    """Takes whatever v1's class of this name takes, and keeps nothing of it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def get_authentication_header(self) -> dict[str, str]:
        """Return nothing: no request is made."""
        return {}

    def get_token(self, *_: Any, **__: Any) -> str:
        """Return an empty text: there is no token."""
        return ""


class ArmTokenAuthentication(AbstractAuthentication):
    """See `AbstractAuthentication`."""


class AzureCliAuthentication(AbstractAuthentication):
    """See `AbstractAuthentication`."""


class AzureMLTokenAuthentication(AbstractAuthentication):
    """See `AbstractAuthentication`."""


class InteractiveLoginAuthentication(AbstractAuthentication):
    """See `AbstractAuthentication`."""


class MsiAuthentication(AbstractAuthentication):
    """See `AbstractAuthentication`."""


class ServicePrincipalAuthentication(AbstractAuthentication):
    """See `AbstractAuthentication`."""


class TokenAuthentication(AbstractAuthentication):
    """See `AbstractAuthentication`."""
