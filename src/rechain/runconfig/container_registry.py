"""Where a container image comes from."""

from __future__ import annotations

from rechain.runconfig.section import Field, Section

__all__ = ["ContainerRegistry", "RegistryIdentity"]


class RegistryIdentity(Section):
    """A managed identity that may read a registry.

    Attributes:
        resource_id: the identity's resource id.
        client_id: the identity's client id.
    """

    resource_id = Field(str)
    client_id = Field(str)


class ContainerRegistry(Section):
    """A container registry.

    Attributes:
        address: its host name, or IP address.
        username: who logs in.
        password: that user's password; kept out of every repr.
        registry_identity: a `RegistryIdentity`, in place of user and password.
    """

    address = Field(str)
    username = Field(str)
    password = Field(str)
    registry_identity = Field(RegistryIdentity)

    def __repr__(self) -> str:
        return f"ContainerRegistry(address={self.address!r}, username={self.username!r})"
