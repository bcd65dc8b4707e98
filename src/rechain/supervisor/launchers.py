"""What starts ranks on several nodes of a Slurm job: srun, or the MPI's own mpirun.

Which of them works depends on how Slurm and the MPI were built, and a pair that does not fit
often starts just as well: as many worlds of one rank each. So `auto` proves it: a rank on each
node adds up ones.
"""

from __future__ import annotations

import os
import sys
import time

from rechain.record import jsonl
from rechain.supervisor.linux import signal
from rechain.supervisor.variables import PROGRAM, SOURCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

__all__ = [
    "by_agent",
    "candidates",
    "deafen",
    "launcher",
    "on_each_node",
    "prove",
    "surroundings",
    "tell_agent",
]

# Seconds for a proof, as long as there may be a launcher that is quicker; and for one if there is
# none: MPI looks for networks, and a cold file system has mpi4py.
_PATIENCES = (20, 120)

_TO_LEAVE = 5  # seconds for a launcher to end its ranks

_PROOF = (
    "import sys\n"
    "try:\n"
    "    from mpi4py import MPI\n"
    "except ImportError:\n"
    "    sys.exit(77)\n"
    "sys.exit(0 if MPI.COMM_WORLD.allreduce(1) == int(sys.argv[1]) else 78)\n"
)
_ENDS = {77: "there is no mpi4py", 78: "worlds of one rank each"}

# How Open MPI 4, and PRRTE of Open MPI 5, are told what to start on other nodes.
_DAEMONS = (("OMPI", "orte", "orted"), ("PRTE", "prte", "prted"))


def on_each_node(nodes: int, *arguments: str) -> list[str]:
    """Return the command that starts one process of ours on each node.

    Args:
        nodes: how many.
        *arguments: see `__main__.py`.
    """
    return [*_srun("none", nodes, 1), sys.executable, "-I", "-S", PROGRAM, *arguments]


def _srun(mpi: str, nodes: int, each: int) -> list[str]:
    return [
        "srun", f"--mpi={mpi}", f"--nodes={nodes}", f"--ntasks={nodes * each}",
        f"--ntasks-per-node={each}", "--distribution=block",
        "--kill-on-bad-exit=0", "--wait=0", "--input=none",
    ]  # fmt: skip


def launcher(kind: str, mpi: Mapping[str, Any], nodes: int, each: int) -> list[str]:
    """Return the command that starts ranks, up to what is started.

    Args:
        kind: `srun:<plugin>` or `mpirun`.
        mpi: the facts of the job's MPI.
        nodes: how many nodes.
        each: how many ranks on each.
    """
    if kind.startswith("srun:"):
        return _srun(kind[5:], nodes, each)
    count = str(nodes * each)
    if mpi["family"] != "openmpi":
        return [mpi["mpiexec"], "-bootstrap", "slurm", "-ppn", str(each), "-n", count]
    return [mpi["mpiexec"], *_placed(mpi, each), "-n", count]


def _placed(mpi: Mapping[str, Any], each: int) -> list[str]:
    place = f"ppr:{each}:node"
    if int(mpi["version"].partition(".")[0]) >= 5:
        options = ["--map-by", f"{place}:OVERSUBSCRIBE"]
    else:
        options = ["--map-by", place, "--oversubscribe"]
    return [*options, "--bind-to", "none"]


def by_agent(mpi: Mapping[str, Any], agent: str, nodes: list[str], each: int) -> list[str]:
    """Return the command that starts ranks by a program in place of ssh; see `tell_agent`.

    Args:
        mpi: the facts of the job's MPI.
        agent: that program, as a shell finds it.
        nodes: the nodes, that of the launcher first.
        each: how many ranks on each.
    """
    count = str(len(nodes) * each)
    if mpi["family"] != "openmpi":
        options = ["-bootstrap", "rsh", "-bootstrap-exec", agent]
        # Each node's ranks have what its own container was given, not what the first one's was.
        options += ["-genvnone", "-hosts", ",".join(nodes), "-ppn", str(each)]
    else:
        options = [*_placed(mpi, each), "--host", ",".join(f"{node}:{each}" for node in nodes)]
    return [mpi["mpiexec"], *options, "-n", count]


