"""In what two runs differ: what came out, and which of what went in."""

from __future__ import annotations

from rechain.compare import compare_files
from rechain.exceptions import SnapshotException, UserErrorException
from rechain.job import snapshot
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rechain.workspace.run import Run

    Rows = list[dict[str, str]]

__all__ = ["check_ended", "differences"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_SHOWN = 5


def differences(first: Run, second: Run) -> dict[str, Any]:
    """Return in what two ended runs differ.

    Args:
        first: a run.
        second: another run.

    Returns:
        `same`: whether all that they made is the same; `compared`: how many files were;
        `outputs`: `{"file", "text"}` for each place in which they are not, metrics under the name
        `metrics`; `changes`: `{"what", "text"}` for what went in and is not the same, where
        `what` is `code`, `environment`, `container`, `data`, `seed`, `threads`, `arguments`,
        `variables` or `machine`.

    Raises:
        UserErrorException: one of them has not ended, or a file cannot be read.
    """
    for run in (first, second):
        check_ended(run)
    try:
        count, outputs = _outputs(first, second)
    except OSError as error:
        raise UserErrorException(
            f"{error.filename} cannot be compared: {error.strerror}", error
        ) from error
    changes = [{"what": what, "text": text} for what, text in _changes(first, second)]
    return {"same": not outputs, "compared": count, "outputs": outputs, "changes": changes}


def check_ended(run: Run) -> None:
    """See whether a run has ended.

    Raises:
        UserErrorException: it has not, so there is nothing to compare it by.
    """
    if run._state().end is None:
        raise UserErrorException(f"the run {run.id} has not ended: there is no end to compare")


def _outputs(first: Run, second: Run) -> tuple[int, Rows]:
    from rechain.compare import values
    from rechain.workspace import files

    rows: Rows = []
    made = []
    for run in (first, second):
        ours = files.logs(run._paths)
        listed = files.listing(run._paths)
        made.append({file.name: file.paths[0] for file in listed if file.name not in ours})
    for name in sorted({*made[0], *made[1]}):
        if name not in made[0] or name not in made[1]:
            only = first if name in made[0] else second
            rows.append({"file": name, "text": f"only in {only.id}"})
            continue
        for text in compare_files(made[0][name], made[1][name]):
            rows.append({"file": name, "text": text})
    metrics = [
        {name: value for name, value in run.get_metrics().items() if not values.is_time(name)}
        for run in (first, second)
    ]
    found = values.compare(metrics[0], metrics[1])
    rows += [{"file": "metrics", "text": text} for text in found]
    ends = [run._state().end or {} for run in (first, second)]
    if ends[0]["cause"] != ends[1]["cause"]:
        rows.append({"file": "end", "text": f"{ends[0]['cause']} and {ends[1]['cause']}"})
    return len({*made[0], *made[1]}), rows


def _changes(first: Run, second: Run) -> Iterator[tuple[str, str]]:
    one, other = first._job, second._job
    yield from (("code", text) for text in _code(first, second))
    yield from (("environment", text) for text in _locks(_lock(first), _lock(second)))
    yield from (("container", text) for text in _containers(_lock(first), _lock(second)))
    yield from (("data", text) for text in (*_data(one, other), *_inputs(first, second)))
    for text in _mapped(_seeds(one), _seeds(other)):
        yield "seed", text
    for text in _mapped(_threads(first), _threads(second)):
        yield "threads", text
    if one["command"] != other["command"]:
        yield "arguments", f"{' '.join(one['command'])} and {' '.join(other['command'])}"
    told = [{**job.get("inherited", {}), **job["variables"]} for job in (one, other)]
    for variables in told:
        for name in [name for name in variables if name in _THREADS or _is_seed(name)]:
            del variables[name]
    for text in _mapped(*told):
        yield "variables", text
    hosts = [_host(run) for run in (first, second)]
    if hosts[0] != hosts[1]:
        yield "machine", f"{hosts[0]} and {hosts[1]}"


def _code(first: Run, second: Run) -> list[str]:
    digests = [run._job["source"].get("snapshot") for run in (first, second)]
    if digests[0] == digests[1]:
        return []
    held: list[dict[str, Any]] = []
    for run, digest in zip((first, second), digests, strict=True):
        try:
            entries = snapshot.manifest(run.experiment.workspace._paths.store, str(digest))
        except SnapshotException:
            return [f"snapshots {str(digests[0])[:12]} and {str(digests[1])[:12]}"]
        held.append({path: rest for path, *rest in entries})
    return _limited(
        f"{name} {_how(name in held[0], name in held[1])}"
        for name in sorted({*held[0], *held[1]})
        if held[0].get(name) != held[1].get(name)
    )


def _lock(run: Run) -> dict[str, Any]:
    try:
        lock: dict[str, Any] = jsonl.read(run._paths.lock)
    except (OSError, ValueError):
        return {}
    return lock


def _locks(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    facts = []
    for lock in (one, other):
        interpreter = lock.get("interpreter", {})
        python = {"Python": interpreter.get("version")}
        if lock.get("kind") == "user-managed":
            python["interpreter"] = interpreter.get("realpath")
        mpi = lock.get("mpi") or {}
        packages = [*lock.get("conda", {}).get("packages", []), *lock.get("packages", [])]
        facts.append(
            {
                **{name: text for name, text in python.items() if text},
                **({"MPI": f"{mpi['family']} {mpi['version']}"} if mpi else {}),
                **{package["name"]: str(package["version"]) for package in packages},
            }
        )
    return _limited(_mapped(*facts))


def _containers(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    """Say in what containers differ: by what an image is built on, since a build has a date."""
    from rechain.environment.image.names import same

    was, now = one.get("image"), other.get("image")
    if (was or now) and not (was and now and same(was["base"], now["base"])):
        yield f"image: {_image(was)} and {_image(now)}"
    if was and now and was["engine"] != now["engine"]:
        yield f"engine: {was['engine']} and {now['engine']}"


def _image(image: dict[str, Any] | None) -> str:
    base = image["base"] if image else None
    return f"{base['reference']} ({base['id'][7:19]})" if base else "none"


def _data(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    seen = [job.get("seen") or {} for job in (one, other)]
    for path in sorted({*seen[0], *seen[1]}):
        before, after = seen[0].get(path), seen[1].get(path)
        if before is None or after is None:
            yield f"{path} {_how(before is not None, after is not None)}"
        elif before.get("sha256", before.get("modified")) != after.get(
            "sha256", after.get("modified")
        ):
            sizes = "" if before["size"] == after["size"] else (
                f" ({before['size']} and {after['size']} bytes)"
            )  # fmt: skip
            yield f"{path} changed{sizes}"
    resumed = [(job.get("resumed") or {}).get("files") for job in (one, other)]
    if resumed[0] != resumed[1]:
        yield "the snapshot that it goes on from"


def _inputs(first: Run, second: Run) -> Iterator[str]:
    """Say which inputs are not what they were, by what was recorded when they were brought."""
    read = []
    for run in (first, second):
        try:
            document = jsonl.read(run._paths.inputs)
        except (OSError, ValueError):
            document = {"inputs": []}
        read.append({entry["name"]: entry for entry in document["inputs"]})
    for name in sorted({*read[0], *read[1]}):
        before, after = read[0].get(name), read[1].get(name)
        if before is None or after is None:
            yield f"the input {name} {_how(before is not None, after is not None)}"
            continue
        by = "digest" if before["digest"] and after["digest"] else "version"
        if before[by] == after[by]:
            continue
        files = [
            {path: digest or [size, version] for path, size, version, digest in entry["files"]}
            for entry in (before, after)
            if entry.get("files")
        ]
        changed = [
            f"{path} {_how(path in files[0], path in files[1])}"
            for path in (sorted({*files[0], *files[1]}) if len(files) == 2 else ())
            if files[0].get(path) != files[1].get(path)
        ]
        yield f"the input {name} changed" + (
            f": {', '.join(_limited(changed))}" if changed else ""
        )


def _is_seed(name: str) -> bool:
    return "seed" in name.lower()


def _seeds(job: dict[str, Any]) -> dict[str, str]:
    found = {
        name: text
        for name, text in {**job.get("inherited", {}), **job["variables"]}.items()
        if _is_seed(name)
    }
    arguments = job["command"][1:]
    for at, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.startswith("-") and _is_seed(name):
            found[name] = value if equals else "".join(arguments[at + 1 : at + 2])
    return found


def _threads(run: Run) -> dict[str, str]:
    job = run._job
    told = {**job.get("inherited", {}), **job["variables"]}
    found = {name: told[name] for name in _THREADS if name in told}
    last = run._state().last
    attempt = (last and last.attempt) or {}
    if "OMP_NUM_THREADS" not in found and attempt.get("cpus"):
        found["processors"] = str(attempt["cpus"])
    layout = job["distribution"]
    found["processes"] = str(layout["nodes"] * layout["processes_per_node"])
    return found


def _host(run: Run) -> str:
    last = run._state().last
    host = ((last and last.attempt) or {}).get("host") or {}
    return str(host.get("name", "unknown"))


def _mapped(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*one, *other}):
        before, after = one.get(name), other.get(name)
        if before != after:
            yield f"{name}: {before or 'not there'} and {after or 'not there'}"


def _how(before: bool, after: bool) -> str:
    return "changed" if before and after else "removed" if before else "added"


def _limited(texts: Any) -> list[str]:
    found = list(texts)
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return [*found[:_SHOWN], *more]
