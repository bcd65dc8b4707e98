"""Turn the way a script ended into a cause, and its traceback into one line."""

from __future__ import annotations

import os

from rechain.supervisor.linux import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Outcome", "oom_kills", "read_outcome", "tail"]

_TAIL_BYTES = 65536
_TAIL_LINES = 20
_DATASETS = {
    "fashion_mnist": "fashion-mnist", "mnist": "mnist", "cifar": "cifar10",
    "cifar100": "cifar100", "ptb": "ptb",
}  # fmt: skip
"""Modules of `chainer.datasets`, and what `rechain data chainer` calls what they download."""


class Outcome:
    """How a script ended.

    Attributes:
        cause: a code of the causes table.
        message: one line for people.
        exit_code: what the script returned, or None.
        signal: the signal that ended it, or None.
        detail: the exception's own text, or the last line of stderr.
        hint: what to do about it, where the table of causes does not know.
        tail: the last lines of stderr.
        rank: which rank ended so, or None.
    """

    __slots__ = ("cause", "detail", "exit_code", "hint", "message", "rank", "signal", "tail")

    def __init__(self, cause: str, message: str, detail: str = "", hint: str = "") -> None:
        self.cause = cause
        self.message = message
        self.exit_code: int | None = None
        self.signal: int | None = None
        self.detail = detail
        self.hint = hint
        self.tail: list[str] = []
        self.rank: int | None = None

    @classmethod
    def completed(cls) -> Outcome:
        """Return the outcome of a script that did what it should."""
        outcome = cls("completed", "exit 0")
        outcome.exit_code = 0
        return outcome

    def fields(self) -> dict[str, Any]:
        """Return the fields of the `end` event."""
        names = ("cause", "message", "exit_code", "signal", "detail", "hint", "tail")
        found = {name: getattr(self, name) for name in names}
        return found if self.rank is None else {**found, "rank": self.rank}


def oom_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since boot.

    `/proc/vmstat` counts them for the whole machine, memory cgroups included (Linux 4.13).
    """
    try:
        with open("/proc/vmstat") as file:
            for line in file:
                if line.startswith("oom_kill "):
                    return int(line[9:])
    except OSError:
        pass
    return 0


def read_outcome(status: int, stderr: str, work: str, oom_before: int) -> Outcome:
    """Say how a script ended.

    Args:
        status: the wait status (waitpid(2)).
        stderr: path of its stderr.
        work: its working folder: the innermost traceback line in there is the user's.
        oom_before: `oom_kills()` from before it started.
    """
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL and oom_kills() > oom_before:
            outcome = Outcome("out_of_memory", "killed by the kernel")
        elif number == signal.SIGKILL:
            outcome = Outcome("killed", "signal 9, SIGKILL")
        else:
            outcome = Outcome("user_error", f"signal {number}, {_signal_name(number)}")
        outcome.signal = number
        outcome.tail = tail(stderr)
        return outcome
    code = os.WEXITSTATUS(status)
    if code == 0:
        return Outcome.completed()
    outcome = Outcome("user_error", f"exit {code}")
    outcome.exit_code = code
    outcome.tail = tail(stderr)
    lines = tail(stderr, lines=2000)
    exception, where = _last_traceback(lines, work)
    if exception:
        outcome.hint = _hint(exception, lines)
        name = exception.partition(":")[0].rpartition(".")[2]
        outcome.message = f"exit {code}, {name}" + (f" at {where}" if where else "")
        outcome.detail = exception
    elif outcome.tail:
        outcome.detail = outcome.tail[-1]
    return outcome


def _hint(exception: str, lines: list[str]) -> str:
    """Return what to do where a dataset of Chainer's could not be downloaded; else nothing."""
    kinds = ("urllib.error.", "ConnectionError", "ConnectionResetError", "TimeoutError", "OSError")
    if not (exception.startswith(kinds) or "urlopen" in exception):
        return ""
    if not any("/chainer/dataset/download.py" in line for line in lines):
        return ""
    if any(line.endswith(", in get_cifar100") for line in lines):
        lines = ["/chainer/datasets/cifar100.py"]
    for module, name in _DATASETS.items():
        if any(f"/chainer/datasets/{module}.py" in line for line in lines):
            return (
                "The addresses of Chainer's datasets are dead or slow. Give it the files: "
                f"rechain data chainer {name} --from FOLDER, then --input "
                "CHAINER_DATASET_ROOT=workspaceblobstore/chainer."
            )
    return ""


def _signal_name(number: int) -> str:
    for name in dir(signal):
        if name.startswith("SIG") and name[3] != "_" and getattr(signal, name) == number:
            return name
    return f"SIG{number}"


def tail(path: str, lines: int = _TAIL_LINES) -> list[str]:
    """Return the last lines of a file, without blank ones."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()][-lines:]


def _last_traceback(lines: list[str], work: str) -> tuple[str, str]:
    """Return the exception line and `file:line` of the last traceback; empty without one.

    The frame named is the innermost one in the user's own code.
    """
    start = -1
    for number, line in enumerate(lines):
        if line.startswith("Traceback (most recent call last):"):
            start = number
    if start < 0:
        return _syntax_error(lines, work)
    where = fallback = ""
    for line in lines[start + 1 :]:
        if line.startswith('  File "'):
            path, _, rest = line[8:].partition('", line ')
            number_text = rest.partition(",")[0]
            shown = _inside(path, work)
            if shown:
                where = f"{shown}:{number_text}"
            else:
                fallback = f"{os.path.basename(path)}:{number_text}"
        elif line and not line[0].isspace():
            return line, where or fallback
    return "", ""


def _syntax_error(lines: list[str], work: str) -> tuple[str, str]:
    """A SyntaxError in the script itself prints a location but no traceback header."""
    if lines and lines[-1].partition(":")[0] in ("SyntaxError", "IndentationError", "TabError"):
        for line in reversed(lines):
            if line.startswith('  File "'):
                path, _, number = line[8:].partition('", line ')
                shown = _inside(path, work) or os.path.basename(path)
                return lines[-1], f"{shown}:{number.partition(',')[0]}"
    return "", ""


def _inside(path: str, work: str) -> str:
    """Return the path relative to the working folder, or nothing if it is not in there."""
    if path.startswith("<"):  # "<string>", "<frozen importlib._bootstrap>"
        return ""
    if path.endswith((".pyx", ".pxi")) and not os.path.exists(f"{work}/{path}"):
        return ""  # the source of a compiled module, relative to where it was built
    if not path.startswith("/"):
        return path
    folder = work + "/"
    return path[len(folder) :] if path.startswith(folder) else ""
