"""A command in an environment, as a script of a run would see it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from typing import Any

from rechain.environment import store
from rechain.job.variables import inherited
from rechain.supervisor.variables import surround

__all__ = ["call", "shell"]


def shell(prompt: str) -> tuple[list[str], dict[str, str]]:
    """Return the user's shell, without the start files that would change what it sees.

    Args:
        prompt: what marks its prompt.

    Returns:
        Its command line, and the variables that it needs.
    """
    import shutil

    own = os.environ.get("SHELL", "")
    bare = {"bash": ["--norc"], "zsh": ["-f"], "sh": [], "dash": [], "ksh": []}
    name = os.path.basename(own)
    if name not in bare or not os.access(own, os.X_OK):
        own = shutil.which("bash") or "/bin/sh"
        name = os.path.basename(own)
    marks = {"bash": "\\w\\$ ", "zsh": "%~%# "}
    mark = marks.get(name, "$ ")
    return [own, *bare[name]], {"PS1": f"({prompt}) {mark}", "PROMPT": f"({prompt}) {mark}"}


def call(
    found: dict[str, Any], cache: str, command: Sequence[str], more: dict[str, str] | None = None
) -> int:
    """Run a command in an environment, and wait for it.

    What it installs with pip is gone when it ends.

    Args:
        found: the environment, as `prepare` returned it.
        cache: the cache that it is in.
        command: the command line.
        more: variables to add.

    Returns:
        Its exit code; 128 + the signal that ended it.

    Raises:
        OSError: it cannot be started.
    """
    variables = {**inherited(os.environ, managed=True), **(more or {})}
    for name in ("TERM", "COLORTERM", "SHELL", "DISPLAY"):
        if name in os.environ:
            variables.setdefault(name, os.environ[name])
    with tempfile.TemporaryDirectory(prefix="rechain-shell-") as packages:
        surround(variables, found, packages)
        variables.setdefault("PYTHONUNBUFFERED", "1")
        # As long as this process lives, the environment is not removed.
        store.use(cache, found["prefix"], f"/proc/{os.getpid()}")
        # Ctrl-C is for the command; a handler, unlike SIG_IGN, is not passed on to it.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            code = subprocess.call(
                [_which(command[0], variables["PATH"]), *command[1:]], env=variables
            )
        finally:
            signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _which(name: str, path: str) -> str:
    import shutil

    return shutil.which(name, path=path) or name
