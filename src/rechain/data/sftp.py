"""SFTP servers, as ssh has it: whose host key is not known is not spoken to.

fsspec's own class trusts whichever host answers.
"""

from __future__ import annotations

import io
import os
from typing import Any

import paramiko  # type: ignore[import-untyped]
from fsspec.implementations.sftp import SFTPFileSystem

__all__ = ["Sftp", "key_of"]


class _Unknown(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Refuses a host that `known_hosts` does not have."""

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        host, _, port = hostname.strip("[").partition("]:")
        option = f"-p {port} " if port else ""
        raise paramiko.SSHException(
            f"the host key of {hostname} ({key.get_name()} {key.fingerprint}) is not known; see "
            f"that it is the right one, then: ssh-keyscan {option}{host} >> ~/.ssh/known_hosts"
        )


class Sftp(SFTPFileSystem):  # type: ignore[misc]
    """An SFTP server with a known host key.

    Args:
        host: its name.
        known_hosts: the file with its key; `~/.ssh/known_hosts` and the system's if left out.
        **settings: see `paramiko.SSHClient.connect`.
    """

    def __init__(self, host: str, known_hosts: str | None = None, **settings: Any) -> None:
        self._known_hosts = known_hosts
        settings.pop("use_listings_cache", None)  # there is none, and ssh knows no such setting
        super().__init__(host, **settings)

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        if self._known_hosts:
            self.client.load_host_keys(os.path.expanduser(self._known_hosts))
        else:
            for path in ("/etc/ssh/ssh_known_hosts", os.path.expanduser("~/.ssh/known_hosts")):
                if os.path.isfile(path):
                    self.client.load_system_host_keys(path)
        self.client.set_missing_host_key_policy(_Unknown())
        self.client.connect(self.host, **self.ssh_kwargs)
        self.ftp = self.client.open_sftp()

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Return a part of a file; all of it is asked for at once, not piece after piece."""
        with self.ftp.open(path, "rb") as file:
            first = start or 0
            last = file.stat().st_size if end is None else end
            return b"".join(file.readv([(first, last - first)]))


def key_of(text: str, passphrase: str | None) -> Any:
    """Return the private key that a text holds.

    Raises:
        paramiko.SSHException: it is none, or the passphrase is another.
    """
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text.strip() + "\n"), passphrase)
        except paramiko.PasswordRequiredException:
            raise
        except (paramiko.SSHException, ValueError):
            continue
    raise paramiko.SSHException("private_key is no private key, or passphrase does not open it")
