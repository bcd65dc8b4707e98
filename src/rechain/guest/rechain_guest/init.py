"""The first process in a container: it starts the job's script, and ends with its supervisor.

    python -I -S init.py IN OUT

IN and OUT are FIFOs in the attempt's folder, which the container shares with its supervisor. They
belong to the kernel and to no engine: whatever happens to the engine, its client or its daemon,
IN ends when the supervisor does, and so does all that is in the container, since this is process
1 of its pid namespace (pid_namespaces(7)).

IN brings the number of bytes of a JSON document and a newline; the document, with what to run and
its variables, which thus are on no disk, in no command line and in no record of an engine; then
lines: `term` asks the script to end, `term PID` one process of it. OUT takes JSON lines:
`started`, `refused` or `ended`.

SIGTERM to this process, as of an engine whose daemon is restarted, asks the script to end; if that
ends it, nothing is said of the script: it is the container that was ended. A document may call it
deaf: in a Slurm job an engine's client passes on what Slurm sends to all processes, and the
supervisor decides.
"""

import errno
import json
import os
import select
import signal
import sys

__all__ = ["ASK", "become", "main", "oom_kills"]

ASK = signal.SIGRTMIN
"""What asks a rank guard to end its rank in a Slurm job, which sends SIGTERM by itself."""

# Where the cgroup of a container counts processes that were killed for want of memory: cgroup v2
# (memory.events) and v1 (memory.oom_control), Documentation/admin-guide/ of Linux.
_OOM = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


_LIBRARIES = b"LD_LIBRARY_PATH"


