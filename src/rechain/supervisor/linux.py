"""The Linux calls that the standard library lacks, and signals without `enum`."""

from __future__ import annotations

import os

from rechain.record import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signal
    from collections.abc import Callable
else:
    # `signal` is this module wrapped in enums: a third of the supervisor's start.
    import _signal as signal

__all__ = [
    "allocate",
    "answer",
    "ask_group_to_end",
    "become_subreaper",
    "die_with_parent",
    "fork_into",
    "keep_room",
    "listen",
    "reset_signals",
    "signal",
    "start_child",
]

# prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_SYS_CLONE3 = 435
_CLONE_INTO_CGROUP = 0x200000000
_FALLOC_FL_KEEP_SIZE = 1


def _prctl(option: int, value: int) -> None:
    if libc.function("prctl")(option, value, 0, 0, 0):
        raise libc.error("prctl")


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int, parent: int) -> None:
    """Have the kernel send a signal to this process when its parent's thread ends.

    Args:
        signal_number: the signal.
        parent: the pid the parent must have now; if it has died already, nothing would come.

    Raises:
        ProcessLookupError: the parent is gone.
    """
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        raise ProcessLookupError("the parent is gone")


def ask_group_to_end(leader: int) -> None:
    """Send SIGTERM to a process group, and let it run if it was stopped."""
    for number in (signal.SIGTERM, signal.SIGCONT):
        try:
            os.killpg(leader, number)
        except OSError:
            pass  # it has just ended by itself, or has not made its session yet


def listen(on_term: Callable[..., None]) -> int:
    """Have signals wake who waits for events, and SIGTERM call a function.

    Returns:
        The descriptor that becomes readable with each signal.
    """
    wakeup, write = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))  # the guard held it back
    return wakeup


def answer(text: str) -> None:
    """Tell who submitted the run, on stdout."""
    try:
        os.write(1, text.encode())
    except BrokenPipeError:
        pass  # the submitter has died since: the run goes on without it


def reset_signals() -> None:
    """Set the signals back, between fork and exec, to what a program from a shell finds."""
    signal.set_wakeup_fd(-1)
    # Python ignores the last two; a program started from a shell does not inherit that.
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD", "SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def start_child(start: Callable[[], object], fork: Callable[[], int] = os.fork) -> int:
    """Fork; the child leads a session of its own and dies with this process.

    Args:
        start: what the child does, best to become another program; it ends after it.
        fork: as `os.fork`.

    Returns:
        The child's pid.
    """
    parent = os.getpid()
    if child := fork():
        return child
    try:
        os.setsid()
        die_with_parent(signal.SIGKILL, parent)
        reset_signals()
        start()
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(127)


def allocate(path: str, count: int) -> None:
    """Make a file that takes up disk space, to be given back when room is needed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, count)
    finally:
        os.close(descriptor)


def keep_room(descriptor: int, count: int) -> None:
    """Reserve disk space for what will be appended to a file, where the file system can do that.

    Its size stays as it is; truncating it to its size gives back what was not used.
    """
    libc.function("fallocate")(descriptor, _FALLOC_FL_KEEP_SIZE, 0, count)


def fork_into(cgroup: str) -> int:
    """Fork, the child being born in a cgroup; clone3(2), Linux 5.7.

    Moving a process into a cgroup after its birth costs some 10 ms and holds up every fork on the
    machine meanwhile; this costs nothing. Only for a single-threaded process whose child is about
    to exec: the interpreter is not told that it forked.

    Args:
        cgroup: the cgroup's folder.

    Returns:
        The child's pid; 0 in the child.

    Raises:
        OSError: the kernel or a sandbox does not do it; nothing was forked.
    """
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
    # set_tid, set_tid_size, cgroup; 64 bits each.
    fields = (_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, folder)
    arguments = b"".join(field.to_bytes(8, "little") for field in fields)
    try:
        pid = libc.function("syscall")(_SYS_CLONE3, arguments, len(arguments))
    finally:
        os.close(folder)
    if pid < 0:
        raise libc.error("clone3")
    return pid
