"""Where a run will go: nodes of this machine's pools, or a cluster."""

from __future__ import annotations

from rechain.compute import sizes
from rechain.exceptions import TrainingException
from rechain.workspace.target_files import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.workspace.workspace import Workspace

__all__ = ["place_of", "pool_of", "warn_of_gpus"]

_MADE_FOR_THE_RUN = (None, "amlcompute")


def place_of(
    workspace: Workspace,
    target: object,
    *,
    vm_size: str | None,
    vm_priority: str | None,
    node_count: int,
) -> dict[str, Any]:
    """Return the `pool` or the `slurm` of a job, by that name; for the arguments see `pool_of`.

    Raises:
        ComputeTargetException: see `pool_of`; or a cluster knows no low priority.
        TrainingException: see `pool_of`.
    """
    if target not in _MADE_FOR_THE_RUN:
        settings = read(workspace, _name(target))
        if settings["type"] == "Slurm":
            from rechain.compute.slurm.settings import request

            return {"slurm": request(settings, vm_size=vm_size, priority=vm_priority)}
        if settings.get("on"):
            from rechain.compute.slurm.settings import request

            _check_count(target, settings, node_count)
            cluster = read(workspace, settings["on"])
            priority = vm_priority or settings["vm_priority"]
            return {"slurm": request(cluster, vm_size=settings["vm_size"], priority=priority)}
    pool = pool_of(
        workspace, target, vm_size=vm_size, vm_priority=vm_priority, node_count=node_count
    )
    return {"pool": pool}


def pool_of(
    workspace: Workspace,
    target: object,
    *,
    vm_size: str | None,
    vm_priority: str | None,
    node_count: int,
) -> dict[str, Any]:
    """Return the `pool` of a job, as docs/run-folder.md describes it.

    Args:
        workspace: where the target is looked up.
        target: a target or the name of one; None for a pool that is the run's own.
        vm_size: the size of the nodes of the run's own pool.
        vm_priority: the run's priority; that of the target if left out.
        node_count: how many nodes the run takes.

    Raises:
        ComputeTargetException: there is no such target or no such size.
        TrainingException: it has fewer nodes than the run takes.
    """
    if target in _MADE_FOR_THE_RUN:
        if not vm_size:
            raise TrainingException(
                "compute_target is 'amlcompute', a pool made for the run alone: give vm_size, the "
                "size of its nodes."
            )
        settings: dict[str, Any] = {
            "vm_size": vm_size,
            "vm_priority": "dedicated",
            "max_nodes": node_count,
        }
        name = None
    else:
        name = _name(target)
        settings = read(workspace, name)
    _check_count(name, settings, node_count)
    size = sizes.find(settings["vm_size"]) if settings["vm_size"] else None
    return {
        "name": name,
        "vm_size": size.name if size else None,
        "max_nodes": settings["max_nodes"],
        "priority": vm_priority or settings["vm_priority"],
        "cpus": size.cpus if size else None,
        "memory_gib": size.memory_gib if size else None,
        "gpus": size.gpus if size else 0,
    }


def warn_of_gpus(name: str, size: sizes.Size) -> None:
    """Warn of a size with GPUs on a machine that has none, before anybody trains on them.

    Args:
        name: the pool that is being made.
        size: that of its nodes.
    """
    if not size.gpus:
        return
    import os
    import warnings

    from rechain.environment import gpu

    there, why = gpu.look(os.environ)
    if there:
        return  # that they are fewer than asked for, the run says: its nodes share them
    warnings.warn(
        f"the nodes of {name!r}, {size.name}, have {size.gpus} GPU{'s' * (size.gpus > 1)} each in "
        f"Azure; here they are shares of this machine, which has none ({why}): scripts run on the "
        "CPU, and those with use_gpu=True fail.",
        stacklevel=3,
    )


def _check_count(target: object, settings: dict[str, Any], node_count: int) -> None:
    if node_count > settings["max_nodes"]:
        raise TrainingException(
            f"node_count is {node_count}, and the compute target {_name(target)!r} has "
            f"{settings['max_nodes']} nodes (max_nodes)."
        )


def _name(target: object) -> str:
    return target if isinstance(target, str) else str(getattr(target, "name", target))
