"""What git knows about a source folder, read while the rest of the submission goes on."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Facts", "start", "without_credentials"]

_MOST = 16 << 20  # a larger patch is data, not a change of code
_QUESTIONS = {
    # One call for commit, branch and whether there are changes.
    "status": ("status", "--porcelain=v2", "--branch", "--ignore-submodules=dirty"),
    "remote": ("config", "--get", "remote.origin.url"),
    "patch": ("diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--no-color"),
}
# These would make git speak of another repository than the folder's.
_MISLEADING = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"}


class Facts:
    """The answers of git processes that are running.

    Args:
        processes: for each question the process id and the descriptor its answer comes from.

    Attributes:
        notes: what could not be found out, once `result` has returned.
    """

    def __init__(self, processes: dict[str, tuple[int, int]]) -> None:
        self.notes: list[str] = []
        self._processes = processes

    def result(self, timeout: float = 5.0) -> tuple[dict[str, str], bytes | None]:
        """Wait for git, for `timeout` seconds at most.

        Returns:
            The run's properties, by v1's names, and the changes since the commit as a patch that
            `git apply` takes; None if there are none, or too many to keep.
        """
        deadline = time.monotonic() + timeout
        answers = {}
        for question, (process, descriptor) in self._processes.items():
            answers[question] = self._answer(question, process, descriptor, deadline)
        self._processes = {}
        properties = _properties(answers["status"] or b"", answers["remote"] or b"")
        return properties, answers["patch"] or None

    def close(self) -> None:
        """End what still runs; the answers are not wanted any more."""
        for process, descriptor in self._processes.values():
            os.close(descriptor)
            _end(process, kill=True)
        self._processes = {}

    def _answer(
        self, question: str, process: int, descriptor: int, deadline: float
    ) -> bytes | None:
        import select

        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        parts: list[bytes] = []
        size = 0
        why = ""
        while not why:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                why = "git took too long"
            elif not (data := os.read(descriptor, 1 << 16)):
                break
            else:
                parts.append(data)
                size += len(data)
                if size > _MOST:
                    why = f"it is larger than {_MOST >> 20} MiB"
        os.close(descriptor)
        ended_well = _end(process, kill=bool(why))
        if why:
            self.notes.append(f"git's {question} is not recorded: {why}.")
        return b"".join(parts) if ended_well and not why else None


def start(directory: str, environ: Mapping[str, str] | None = None) -> Facts | None:
    """Ask git about a folder; None, at the cost of a few `stat` calls, outside a repository."""
    if not _in_repository(os.path.abspath(directory)):
        return None
    environment = {
        name: value
        for name, value in (os.environ if environ is None else environ).items()
        if name not in _MISLEADING
    }
    # Git must not wait for a terminal, nor hold a lock that the user's own git stumbles over.
    environment.update(GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0", LC_ALL="C")
    processes: dict[str, tuple[int, int]] = {}
    try:
        for question, arguments in _QUESTIONS.items():
            processes[question] = _spawn(directory, arguments, environment)
    except OSError:  # there is no git on this machine
        Facts(processes).close()
        return None
    return Facts(processes)


def without_credentials(url: str) -> str:
    """Return a URL, or a text with some, without the passwords, or tokens, that it may hold."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    user, at, machine = host.rpartition("@")
    # In front of ssh's host the user is part of the address; with http it is a credential.
    keep = f"{user.split(':', 1)[0]}@" if at and scheme.endswith("ssh") else ""
    return f"{scheme}://{keep}{machine}{slash}{without_credentials(path)}"


def _in_repository(directory: str) -> bool:
    while True:
        if os.path.exists(f"{directory}/.git"):
            return True
        parent = os.path.dirname(directory)
        if parent == directory:
            return False
        directory = parent


def _spawn(
    directory: str, arguments: tuple[str, ...], environment: dict[str, str]
) -> tuple[int, int]:
    # fsmonitor is a program that a repository may name: reading facts must not run it.
    argv = ["git", "-C", directory, "-c", "core.fsmonitor=false", *arguments]
    read, write = os.pipe()
    try:
        process = os.posix_spawnp(
            "git",
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, write, 1),
                (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
            ],
        )
    except OSError:
        os.close(read)
        raise
    finally:
        os.close(write)
    return process, read


def _end(process: int, kill: bool) -> bool:
    """Reap a process; return whether it ended well."""
    try:
        if kill:
            import signal

            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    except (ChildProcessError, ProcessLookupError):
        return True  # the host program reaps every child itself: judge by what was said
    return status == 0


def _properties(status: bytes, remote: bytes) -> dict[str, str]:
    if not status:
        return {}
    facts: dict[str, str] = {}
    dirty = False
    for line in status.decode("utf-8", "replace").splitlines():
        name, _, value = line.removeprefix("# ").partition(" ")
        if line.startswith("# "):
            facts[name] = value
        else:
            dirty = True
    found = {}
    if url := remote.decode("utf-8", "replace").strip():
        url = without_credentials(url)
        found["azureml.git.repository_uri"] = found["mlflow.source.git.repoURL"] = url
    if (branch := facts.get("branch.head", "(detached)")) != "(detached)":
        found["azureml.git.branch"] = found["mlflow.source.git.branch"] = branch
    if (commit := facts.get("branch.oid", "(initial)")) != "(initial)":
        found["azureml.git.commit"] = found["mlflow.source.git.commit"] = commit
    found["azureml.git.dirty"] = str(dirty)
    return found
