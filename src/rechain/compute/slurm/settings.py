"""What is said once of a Slurm cluster, and what a job then asks of it."""

from __future__ import annotations

import os
import re
import shlex

from rechain.compute import sizes
from rechain.exceptions import ComputeTargetException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["MPI", "PREPARE", "Settings", "request", "size_from_text"]

PREPARE = ("job", "here")
MPI = ("auto", "srun:pmix", "srun:pmi2", "mpirun")

# What a job's own options must not change: the rest of the script is built on them.
_OURS = (
    "job-name", "output", "error", "input", "open-mode", "nodes", "ntasks", "ntasks-per-node",
    "array", "wrap", "export", "export-file", "get-user-env", "chdir", "requeue", "no-requeue",
    "parsable", "test-only", "wait", "dependency", "kill-on-invalid-dep", "uid", "gid",
)  # fmt: skip
_OURS_SHORT = "JoeiNnaDdHW"

_SIZE_KEYS = ("constraint", "gres", "cpus", "memory", "partition")


class Settings:
    """A Slurm target's settings, checked.

    Args:
        partition: the partition of its jobs; the cluster's default if left out.
        qos: their QOS.
        account: the account that they are charged to.
        lowpriority_partition: where runs of low priority go: a partition whose jobs may be
            preempted.
        lowpriority_qos: their QOS, in place of or beside such a partition.
        vm_size: the size of a node where a run names none.
        vm_sizes: sizes of this cluster, by name: `constraint`, `gres`, `cpus`, `memory` (GiB) and
            `partition`, each of which may be left out. Azure's common sizes are known already.
        prologue: a shell file that every job sources first, such as one with `module load`.
        store: the folder of environments; the nodes must see it. The submitter's cache if left
            out.
        node_store: a folder on each node's own disk, to which environments are unpacked from one
            file; `$NAME` in it is a variable of the job. Without it they are read from the store.
        prepare: where environments are built: `job`, on the node; or `here`, before submitting.
        mpi: what starts ranks on several nodes.
        secrets: a file of `NAME=VALUE` lines that only its owner can read; jobs take their secret
            variables from there.
        python: the Python that runs Rechain on the nodes; the submitter's if left out.
        options: further options of sbatch.
        default: whether an `AmlCompute` made from now on is a share of this cluster.

    Raises:
        ComputeTargetException: one of them cannot be used; the message says which.
    """

    def __init__(
        self,
        partition: str | None = None,
        qos: str | None = None,
        account: str | None = None,
        lowpriority_partition: str | None = None,
        lowpriority_qos: str | None = None,
        vm_size: str | None = None,
        vm_sizes: Mapping[str, Mapping[str, Any]] | None = None,
        prologue: str | os.PathLike[str] | None = None,
        store: str | os.PathLike[str] | None = None,
        node_store: str | None = None,
        prepare: str = "job",
        mpi: str = "auto",
        secrets: str | os.PathLike[str] | None = None,
        python: str | os.PathLike[str] | None = None,
        options: Sequence[str] = (),
        default: bool = False,
    ) -> None:
        words = {
            "partition": partition, "qos": qos, "account": account,
            "lowpriority_partition": lowpriority_partition, "lowpriority_qos": lowpriority_qos,
        }  # fmt: skip
        for name, word in words.items():
            _check_word(name, word)
        for name, value, known in (("prepare", prepare, PREPARE), ("mpi", mpi, MPI)):
            if value not in known:
                raise ComputeTargetException(
                    f"{name} is {value!r}; it must be one of {', '.join(known)}."
                )
        if isinstance(options, str):
            raise ComputeTargetException(
                f"options is {options!r}; it must be a list, such as ['--exclusive']."
            )
        sizes_ = {name: _size(name, size) for name, size in (vm_sizes or {}).items()}
        self._fields: dict[str, Any] = {
            **words,
            "vm_size": vm_size or None,
            "vm_sizes": sizes_,
            "prologue": _file("prologue", prologue),
            "store": None if store is None else os.path.abspath(os.path.expanduser(store)),
            "node_store": _node_store(node_store),
            "prepare": prepare,
            "mpi": mpi,
            "secrets": _file("secrets", secrets),
            "python": None if python is None else os.path.abspath(os.path.expanduser(python)),
            "options": [_option(option) for option in options],
            "default": bool(default),
        }
        if vm_size:
            _facts(self._fields, vm_size)

    def to_json(self) -> dict[str, Any]:
        """Return them as the workspace keeps them."""
        return dict(self._fields)

    def notes(self) -> list[str]:
        """Return what is odd about them as seen from this machine; no cluster is asked."""
        from rechain.compute.slurm.commands import SlurmError, call

        found = []
        python = self._fields["python"]
        if python and not os.path.exists(python):
            found.append(f"this machine has no {python}: the nodes must have it")
        try:
            call(["sbatch", "--version"])
        except SlurmError as error:
            found.append(error.message)
        return found