def tell_agent(environment: dict[str, str], agent: str, deaf: str) -> None:
    """Add to a launcher's variables what Open MPI 4, and PRRTE of Open MPI 5, need for an agent.

    Args:
        environment: the variables.
        agent: the program that is in place of ssh.
        deaf: the program that starts the daemons; as `deafen`.
    """
    for family, name, daemon in _DAEMONS:
        environment[f"{family}_MCA_{name}_launch_agent"] = f"{deaf} {daemon}"
    environment["OMPI_MCA_plm_rsh_agent"] = environment["PRTE_MCA_plm_ssh_agent"] = agent
    # A daemon that leaves its session would end with its container's first process.
    environment["OMPI_MCA_orte_leave_session_attached"] = "1"
    environment["PRTE_MCA_prte_leave_session_attached"] = "1"


def candidates(wanted: str, mpi: Mapping[str, Any]) -> list[str]:
    """Return what may start the ranks, the best first.

    An MPI's own launcher surely speaks its language; srun's plugins were built for some.

    Args:
        wanted: the target's setting.
        mpi: the facts of the job's MPI.
    """
    if wanted != "auto":
        return [wanted]
    return ["mpirun", "srun:pmix" if mpi["family"] == "openmpi" else "srun:pmi2"]


def prove(
    kinds: list[str],
    mpi: Mapping[str, Any],
    nodes: int,
    python: str,
    environment: dict[str, str],
    result: str,
    say: Callable[[str], object],
) -> None:
    """Try what may start ranks, and write the first that works; in a child of the supervisor.

    A launcher that does not fit may hang and not fail: so none keeps the others waiting for long.
    If none is quick enough, those that were cut short get more time.

    Args:
        kinds: what `candidates` returned.
        mpi: the facts of the job's MPI.
        nodes: how many nodes.
        python: the job's interpreter.
        environment: its variables.
        result: path for `{"kind", "text"}`: the kind that works, or None, and a line for people.
        say: takes lines for people, as things happen.
    """
    own = environment.get("PYTHONPATH", "").split(":")
    environment["PYTHONPATH"] = ":".join(path for path in own if not path.startswith(SOURCE))
    tried: dict[str, str] = {}
    left = list(kinds)
    for patience in _PATIENCES:
        for kind in tuple(left):
            command = [*launcher(kind, mpi, nodes, 1), python, "-c", _PROOF, str(nodes)]
            say(f"trying whether {kind} starts ranks on {nodes} nodes: {patience} s at most")
            began = time.monotonic()
            code, said = _try(command, environment, patience)
            seconds = time.monotonic() - began
            if code == 0:
                tried.pop(kind, None)
                text = (
                    f"{kind} starts the ranks: proved with a rank on each node in {seconds:.1f} s"
                )
                text = "; ".join([*tried.values(), text])
                jsonl.write_new(result, {"kind": kind, "text": text})
                return
            if code is not None:
                left.remove(kind)
            lines = [line for line in said.splitlines() if line.strip()]
            why = _ENDS.get(code or 0) or (lines[-1] if lines else f"not within {patience} s")
            tried[kind] = f"{kind} does not work here ({why})"
            print(f"{' '.join(command)}: exit {code}\n{said}", file=sys.stderr, flush=True)
    jsonl.write_new(result, {"kind": None, "text": "; ".join(tried.values())})


def _try(
    command: list[str], environment: Mapping[str, str], patience: float
) -> tuple[int | None, str]:
    """Return a command's exit code, None if it took too long, and what it said."""
    import subprocess

    process = subprocess.Popen(
        command, env=environment, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.terminate()  # all launchers end their ranks then
        try:
            process.wait(_TO_LEAVE)
        except subprocess.TimeoutExpired:
            process.kill()
        return None, ""
    return process.returncode, said


def surroundings(environment: dict[str, str]) -> None:
    """Add to a launcher's variables what Slurm and Open MPI need to be told."""
    environment["SLURM_OVERLAP"] = "1"  # steps share the nodes; older ones do so anyway
    if not any(map(str.isspace, PROGRAM + sys.executable)):  # it is split there
        for family, name, daemon in _DAEMONS:
            agent = f"{sys.executable} -I -S {PROGRAM} --deaf {daemon}"
            environment[f"{family}_MCA_{name}_launch_agent"] = agent
    if os.getuid() == 0:
        for family in ("OMPI", "PRTE"):
            environment[f"{family}_ALLOW_RUN_AS_ROOT"] = "1"
            environment[f"{family}_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"


def deafen(*command: str) -> NoReturn:
    """Become a daemon of Open MPI that does not hear SIGTERM; never returns.

    Slurm sends it to all of a job that must end. The daemons would end with it, and ranks abort
    as soon as theirs is gone, whatever grace there is. They end with mpirun.

    Args:
        *command: the daemon's command line.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    os.execvp(command[0], command)
