"""A real, throw-away Slurm cluster of several nodes on one machine.

    with SlurmCluster(nodes=2) as cluster:
        job = cluster.run("sbatch", "--parsable", "job.sh").strip()

All daemons are Slurm's own. Each node is a set of namespaces (unshare(1)) with a host name, an
address on the loopback device, processes and `/dev/shm` of its own: what runs on one node cannot
see the processes of another, and a node that is killed loses all at once, as in a power failure.
The file system is shared, as on most clusters. There are no cgroups: CPUs and memory are what
Slurm schedules by, not what the kernel enforces, so a node may have more CPUs than the machine.

Everything lies in one temporary folder, with munge's own key and socket in it, and every daemon
dies with the process that started it. Needs the commands of Debian's `slurm-wlm` and `munge`, and
root or unprivileged user namespaces; with a network of its own also `iproute2`, and root; with
accounting see `slurm_accounting`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from rechain.testing import daemons, slurm_accounting
from rechain.testing.network import Cables, Loopback, free_ports
from rechain.testing.runs import beside, from_outside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

__all__ = ["COMMANDS", "MPI_VARIABLES", "SlurmCluster", "SlurmClusterError"]

COMMANDS = ("munged", "munge", "slurmctld", "slurmd", "srun", "scontrol", "unshare", "setpriv")
"""What must be on PATH, or in the folders of system commands."""

MPI_VARIABLES = {
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_oob_tcp_if_include": "lo",
    "UCX_TLS": "self,tcp",
    "UCX_NET_DEVICES": "lo",
    "FI_PROVIDER": "tcp",
}
"""What MPIs must be told on such a cluster: that the nodes' only network is the loopback device
(`eth0`, if they have one of their own), and that they share no memory, though they are one
machine."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Inside of a node's namespaces: its name and its own files; then bash reaps what loses its parent.
_NODE = """
hostname "$1" && mount --bind "$2" /etc/hosts && mount -t tmpfs tmpfs /dev/shm || exit
name=$1; conf=$3
if [ -n "$4" ]; then
    until ip link set eth0 up 2>/dev/null; do sleep 0.02; done  # it is put here from outside
    ip address add "$4/24" dev eth0 && ip link set lo up || exit
fi
slurmd -D -N "$name" -f "$conf" &
wait
"""


class SlurmClusterError(Exception):
    """The cluster could not be started, or a command of it failed; the message says why."""


