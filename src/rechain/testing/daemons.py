"""Daemons that die with the process that started them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["end", "last_words", "start"]

_LINES = 15  # of each daemon's log, when something fails


def start(command: Sequence[str], log: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a daemon.

    Args:
        command: its command line.
        log: the file that takes what it prints.
        environ: its variables.
    """
    with open(log, "ab") as file:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environ,
            cwd="/",
            start_new_session=True,
        )


def end(daemon: subprocess.Popen[bytes], number: int) -> None:
    """End a daemon with a signal, and with SIGKILL if it does not heed that."""
    daemon.send_signal(number)
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def last_words(folder: str) -> str:
    """Return the last lines of the logs in a folder: `NAME.log`, and `NAME.out` without one."""
    text = []
    names = os.listdir(folder)
    for name in sorted(names):
        if name.endswith(".out") and name.replace(".out", ".log") in names:
            continue  # the same once more
        with open(f"{folder}/{name}", errors="replace") as file:
            lines = file.read().splitlines()[-_LINES:]
        if lines:
            text.append("\n".join([f"--- {name}", *lines]))
    return "\n".join(text)
