"""Prepare the environment of a job in a process of its own: `... JOB_JSON RESULT_JSON [OPTIONS]`.

The supervisor starts this, by module or by import. Lines for people go to stdout as they come; the
outcome goes to RESULT_JSON: `{"schema": 1, "ok": true}` with the `container` it runs in and
`notes`, or `"ok": false` with `cause`, `message`, `hint` and `detail`.
"""

from __future__ import annotations

import os
import sys

from rechain.environment import gpu, packed, store
from rechain.environment.errors import EnvironmentFailure
from rechain.environment.pipconf import in_container
from rechain.record import jsonl
from rechain.record.paths import NodePaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.environment.engines import Engine, Finding

# Options of podman and docker, as users give them.
_LIMITS = {
    "-m", "--memory", "--memory-swap", "--memory-reservation", "-c", "--cpu-shares", "--cpus",
    "--cpu-period", "--cpu-quota", "--cpuset-cpus", "--cpuset-mems", "--pids-limit",
}  # fmt: skip


def main(job: str, result: str, mpiexec: str = "", gpus: str = "") -> int:
    """Prepare the environment of a job.

    Args:
        job: path of its job.json.
        result: path of the outcome to write.
        mpiexec: path of the launcher to ask which MPI it is, for an environment of the user's own.
        gpus: what `gpu.look` found, as JSON, for an environment with a GPU.

    Returns:
        The exit code: 0 if the environment is ready, else 1.
    """
    try:
        document = jsonl.read(job)
        spec = document["environment"]
        engine, notes = _engine(document) if "image" in spec else (None, [])
        if engine is not None and gpus and jsonl.loads(gpus):
            from rechain.environment.trial import check_gpus

            check_gpus(engine)
        found = None
        if spec["kind"] != "user-managed":
            from rechain.environment.prepare import prepare

            if gpus:
                spec = gpu.settled(spec, jsonl.loads(gpus))
            cache = store.cache_root()
            found = prepare(spec, cache, _say)
            if engine is None and (document.get("slurm") or {}).get("node_store"):
                _pack(cache, found)
        elif mpiexec:
            from rechain.environment.mpi import ask

            ask(store.cache_root(), mpiexec)
        container = None
        if engine is not None:
            from rechain.environment.image.ensure import ensure

            password = sys.stdin.read() if "registry" in spec["image"] else None
            carried = bool(document.get("slurm"))
            log = NodePaths(os.path.dirname(result)).image_log
            # .../<workspace>/experiments/<experiment>/<run id>/job.json
            kept = os.path.abspath(f"{job}/../../../../store")
            cache = store.cache_root()
            image = ensure(spec, found, cache, engine, _say, password, log, carried, kept)
            if found is None:
                from rechain.environment.image.own import asked

                image = asked(engine, image, spec, store.cache_root())
                _say("its Python is {version}, {path}".format(**image["interpreter"]))
            # What is installed in an image that is taken as it is has the image's own settings.
            settings = in_container(os.environ) if found is not None else []
            container = {"engine": engine.to_json(), "image": image, "pip": settings}
            notes += _of_loading(image.get("loaded"))
            notes += _not_as_pinned(spec["image"].get("pinned"), image)
    except EnvironmentFailure as failure:
        said = {"message": failure.message, "hint": failure.hint, "detail": failure.detail}
        cause = failure.cause
    except Exception as error:
        # Whatever it is, the run must end with a reason and not in silence.
        import traceback

        said = {
            "message": f"preparing it failed: {type(error).__name__}: {error}",
            "hint": "This is a fault of Rechain: please report it with the run's prepare.log.",
            "detail": traceback.format_exc(),
        }
        cause = "environment"
    else:
        done = {"schema": 1, "ok": True, "container": container, "notes": notes}
        jsonl.write_atomic(result, done)
        return 0
    print(*(text for text in said.values() if text), sep="\n", flush=True)
    jsonl.write_atomic(result, {"schema": 1, "ok": False, "cause": cause, **said})
    return 1


def _engine(job: dict[str, Any]) -> tuple[Engine | None, list[str]]:
    """Return the engine that runs a job's image; without one, and a note, if it need not."""
    spec, limits = job["environment"], list[str]()

    def check(finding: Finding) -> Finding:
        found = tried(finding, cache)
        limits[:] = [found.limits]
        return found

    from rechain.environment import engines
    from rechain.environment.prepare import cache_usable
    from rechain.environment.trial import tried

    cache = store.cache_root()
    try:
        with cache_usable(cache):
            engine, notes = engines.find(check=check)
    except EnvironmentFailure as failure:
        needed = "asked" in spec["image"] or "pinned" in spec["image"]
        needed = needed or bool(os.environ.get(engines.CHOICE))
        if needed or spec.get("strict") or spec["kind"] == "user-managed":
            raise
        why = f"use_docker=True, and {failure.message}: no container is used"
        return None, [f"{why}; `rechain doctor` says what is missing"]
    asked = _limits_of(job)
    if asked and limits[0]:
        notes.append(
            f"{' and '.join(asked)}: limits of memory and CPUs do not hold in containers of "
            f"{engine.title} here ({limits[0].removesuffix('.')})"
        )
    return engine, notes


def _limits_of(job: dict[str, Any]) -> list[str]:
    """Return what limits a job's container is to have, in words."""
    pool = job.get("pool") or {}
    found = ["those of the pool"] if pool.get("memory_gib") or pool.get("cpus") else []
    given = (job.get("container") or {}).get("arguments", ())
    return [*found, *(one for one in given if one.partition("=")[0] in _LIMITS)]


def _not_as_pinned(pinned: dict[str, Any] | None, image: dict[str, Any]) -> list[str]:
    """Say that a replay's image is made of another one than its run's was."""
    if pinned is None:
        return []
    from rechain.environment.image.names import same

    was, now = pinned["base"], image["base"]
    if same(was, now):
        return []
    return [
        f"the image {was['reference']} of the replayed run ({was['id'][7:19]}) cannot be had: "
        f"{now['reference']} is another one now ({now['id'][7:19]})"
    ]


def _of_loading(loaded: dict[str, Any] | None) -> list[str]:
    if loaded is None:
        return []
    return [f"the image was loaded from {loaded['from']} in {loaded['seconds']:.1f} s"]


def _say(line: str) -> None:
    print(line, flush=True)


def _pack(cache: str, found: dict[str, Any]) -> None:
    if found["activation"]:
        _say("note: it has packages of conda, which cannot be moved: it is read where it is")
        return
    try:
        packed.pack(cache, found["prefix"], _say)
    except OSError as error:
        _say(f"note: it cannot be packed ({error.strerror or error})")  # the nodes will say so


code = main(*sys.argv[1:])
sys.stdout.flush()
os._exit(code)  # rattler's threads do not always survive that the interpreter is taken apart