def request(
    settings: Mapping[str, Any], *, vm_size: str | None = None, priority: str | None = None
) -> dict[str, Any]:
    """Return the `slurm` of a job, as docs/run-folder.md describes it.

    Args:
        settings: what `Settings.to_json` returned.
        vm_size: the size of the nodes; the target's own if left out.
        priority: `lowpriority` or `dedicated`, which it is if left out.

    Raises:
        ComputeTargetException: there is no such size, or low priority means nothing there.
    """
    wanted = vm_size or settings["vm_size"]
    facts = _facts(settings, wanted) if wanted else {}
    partition, qos = facts.get("partition") or settings["partition"], settings["qos"]
    if priority == "lowpriority":
        if not (settings["lowpriority_partition"] or settings["lowpriority_qos"]):
            raise ComputeTargetException(
                "vm_priority is 'lowpriority', and the target has neither a partition nor a QOS "
                "for that; add it with --lowpriority-partition or --lowpriority-qos."
            )
        partition = settings["lowpriority_partition"] or partition
        qos = settings["lowpriority_qos"] or qos
    kept = ("account", "prologue", "store", "prepare", "mpi", "secrets", "python", "options")
    return {
        "partition": partition,
        "qos": qos,
        **{name: settings[name] for name in kept},
        "node_store": settings.get("node_store"),  # a newer setting: a target may be without it
        "priority": priority or "dedicated",
        "vm_size": wanted,
        "constraint": facts.get("constraint"),
        "gres": facts.get("gres"),
        "cpus": facts.get("cpus"),
        "memory_gib": facts.get("memory"),
    }


def size_from_text(text: str) -> tuple[str, dict[str, Any]]:
    """Read `NAME=KEY:VALUE,KEY:VALUE`, such as `STANDARD_NC6=cpus:6,memory:56,gres:gpu:k80:1`.

    Raises:
        ComputeTargetException: it is not of that form.
    """
    name, equals, rest = text.partition("=")
    found: dict[str, Any] = {}
    for part in rest.split(",") if rest else ():
        key, colon, value = part.partition(":")
        if not colon or key in found:
            equals = ""
            break
        found[key] = value
    if not name or not equals or not found:
        raise ComputeTargetException(
            f"{text!r} describes no size; it is NAME=KEY:VALUE,... with the keys "
            f"{', '.join(_SIZE_KEYS)}, such as gpu=cpus:8,memory:64,gres:gpu:1"
        )
    return name, _size(name, found)


def _facts(settings: Mapping[str, Any], wanted: str) -> Mapping[str, Any]:
    """Return what a size means on this cluster."""
    own: Mapping[str, Mapping[str, Any]] = settings["vm_sizes"]
    for name, size in own.items():
        if name.lower() == wanted.lower():
            return size
    for known in sizes.known():
        if known.name.lower() == wanted.lower():
            gres = f"gpu:{known.gpus}" if known.gpus else None
            return {"cpus": known.cpus, "memory": known.memory_gib, "gres": gres}
    there = ", ".join([*own, "Azure's common sizes"])
    raise ComputeTargetException(
        f"vm_size is {wanted!r}, which the target does not know; it knows: {there}. Add it with "
        f"--vm-size {wanted}=cpus:8,memory:64,gres:gpu:1"
    )


def _size(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [key for key in given if key not in _SIZE_KEYS]
    if unknown:
        raise ComputeTargetException(
            f"the size {name!r} has {unknown[0]!r}; it can have {', '.join(_SIZE_KEYS)}."
        )
    size: dict[str, Any] = {key: given[key] for key in _SIZE_KEYS if given.get(key) is not None}
    for key, number in (("cpus", int), ("memory", float)):
        if key not in size:
            continue
        try:
            size[key] = number(size[key])
        except (TypeError, ValueError):
            size[key] = 0
        if not 0 < size[key] < 1 << 20:
            raise ComputeTargetException(
                f"the size {name!r} has {key} {given[key]!r}; it must be a number above 0"
                + (", in GiB." if key == "memory" else ".")
            )
    for key in ("constraint", "gres", "partition"):
        _check_word(f"{key} of the size {name!r}", size.get(key))
    return size


def _check_word(name: str, word: object) -> None:
    if word is None:
        return
    if not isinstance(word, str) or not word or re.search(r"[\s\"'\\\0]", word):
        raise ComputeTargetException(
            f"{name} is {word!r}; it must be what sbatch takes, without spaces and quotes."
        )


def _node_store(folder: str | None) -> str | None:
    if folder is None:
        return None
    if not re.match(r"(/|\$\w|\$\{\w)", folder) or "\n" in folder:
        raise ComputeTargetException(
            f"node_store is {folder!r}; it must be an absolute path on the nodes, such as "
            "/local/scratch or $TMPDIR."
        )
    return folder


def _file(name: str, path: str | os.PathLike[str] | None) -> str | None:
    if path is None:
        return None
    whole = os.path.abspath(os.path.expanduser(path))
    if not os.path.isfile(whole):
        raise ComputeTargetException(f"{name} is {os.fspath(path)!r}; there is no such file.")
    return whole


def _option(option: object) -> str:
    if not isinstance(option, str) or not option.startswith("-") or "\n" in option:
        raise ComputeTargetException(
            f"the option {option!r} is none of sbatch; write it as in --sbatch-option=--exclusive"
        )
    try:
        words = shlex.split(option)
    except ValueError as error:
        raise ComputeTargetException(f"the option {option!r} cannot be read: {error}") from None
    name = words[0].lstrip("-").partition("=")[0]
    long = words[0].startswith("--")
    if (long and name in _OURS) or (not long and name[:1] in _OURS_SHORT):
        raise ComputeTargetException(
            f"the option {option!r} is set by Rechain itself and cannot be changed."
        )
    return option
