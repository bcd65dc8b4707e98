"""What `rechain target check` runs on a node: `python -I probe.py FOLDER`.

It writes what it finds into the folder, which the submitting machine watches; so the way the files
take is the first thing that is tested. `probe.py FOLDER --pair MPI` tries what may start ranks on
several nodes, and `probe.py FOLDER --rank FAMILY LIBRARY COUNT` is one of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

ROUNDS = 5
_PATIENCE = 60.0  # seconds for the other side to see a file

__all__ = ["ROUNDS"]


def _write(path: str, text: str) -> None:
    with open(f"{path}.tmp", "w") as file:
        file.write(text)
    os.rename(f"{path}.tmp", path)


def _facts() -> dict[str, object]:
    mpi = {name: shutil.which(name) for name in ("mpiexec", "mpirun")}
    return {
        "host": os.uname().nodename,
        "python": sys.version.split()[0],
        "libc": os.confstr("CS_GNU_LIBC_VERSION"),
        "cpus": len(os.sched_getaffinity(0)),
        "mpiexec": next((path for path in mpi.values() if path), None),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "time": time.time(),
    }


def _containers() -> list[dict[str, object]]:
    """Start a small container with each engine of this node, and return what came of it."""
    _find_rechain()
    from rechain.environment import engines, trial
    from rechain.environment.errors import EnvironmentFailure

    found: list[dict[str, object]] = []
    for finding in engines.look():
        engine, why = finding.engine, finding.problem
        if not finding.installed:
            continue
        tried = trial.Trial(0)
        hint = finding.hint
        if engine is not None:
            try:
                tried = trial.start(engine, limits=True)
                why = tried.problem
            except EnvironmentFailure as failure:
                why = failure.message
            hint = trial.hint_for(engine, why)
        title = engine.title if engine is not None else finding.name
        facts = {"works": engine is not None and (not why or tried.without_limits)}
        found.append({**facts, "title": title, "why": why, "hint": hint, "seconds": tried.seconds})
    return found


def _find_rechain() -> None:
    sys.path.append(os.path.abspath(__file__).rpartition("/rechain/")[0])


def _round_trips(folder: str) -> list[float]:
    """Return how long a file took to be answered by a file of the other side, in seconds."""
    times: list[float] = []
    for number in range(ROUNDS):
        begun = time.monotonic()
        _write(f"{folder}/ping-{number}", "")
        while f"pong-{number}" not in os.listdir(folder):
            if time.monotonic() - begun > _PATIENCE:
                return times
            time.sleep(0.01)
        times.append(time.monotonic() - begun)
    return times


def _index() -> str:
    """Return why packages cannot be had on this node; nothing if they can."""
    command = [sys.executable, "-I", "-m", "uv", "pip", "compile", "--no-cache", "--quiet", "-"]
    try:
        done = subprocess.run(
            command, input="six\n", text=True, capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    lines = [line.strip(" ×├─▶╰│") for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else (lines[-1] if lines else "uv failed and said nothing")


def _pair(folder: str, wanted: str) -> None:
    """Try on all nodes of the job what may start ranks."""
    _find_rechain()
    from rechain.environment import mpi, store
    from rechain.environment.errors import EnvironmentFailure
    from rechain.supervisor import launchers

    nodes = int(os.environ["SLURM_JOB_NUM_NODES"])
    mpiexec = shutil.which("mpiexec") or shutil.which("mpirun")
    found: dict[str, object] = {"mpi": None, "tried": []}
    try:
        facts = mpi.ask(store.cache_root(), mpiexec) if mpiexec else None
    except (EnvironmentFailure, OSError) as error:
        found["mpi"] = str(getattr(error, "message", error))
        facts = None
    if facts is not None:
        found["mpi"] = f"{mpi.NAMES[facts['family']]} {facts['version']}"
        environment = {**os.environ}
        launchers.surroundings(environment)
        folder_of_library = facts["variables"].get("LD_LIBRARY_PATH", "")
        library = os.path.join(folder_of_library, mpi.LIBRARIES[facts["family"]])
        rank = [sys.executable, "-I", __file__, folder, "--rank", facts["family"], library]
        found["tried"] = [
            _try(
                [*launchers.launcher(kind, facts, nodes, 1), *rank, str(nodes)], environment, kind
            )
            for kind in launchers.candidates(wanted, facts)
        ]
    _write(f"{folder}/pair.json", json.dumps(found))


def _try(command: list[str], environment: dict[str, str], kind: str) -> dict[str, object]:
    begun = time.monotonic()
    process = subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, errors="replace",
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=_PATIENCE)
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        why = lines[-1] if lines else f"it ended with {process.returncode}"
    except subprocess.TimeoutExpired:
        process.terminate()  # both end their ranks then
        process.wait()
        why = f"not within {_PATIENCE:g} s"
    if process.returncode == _ALONE:
        why = "as many worlds of one rank each"
    seconds = time.monotonic() - begun
    return {"kind": kind, "works": process.returncode == 0, "why": why, "seconds": seconds}


_ALONE = 78


def _rank(family: str, library: str, count: int) -> int:
    """Add up ones with all other ranks, by MPI's C functions; return the exit code."""
    import ctypes

    mpi = ctypes.CDLL(library, ctypes.RTLD_GLOBAL)

    def handle(symbol: str, number: int) -> object:
        # Open MPI's are addresses of its own objects, MPICH's are numbers of its ABI.
        if family == "openmpi":
            return ctypes.byref(ctypes.c_char.in_dll(mpi, symbol))
        return ctypes.c_int(number)

    ones, total = ctypes.c_int(1), ctypes.c_int(0)
    mpi.MPI_Init(None, None)
    mpi.MPI_Allreduce(
        ctypes.byref(ones), ctypes.byref(total), 1, handle("ompi_mpi_int", 0x4C000405),
        handle("ompi_mpi_op_sum", 0x58000003), handle("ompi_mpi_comm_world", 0x44000000),
    )  # fmt: skip
    mpi.MPI_Finalize()
    return 0 if total.value == count else _ALONE


def _main(folder: str) -> None:
    _write(f"{folder}/facts.json", json.dumps(_facts()))
    found = {"round_trips": _round_trips(folder), "index": _index(), "containers": _containers()}
    _write(f"{folder}/found.json", json.dumps(found))


if __name__ == "__main__":
    if "--rank" in sys.argv:
        sys.exit(_rank(sys.argv[3], sys.argv[4], int(sys.argv[5])))
    elif "--pair" in sys.argv:
        _pair(sys.argv[1], sys.argv[3])
    else:
        _main(sys.argv[1])
