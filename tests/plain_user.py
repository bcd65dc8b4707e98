"""A user who is not root, for tests of what such a one may do with an engine.

It has a mount and a pid namespace of its own: this machine's users stay what they are, what only
root may read of the Python that runs the tests is shown to it, and whatever it has started is gone
with it.

    python plain_user.py FOLDER PATH...      # the first process of the two namespaces
"""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["UID", "PlainUser"]

UID = 1234
_NAME = "plain"
_IDS = "100000:65536"
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class PlainUser:
    """A plain user with ids to give away, as rootless podman needs them.

    Args:
        folder: a new folder for all that it has; readable by all.
        groups: the numbers of its further groups.
        variables: its environment variables, beside HOME, PATH and XDG_RUNTIME_DIR.
    """

    def __init__(
        self, folder: str, groups: tuple[int, ...] = (), variables: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.home = f"{folder}/home"
        self._groups = ",".join(map(str, (UID, *groups)))
        self.variables = {
            "HOME": self.home,
            "XDG_RUNTIME_DIR": f"{folder}/run",
            "PATH": f"{os.path.dirname(sys.executable)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:"
            "/usr/bin:/sbin:/bin",
            **(variables or {}),
        }
        self._keeper: subprocess.Popen[bytes] | None = None
        self._pid = ""

    def __enter__(self) -> PlainUser:
        os.chmod(self.folder, 0o755)
        for path in (self.home, self.variables["XDG_RUNTIME_DIR"]):
            os.mkdir(path, 0o700)
            os.chown(path, UID, UID)
        for name, line in (
            ("passwd", f"{_NAME}:x:{UID}:{UID}::{self.home}:/bin/sh"),
            ("group", f"{_NAME}:x:{UID}:"),
            ("subuid", f"{_NAME}:{_IDS}"),
            ("subgid", f"{_NAME}:{_IDS}"),
        ):
            known = ""
            if os.path.exists(f"/etc/{name}"):
                with open(f"/etc/{name}", encoding="utf-8") as file:
                    known = file.read()
            with open(f"{self.folder}/{name}", "w", encoding="utf-8") as file:
                file.write(f"{known}{line}\n")
        real = os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))
        self._keeper = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork",
                "--kill-child", "--mount-proc", sys.executable, "-I", os.path.abspath(__file__),
                self.folder, *dict.fromkeys((sys.prefix, sys.base_prefix, real, _ROOT)),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"ready\n", "the namespaces cannot be made"
        pid = self._keeper.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            (self._pid,) = file.read().split()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._keeper is not None
        self._keeper.communicate()  # the first process of a pid namespace takes all along

    def command(self, *argv: str, cwd: str = "") -> list[str]:
        """Return the command line with which root runs something as this user."""
        return [
            "nsenter", f"--target={self._pid}", "--mount", "--pid", f"--wd={cwd or self.home}",
            "setpriv", f"--reuid={UID}", f"--regid={UID}", f"--groups={self._groups}",
            "env", "-i", *(f"{key}={value}" for key, value in self.variables.items()), *argv,
        ]  # fmt: skip

    def run(
        self, *argv: str, cwd: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this user."""
        said = subprocess.run(
            self.command(*argv, cwd=cwd), capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert not check or not said.returncode, (argv, said.stdout, said.stderr)
        return said


def _keep(folder: str, *paths: str) -> None:
    """Show the user what it needs, and stay until stdin ends."""

    def mount(*arguments: str) -> None:
        subprocess.run(["mount", *arguments], check=True)

    for name in ("passwd", "group", "subuid", "subgid"):
        if not os.path.exists(f"/etc/{name}"):
            with open(f"/etc/{name}", "a", encoding="utf-8"):
                pass
        mount("--bind", f"{folder}/{name}", f"/etc/{name}")
    hidden: dict[str, list[str]] = {}
    for path in paths:
        if closed := _closed(path):
            hidden.setdefault(closed, []).append(path)
    for number, (closed, inside) in enumerate(hidden.items()):
        kept = []
        for path in inside:
            if any(path.startswith(f"{other}/") for other in inside):
                continue
            aside = f"{folder}/aside-{number}-{len(kept)}"
            os.mkdir(aside)
            mount("--bind", path, aside)
            kept.append((aside, path))
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", closed)
        for aside, path in kept:
            os.makedirs(path)
            mount("--move", aside, path)
    os.write(1, b"ready\n")
    sys.stdin.read()


def _closed(path: str) -> str:
    """Return the first folder on the way that others may not enter; empty if there is none."""
    way = ""
    for part in os.path.dirname(path).strip("/").split("/"):
        way = f"{way}/{part}"
        if not os.stat(way).st_mode & 0o001:
            return way
    return ""


if __name__ == "__main__":
    _keep(*sys.argv[1:])
