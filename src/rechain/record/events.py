"""Wait for something to happen to files and processes of this host (inotify, pidfd).

See inotify(7) and pidfd_open(2).
"""

from __future__ import annotations

import os
import select

from rechain.record import libc

__all__ = ["Watch", "leave_watches_behind", "wait"]

_inotify_init1 = libc.function("inotify_init1")
_inotify_add_watch = libc.function("inotify_add_watch")
_inotify_rm_watch = libc.function("inotify_rm_watch")

# Taking an inotify instance down makes a process wait 10 to 20 ms for the kernel, be it by
# close(2) or by its own end; taking single watches down does not. So instances are kept for the
# next one in need. Each with its process: after a fork, two would steal each other's events.
_spare: list[tuple[int, int]] = []

_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x80, 0x100
_IN_NONBLOCK, _IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_ENOMEM, _ENOSPC = 12, 28


# How often we look where the system tells nothing, in seconds.
_LOOK = 0.2
_LONGEST = 2**31 - 1  # ms, poll's limit


class Watch:
    """Becomes readable when a file in one of the folders appears or grows.

    A user has 128 of them where nobody raised that limit, and every run under way takes one.
    Without one, `wait` returns often enough for the caller to look by itself.
    """

    def __init__(self) -> None:
        self._watches: dict[str, int] = {}
        self._descriptor = -1
        while _spare and self._descriptor < 0:
            process, descriptor = _spare.pop()
            if process == os.getpid():
                self._descriptor = descriptor
            else:
                os.close(descriptor)
        if self._descriptor < 0:
            self._descriptor = _inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)

    def add(self, folder: str) -> None:
        """Watch one more folder.

        Raises:
            OSError: the folder does not exist.
        """
        if self._descriptor < 0:
            return
        mask = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE
        watch = _inotify_add_watch(self._descriptor, os.fsencode(folder), mask)
        if watch >= 0:
            self._watches[folder] = watch
        else:
            error = libc.error(folder)
            if error.errno not in (_ENOSPC, _ENOMEM):
                raise error
            self.close()  # the limit on watched folders

    def remove(self, folder: str) -> None:
        """Watch a folder no longer."""
        watch = self._watches.pop(folder, -1)
        if self._descriptor >= 0 and watch >= 0:
            _inotify_rm_watch(self._descriptor, watch)

    def fileno(self) -> int:
        """Return the descriptor, for `wait`; negative if there is none."""
        return self._descriptor

    def drain(self) -> None:
        """Forget what has happened so far."""
        if self._descriptor < 0:
            return
        try:
            while os.read(self._descriptor, 65536):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Release the watch."""
        if self._descriptor >= 0:
            for watch in self._watches.values():
                _inotify_rm_watch(self._descriptor, watch)
            self.drain()
            _spare.append((os.getpid(), self._descriptor))
            self._descriptor = -1


def leave_watches_behind() -> None:
    """Have a child process take the spare instances down, just before this process ends.

    Only for a process that is ours and has one thread: it forks.
    """
    if _spare and not os.fork():
        os.closerange(0, 3)  # whoever reads our output need not wait for the child
        os._exit(0)


def wait(descriptors: list[int], seconds: float | None, writable: int = -1) -> list[int]:
    """Wait until one of the descriptors is readable.

    Args:
        descriptors: what to wait on; with a negative one among them, not for long.
        seconds: at most this long; None for ever.
        writable: one of them for which it is enough that it can be written to.

    Returns:
        The readable ones; none after `seconds`, or after 24 days, which is as long as poll waits.
    """
    poll = select.poll()
    for descriptor in descriptors:
        if descriptor >= 0:
            also = select.POLLOUT if descriptor == writable else 0
            poll.register(descriptor, select.POLLIN | also)
        else:
            seconds = _LOOK if seconds is None else min(seconds, _LOOK)
    timeout = None if seconds is None else min(max(0, int(seconds * 1000) + 1), _LONGEST)
    return [descriptor for descriptor, _ in poll.poll(timeout)]
