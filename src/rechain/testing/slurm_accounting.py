"""Accounting for a throw-away Slurm: slurmdbd over a MariaDB of its own.

Needs the commands of Debian's `slurmdbd` and `mariadb-server`.
"""

from __future__ import annotations

import os
import pwd

__all__ = ["COMMANDS", "NONE", "command", "configure"]

COMMANDS = ("slurmdbd", "mariadbd", "mariadb-install-db", "mariadb-admin", "sacct", "sacctmgr")
"""What must be on PATH, or in the folders of system commands."""

NONE = "AccountingStorageType=accounting_storage/none"
"""The line of slurm.conf for a cluster without."""

_SLURM = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={port}
AccountingStoragePass={munge}"""

_SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={munge}
DbdHost=localhost
DbdPort={port}
SlurmUser={user}
PidFile={root}/slurmdbd.pid
LogFile={root}/log/slurmdbd.log
DebugLevel=verbose
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=throwaway
"""

# Its folder can be entered by this user only, which is all the protection that it needs.
_MARIADB = """\
[mariadbd]
datadir={root}/database/data
socket={root}/database/socket
pid-file={root}/database/pid
skip-networking
skip-grant-tables
user={user}
innodb_buffer_pool_size=64M
innodb_log_file_size=8M
innodb_lock_wait_timeout=900
innodb_flush_log_at_trx_commit=0
[client]
socket={root}/database/socket
"""


def configure(root: str, port: int, munge: str) -> str:
    """Write the settings of the daemons; return the lines for slurm.conf.

    Args:
        root: the cluster's folder.
        port: slurmdbd's.
        munge: munge's socket.
    """
    words = {"root": root, "port": port, "munge": munge, "user": pwd.getpwuid(os.getuid()).pw_name}
    os.mkdir(f"{root}/database", 0o700)
    for name, text in (("slurmdbd.conf", _SLURMDBD), ("mariadb.cnf", _MARIADB)):
        path = f"{root}/{name}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text.format(**words))
    return _SLURM.format(**words)


def command(root: str, name: str) -> tuple[list[str], list[str]]:
    """Return a daemon's command line, and a command that says something once it is up.

    Args:
        root: the cluster's folder.
        name: `mariadbd`, which makes its database first, or `slurmdbd`.
    """
    settings = f"--defaults-file={root}/mariadb.cnf"
    if name == "mariadbd":
        make = f"mariadb-install-db {settings} --skip-test-db"
        make += " --auth-root-authentication-method=normal"
        start = ["bash", "-ec", f"{make}\nexec mariadbd {settings}"]
        return start, ["mariadb-admin", settings, "ping"]
    start = ["env", f"MYSQL_UNIX_PORT={root}/database/socket", "slurmdbd", "-D"]
    return start, ["sacctmgr", "--noheader", "list", "stats"]