class SlurmCluster:
    """A cluster, which runs while its context is entered.

    Its partitions are `main`, the default; `low`, whose jobs are requeued when a job of another
    one needs their place; and `high`, which goes first.

    Args:
        nodes: how many nodes it has, named `n1`, `n2` and so on.
        cpus: CPUs of each.
        memory: memory of each, in MB.
        kill_wait: seconds between SIGTERM and SIGKILL when a job must end.
        node_timeout: seconds without an answer until a node counts as lost. `kill_node` need not
            wait for it. A short one would be wrong on a busy machine.
        network: give the cluster a network of its own: a bridge, at which the controller is and
            each node with a cable that can be cut. The thread that enters the context, and what it
            starts, is on it until it leaves; nothing else of the machine is.
        seconds: how long all may take to start.
        extra: further lines for slurm.conf, such as more partitions.
        accounting: whether there is a slurmdbd, which starts in some seconds.

    Attributes:
        nodes: the nodes' names.
        root: the folder with everything in it; gone afterwards.
        environment: the variables by which Slurm's commands find this cluster.
    """

    def __init__(
        self,
        nodes: int = 2,
        *,
        cpus: int = 4,
        memory: int = 4000,
        kill_wait: int = 5,
        node_timeout: int = 300,
        network: bool = False,
        seconds: float = 120,
        extra: str = "",
        accounting: bool = False,
    ) -> None:
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.root = ""
        self.environment: dict[str, str] = {}
        self._cpus = cpus
        self._memory = memory
        self._kill_wait = kill_wait
        self._node_timeout = node_timeout
        self._seconds = seconds
        self._extra = extra
        self._network = Cables() if network else Loopback()
        self._accounting = accounting
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> SlurmCluster:
        """Start the cluster, and wait until all its nodes take jobs.

        Raises:
            OSError: the machine has no network or ports for it.
            SlurmClusterError: it does not start; the ends of the daemons' logs are in the message.
        """
        path = f"{os.environ.get('PATH', os.defpath)}:{_PATH}"
        needed = (*COMMANDS, *["ip"] * isinstance(self._network, Cables))
        needed += slurm_accounting.COMMANDS * self._accounting
        lacking = [command for command in needed if shutil.which(command, path=path) is None]
        if lacking:
            raise SlurmClusterError(
                f"there is no {', '.join(lacking)} here: install slurm-wlm, munge and util-linux; "
                "for a network iproute2, for accounting slurmdbd and mariadb-server"
            )
        # Short: a Unix socket's path has 107 characters at most.
        self.root = tempfile.mkdtemp(prefix="slurm-", dir="/tmp")
        os.chmod(self.root, 0o755)
        self.environment = {"SLURM_CONF": f"{self.root}/slurm.conf"}
        try:
            self._network.enter()
            self._configure()
            self._start_munge()
            self._start_accounting()
            self._start_controller()
            for name in self.nodes:
                self._start_slurmd(name)
            for name in self.nodes:
                self._await_node(name)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the cluster, and whatever runs on it."""
        self._stop()

    # What a test does with it.

    def run(self, *command: str, **settings: object) -> str:
        """Run a command that finds this cluster, such as `sbatch`; return what it prints.

        Args:
            *command: the command line.
            **settings: for `subprocess.run`: `cwd`, `input`, `env`, which is added to this
                process's own.

        Raises:
            SlurmClusterError: it fails; the message has what it said.
        """
        variables = settings.pop("env", None) or {}
        assert isinstance(variables, dict)
        ended = subprocess.run(  # type: ignore[call-overload]
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**_without_slurm(os.environ), **self.environment, **variables},
            **settings,
        )
        if ended.returncode:
            said = (ended.stderr or ended.stdout).strip()
            raise SlurmClusterError(f"{' '.join(command)}: exit {ended.returncode}: {said}")
        return str(ended.stdout)

    def job(self, number: str | int) -> dict[str, str]:
        """Return what `scontrol show job` says of a job, such as `JobState` and `Restarts`."""
        said = self.run("scontrol", "--oneliner", "show", "job", str(number))
        fields = (word.partition("=") for word in said.split())
        return {name: value for name, equals, value in fields if equals}

    def start_now(self, number: str | int) -> None:
        """Let a requeued job start soon: Slurm gives it two minutes before its next start.

        Not in this very second: slurmd does not start a job again in the second in which it was
        ended ("already killed, do not launch batch job").
        """
        self.run("scontrol", "update", f"jobid={number}", "starttime=now+2")

    def kill_node(self, name: str, *, notice: bool = True) -> None:
        """Take a node's power away: its slurmd and all that runs on it are gone.

        Args:
            name: the node.
            notice: have the controller see it now, and not only after `node_timeout`.
        """
        daemons.end(self._daemons.pop(name), signal.SIGKILL)
        if notice:
            self._notice(name)

    def cut_off(self, name: str, *, notice: bool = True) -> None:
        """Let Slurm lose a node that lives on, as when its network fails; see `rejoin`.

        Where the cluster has a network of its own, the node's cable is cut; else only its slurmd
        falls silent.

        Args:
            name: the node.
            notice: have the controller see it now, and not only after `node_timeout`.
        """
        if isinstance(self._network, Cables):
            self._network.cut(name)
        else:
            self._signal_slurmd(name, signal.SIGSTOP)
        if notice:
            self._notice(name)

    def rejoin(self, name: str) -> None:
        """Let Slurm have a node again that was cut off, and wait until it takes jobs."""
        if isinstance(self._network, Cables):
            self._network.mend(name)
        else:
            self._signal_slurmd(name, signal.SIGCONT)
        self._await_node(name, resume=True)

    def start_node(self, name: str) -> None:
        """Start a node that was killed, and wait until it takes jobs."""
        if name not in self._daemons:
            self._start_slurmd(name)
        self._await_node(name, resume=True)

    def restart_controller(self, *, meanwhile: Callable[[], object] | None = None) -> None:
        """Kill slurmctld, and start it again from its state.

        Args:
            meanwhile: is called while there is no controller.
        """
        # A moment's state would be lost with SIGKILL: it writes it every few seconds.
        daemons.end(self._daemons.pop("slurmctld"), signal.SIGTERM)
        if meanwhile is not None:
            meanwhile()
        self._start_controller()
        for name in self.nodes:
            if name in self._daemons:
                self._await_node(name)

    def restart_accounting(self, *, meanwhile: Callable[[], object]) -> None:
        """Stop slurmdbd, and start it again; `meanwhile` is called while there is none."""
        daemons.end(self._daemons.pop("slurmdbd"), signal.SIGTERM)
        meanwhile()
        self._start_accounting_daemon("slurmdbd")

    def processes(self, node: str) -> list[int]:
        """Return the pids, as this machine sees them, of all that runs on a node."""
        init = self._init_of(node)
        return [] if init is None else beside(init)

    def pid_of(self, node: str, pid: int) -> int:
        """Return this machine's pid of a process that knows itself by another one on a node.

        Raises:
            ProcessLookupError: there is none.
        """
        return from_outside(self.processes(node), pid)

    def logs(self) -> str:
        """Return the last lines of all daemons' logs."""
        return daemons.last_words(f"{self.root}/log")

    # How it comes up and goes down.

    def _configure(self) -> None:
        for folder in ("log", "state", "munge", "spool", "tmp"):
            os.mkdir(f"{self.root}/{folder}", 0o755)
        ports = free_ports(len(self.nodes) + 2)
        host = socket.gethostname().partition(".")[0]
        lines = []
        controller = self._network.address(0)
        hosts = ["127.0.0.1 localhost", f"{controller} {host}"]
        for number, name in enumerate(self.nodes, 1):
            address = self._network.address(number)
            hosts.append(f"{address} {name}")
            lines.append(
                f"NodeName={name} NodeHostname={name} NodeAddr={address} Port={ports[number]} "
                f"CPUs={self._cpus} RealMemory={self._memory} State=UNKNOWN"
            )
        _write(f"{self.root}/hosts", "\n".join(hosts) + "\n")
        storage = slurm_accounting.NONE
        if self._accounting:
            storage = slurm_accounting.configure(self.root, ports[-1], self._socket)
        config = _template().format(
            accounting=storage, host=host, address=controller, port=ports[0],
            user=pwd.getpwuid(os.getuid()).pw_name,
            munge=self._socket, root=self.root, nodes="\n".join(lines), extra=self._extra,
            kill_wait=self._kill_wait, node_timeout=self._node_timeout,
        )  # fmt: skip
        _write(f"{self.root}/slurm.conf", config)
        _write(f"{self.root}/cgroup.conf", "CgroupPlugin=autodetect\n")

    @property
    def _socket(self) -> str:
        return f"{self.root}/munge/socket"

    def _start_munge(self) -> None:
        key = f"{self.root}/munge/key"
        descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, os.urandom(128))
        os.close(descriptor)
        self._spawn(
            "munged", "munged", "--foreground", "--force", f"--key-file={key}",
            f"--socket={self._socket}", f"--pid-file={self.root}/munge/pid",
            f"--log-file={self.root}/log/munged.log", f"--seed-file={self.root}/munge/seed",
            "--num-threads=2",
        )  # fmt: skip
        self._await("munged", lambda: self._says("munge", "-n", "-S", self._socket))

    def _start_accounting(self) -> None:
        for name in ("mariadbd", "slurmdbd") if self._accounting else ():
            self._start_accounting_daemon(name)

    def _start_accounting_daemon(self, name: str) -> None:
        command, asks = slurm_accounting.command(self.root, name)
        self._spawn(name, *command)
        self._await(name, lambda: self._says(*asks))

    def _start_controller(self) -> None:
        self._spawn("slurmctld", "slurmctld", "-D", "-f", f"{self.root}/slurm.conf")
        self._await("slurmctld", lambda: "is UP" in self._says("scontrol", "ping"))

    def _start_slurmd(self, name: str) -> None:
        # A node without a disk of its own: PMIx refuses what an earlier start of a job left there.
        for folder, mode in (("tmp", 0o1777), ("spool", 0o755)):
            path = f"{self.root}/{folder}/{name}"
            shutil.rmtree(path, ignore_errors=True)
            os.mkdir(path)
            os.chmod(path, mode)
        user = [] if os.getuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
        address = self._network.address(self.nodes.index(name) + 1)
        own = isinstance(self._network, Cables)
        self._spawn(
            name, "unshare", *user, *["--net"] * own, "--uts", "--pid", "--fork",
            "--kill-child", "--mount-proc",
            "--propagation", "slave", "bash", "-c", _NODE, "node",
            name, f"{self.root}/hosts", f"{self.root}/slurm.conf",
            address if own else "",
        )  # fmt: skip
        if own:
            self._await(name, lambda: self._init_of(name) is not None)
            self._network.plug_in(name, self._init_of(name) or 0)

    def _await_node(self, name: str, *, resume: bool = False) -> None:
        def takes_jobs() -> bool:
            state = self._says("sinfo", "-h", "-N", "-n", name, "-o", "%T").split()[:1]
            if resume and state and state[0].startswith("down"):
                self._says("scontrol", "update", f"nodename={name}", "state=resume")
            return bool(state) and state[0] in ("idle", "mixed", "allocated")

        self._await(name, takes_jobs)

    def _variables(self) -> dict[str, str]:
        variables = {**self.environment, "PATH": f"{os.environ.get('PATH', os.defpath)}:{_PATH}"}
        return variables | {key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ}

    def _spawn(self, name: str, *command: str) -> None:
        log = f"{self.root}/log/{name}.out"
        self._daemons[name] = daemons.start(command, log, self._variables())

    def _await(self, name: str, ready: Callable[[], object]) -> None:
        until = time.monotonic() + self._seconds
        while not ready():
            if self._daemons[name].poll() is not None:
                raise SlurmClusterError(f"{name} ended during its start\n{self.logs()}")
            if time.monotonic() > until:
                raise SlurmClusterError(
                    f"{name} is not ready after {self._seconds:g} s\n{self.logs()}"
                )
            time.sleep(0.05)  # Slurm's daemons tell nobody when they are ready

    def _says(self, *command: str) -> str:
        try:
            return self.run(*command, timeout=self._seconds)
        except (SlurmClusterError, subprocess.TimeoutExpired):
            return ""

    def _notice(self, node: str) -> None:
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=not responding")

    def _signal_slurmd(self, node: str, number: int) -> None:
        for pid in self.processes(node):
            try:
                with open(f"/proc/{pid}/comm") as file:
                    if file.read() == "slurmd\n":
                        os.kill(pid, number)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended

    def _init_of(self, node: str) -> int | None:
        daemon = self._daemons.get(node)
        if daemon is None:
            return None
        with open(f"/proc/{daemon.pid}/task/{daemon.pid}/children") as file:
            children = file.read().split()
        return int(children[0]) if children else None

    def _stop(self) -> None:
        # Nodes first, with all that runs on them: a controller without jobs has nothing to wait
        # for. It and munged get their moment to leave in order.
        for name in reversed(list(self._daemons)):
            soft = name in ("slurmctld", "munged")
            daemons.end(self._daemons.pop(name), signal.SIGTERM if soft else signal.SIGKILL)
        self._network.leave()
        shutil.rmtree(self.root, ignore_errors=True)


def _without_slurm(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those of a cluster around the tests."""
    return {name: value for name, value in environ.items() if not name.startswith("SLURM")}


def _template() -> str:
    with open(f"{os.path.dirname(__file__)}/slurm.conf", encoding="utf-8") as file:
        return file.read()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