class _Line:
    """The line to the supervisor.

    Args:
        inward: path of the FIFO to read.
        outward: path of the FIFO to write.

    Raises:
        OSError: there is no supervisor at their other ends.
    """

    def __init__(self, inward, outward):
        self._in = os.open(inward, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._out = os.open(outward, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._read = b""
        self.alive = True

    def fileno(self):
        return self._in

    def look(self):
        """Read what has come."""
        try:
            data = os.read(self._in, 1 << 20)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
            return
        self.alive = bool(data)
        self._read += data

    def take(self, count):
        """Return the next bytes, waiting for them; None if the supervisor is gone."""
        while len(self._read) < count:
            if not self._wait():
                return None
        data, self._read = self._read[:count], self._read[count:]
        return data

    def take_line(self, wait=False):
        """Return the next line without its end; None if there is none."""
        while b"\n" not in self._read:
            if not wait or not self._wait():
                return None
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def _wait(self):
        # First of all a look: a FIFO that nobody has opened for writing since is no event.
        before = len(self._read)
        self.look()
        if self.alive and len(self._read) == before:
            poll = select.poll()
            poll.register(self._in, select.POLLIN)
            poll.poll()
        return self.alive

    def say(self, event, **fields):
        """Tell the supervisor."""
        try:
            os.write(self._out, (json.dumps(dict(fields, event=event)) + "\n").encode())
        except OSError:
            pass  # it is gone, which `look` sees


def main(inward, outward):
    """Run a script to its end, or to that of the supervisor.

    Args:
        inward: path of the FIFO to read.
        outward: path of the FIFO to write.

    Returns:
        The exit code of the container: the script's, in a shell's words.
    """
    try:
        line = _Line(inward, outward)
    except OSError:
        return 137
    if os.getpid() != 1:  # it would end processes that are not the container's
        line.say("refused", why="the container has another first process: see its options")
        return 127
    length = line.take_line(wait=True)
    document = None if length is None else line.take(int(length))
    if document is None:
        return 137
    job = json.loads(document.decode())
    wakeup, heard = _listen(job["deaf"])
    terms = 0  # how many of them the script has been told of
    oom_before = oom_kills()
    script = _start(job, line)
    if script is None:
        return 127
    line.say("started", pid=script)
    poll = select.poll()
    poll.register(wakeup, select.POLLIN)
    poll.register(line.fileno(), select.POLLIN)
    while True:
        asked = False
        status = _reap(script)
        if status is not None:
            break
        poll.poll()
        line.look()
        if not line.alive:
            return 137  # the kernel ends all the others
        try:
            os.read(wakeup, 4096)
        except OSError:
            pass
        while True:
            word = line.take_line()
            if word is None:
                break
            _, _, pid = word.partition(" ")
            if pid:
                _send(int(pid), os.kill, ASK if job["deaf"] else signal.SIGTERM)
            else:
                asked = True
        if asked or len(heard) > terms:
            terms = len(heard)
            _send(script, os.killpg)
    left = _end_others()
    oom = oom_kills()
    killed = None if oom is None or oom_before is None else oom > oom_before
    if not (heard and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM):
        line.say("ended", status=status, leftover=left, oom=killed)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _listen(deaf):
    """Take note of signals: return what wakes a poll at each, and a list of those that ask."""
    wakeup, writer = os.pipe()
    for descriptor in (wakeup, writer):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(writer)
    heard = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None if deaf else heard.append(True))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wakeup, heard


def _start(job, line):
    """Start the script; return its pid, or None after saying why not."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reader)
            become(job)
        except BaseException as error:
            os.write(writer, str(error).encode()[:1000])
        finally:
            os._exit(127)
    os.close(writer)
    refused = os.read(reader, 4096).decode(errors="replace")
    os.close(reader)
    if refused:
        os.waitpid(pid, 0)
        line.say("refused", why=refused)
        return None
    return pid


def become(job):
    """Become a script; called in a fresh child.

    Args:
        job: `{"argv", "variables", "folder", "stdout", "stderr", "umask"}`, and `path` if more
            programs are found than by the image's PATH; for what process 1 starts `deaf`, whether
            SIGTERM is Slurm's, and `launcher`, whether it is one.

    Raises:
        OSError: it cannot be started.
    """
    signal.set_wakeup_fd(-1)
    for name in ("SIGTERM", "SIGINT", "SIGCHLD", "SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.setsid()
    # A launcher would end its ranks. The engine has it blocked itself in a Slurm job.
    deaf = job.get("launcher") and job["deaf"]
    signal.pthread_sigmask(signal.SIG_BLOCK if deaf else signal.SIG_UNBLOCK, (signal.SIGTERM,))
    os.umask(job["umask"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for descriptor, path, mode in (
        (0, "/dev/null", os.O_RDONLY),
        (1, _bytes(job["stdout"]), flags),
        (2, _bytes(job["stderr"]), flags),
    ):
        opened = os.open(path, mode, 0o644)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
    environment = dict(os.environb)
    environment.update((_bytes(name), _bytes(job["variables"][name])) for name in job["variables"])
    libraries = os.environb.get(_LIBRARIES)
    if libraries and not environment[_LIBRARIES].endswith(libraries):
        environment[_LIBRARIES] += b":" + libraries  # the image's Python may need them
    if job.get("path"):  # in front of what the image has
        before = environment.get(b"PATH", os.defpath.encode())
        environment[b"PATH"] = _bytes(job["path"]) + b":" + before
    if not {b"LANG", b"LC_ALL", b"LC_CTYPE"} & set(environment):
        environment[b"LANG"] = b"C.UTF-8"  # as v1's images have it
    home = environment.get(b"HOME")
    if not home or not os.access(home, os.W_OK):
        environment[b"HOME"] = b"/tmp/home"
        try:
            os.makedirs("/tmp/home", exist_ok=True)
        except OSError:
            pass  # an image without a /tmp for everybody
    os.chdir(_bytes(job["folder"]))
    argv = [_bytes(one) for one in job["argv"]]
    names = [argv[0], b"python3"] if argv[0] == b"python" else argv[:1]
    for name in names:
        for folder in environment.get(b"PATH", os.defpath.encode()).split(b":"):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK) and not os.path.isdir(path):
                os.execve(path, argv, environment)
    raise OSError("there is no {!r} in the image".format(job["argv"][0]))


def _bytes(text):
    """Return a text for the system; Python 3.6 would do so in ASCII where there is no locale."""
    return text.encode("utf-8", "surrogateescape")


def _reap(script):
    """Reap what has ended; return the script's wait status if it is among that."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except OSError:  # no child is left
            return found
        if not pid:
            return found
        if pid == script:
            found = status


def _send(pid, kill, ask=signal.SIGTERM):
    """Ask a process, or a group, to end."""
    for number in (ask, signal.SIGCONT):
        try:
            kill(pid, number)
        except OSError:
            pass  # it has just ended


def _end_others():
    """SIGKILL all other processes of the container; return how many there were."""
    count = sum(1 for name in os.listdir("/proc") if name.isdigit() and _lives(name))
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except OSError:
            return count  # there are none
        try:
            os.waitpid(-1, 0)
        except OSError:
            return count


def _lives(name):
    if int(name) == os.getpid():
        return False
    try:
        with open("/proc/{}/stat".format(name), "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state not in (b"Z", b"X")


def oom_kills():
    """Return how many processes of this container were killed for want of memory, if known."""
    for path in _OOM:
        try:
            with open(path) as file:
                for text in file:
                    if text.startswith("oom_kill "):
                        return int(text.split()[1])
        except (OSError, ValueError):
            continue
    return None


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    os._exit(code)
