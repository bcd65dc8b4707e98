"""Compute targets of a workspace: v1's `ComputeTarget` and `AmlCompute`.

An `AmlCompute` is a pool of virtual nodes of this machine. What a workspace keeps of it is its
description, a JSON file; who waits for its nodes and who has them stands in the machine's queue
(`supervisor/pool.py`), which all workspaces and users share.
"""

from __future__ import annotations

import os
import time
from abc import ABC

from rechain.compute import sizes
from rechain.exceptions import (
    ComputeTargetException,
    NotBuiltError,
    UserErrorException,
)
from rechain.planned import azures
from rechain.record import jsonl
from rechain.record.causes import TERMINAL
from rechain.workspace.compute_status import AmlComputeStatus, Share
from rechain.workspace.place import warn_of_gpus
from rechain.workspace.target_files import absent, check_name, default_cluster, names, read, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rechain.supervisor.turns import Ticket
    from rechain.workspace.run import Run
    from rechain.workspace.workspace import Workspace

    Targets = list["ComputeTarget"]

__all__ = ["AmlCompute", "ComputeTarget"]

_PRIORITIES = ("dedicated", "lowpriority")


class ComputeTarget(ABC):
    """A compute target of a workspace, found by its name.

    `ComputeTarget(workspace, name)` returns an object of the target's own class.

    Args:
        workspace: the workspace.
        name: the target's name.

    Attributes:
        name: the target's name.
        type: its kind, such as `AmlCompute`.
        workspace: the workspace.

    Raises:
        ComputeTargetException: there is no such target.
    """

    type = "AmlCompute"
    name: str
    workspace: Workspace

    def __new__(cls, workspace: Workspace, name: str) -> ComputeTarget:
        """Look the target up."""
        settings = read(workspace, name)
        if cls is not ComputeTarget:
            return super().__new__(cls)
        if settings["type"] == "Slurm":
            from rechain.workspace.slurm_compute import SlurmCompute

            return super().__new__(SlurmCompute)
        return super().__new__(AmlCompute)

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name = name

    @staticmethod
    def create(
        workspace: Workspace, name: str, provisioning_configuration: _Provisioning
    ) -> ComputeTarget:
        """Make a target. It is there at once; one of the same name gets the new settings.

        Its nodes are shares of this machine: where their size has GPUs that this machine lacks,
        a `UserWarning` says so.

        Args:
            workspace: where it will belong.
            name: its name. Pools of one name are one pool on this machine, whoever uses it.
                Where a Slurm cluster is the workspace's default, it is a share of that.
            provisioning_configuration: what `AmlCompute.provisioning_configuration` returned.

        Raises:
            UserErrorException: the name or the configuration cannot be one.
            ComputeTargetException: its size is unknown, or differs from the existing target's.
        """
        check_name(name)
        if not isinstance(provisioning_configuration, _Provisioning):
            raise UserErrorException(
                f"provisioning_configuration is {provisioning_configuration!r}; it must be what "
                "AmlCompute.provisioning_configuration(...) returns."
            )
        settings = provisioning_configuration.settings
        on = default_cluster(workspace)
        if on is not None:
            from rechain.compute.slurm.settings import request

            asked = {"vm_size": settings["vm_size"], "priority": settings["vm_priority"]}
            request(read(workspace, on), **asked)
            settings["on"] = on
        elif settings["vm_size"]:
            settings["vm_size"] = sizes.find(settings["vm_size"]).name
        path = workspace._paths.compute_target(name)
        document = {"schema": 1, "type": "AmlCompute", "created": time.time(), **settings}
        if not record(workspace, name, document):
            before = read(workspace, name)
            for key in ("type", "vm_size", "vm_priority"):
                if before.get(key) != document[key]:
                    raise ComputeTargetException(
                        f"the compute target {name!r} exists with {key} {before.get(key)!r}, "
                        f"which cannot become {document[key]!r}. Delete it first, or take another "
                        "name."
                    )
            jsonl.write_atomic(path, {**document, "created": before["created"]})
        elif on is None and settings["vm_size"]:
            warn_of_gpus(name, sizes.find(settings["vm_size"]))
        return ComputeTarget(workspace, name)

    @staticmethod
    def attach(workspace: Workspace, name: str, attach_configuration: object) -> ComputeTarget:
        """Make a target of a cluster that is there; one of the same name gets the new settings.

        Args:
            workspace: where it will belong.
            name: its name.
            attach_configuration: what `SlurmCompute.attach_configuration` returned.

        Raises:
            UserErrorException: the name cannot be one.
            ComputeTargetException: there is a pool of that name.
            NotBuiltError: it describes something else than a Slurm cluster.
        """
        from rechain.compute.slurm.settings import Settings

        if not isinstance(attach_configuration, Settings):
            raise NotBuiltError(
                f"attaching {name!r} as {attach_configuration!r} is not built yet: what can be "
                "attached is a Slurm cluster, by SlurmCompute.attach_configuration(...); a pool "
                "of nodes of this machine is made with ComputeTarget.create."
            )
        check_name(name)
        settings = attach_configuration.to_json()
        document = {"schema": 1, "type": "Slurm", "created": time.time(), **settings}
        if not record(workspace, name, document):
            before = read(workspace, name)
            if before["type"] != "Slurm":
                raise ComputeTargetException(
                    f"the compute target {name!r} is a pool of this machine. Delete it first, or "
                    "take another name."
                )
            path = workspace._paths.compute_target(name)
            jsonl.write_atomic(path, {**document, "created": before["created"]})
        return ComputeTarget(workspace, name)

    @staticmethod
    def list(workspace: Workspace) -> Targets:
        """Return the workspace's targets, by name."""
        return [ComputeTarget(workspace, name) for name in names(workspace)]

    @staticmethod
    def deserialize(workspace: Workspace, object_dict: dict[str, Any]) -> ComputeTarget:
        """Return the target that `serialize` told of.

        Raises:
            ComputeTargetException: it is not there any more.
        """
        return ComputeTarget(workspace, object_dict["name"])

    def __getnewargs__(self) -> tuple[Workspace, str]:
        return self.workspace, self.name

    def get_status(self) -> Any:
        """Return v1's state of the target; its own kinds have more to say."""
        return self.provisioning_state

    def refresh_state(self) -> None:  # noqa: B027 - there is nothing to do on any target
        """Do nothing: every answer is read when asked."""

    @property
    def provisioning_state(self) -> str:
        """v1's state of the target itself: it is there as soon as it is made."""
        return "Succeeded"

    def wait_for_completion(
        self,
        show_output: bool = False,
        min_node_count: int | None = None,
        timeout_in_minutes: float = 25,
        is_delete_operation: bool = False,
    ) -> None:
        """Return: there is nothing to wait for.

        Args:
            show_output: whether to say so.
            min_node_count: accepted for v1's sake, like the others.
            timeout_in_minutes: see `min_node_count`.
            is_delete_operation: see `min_node_count`.
        """
        if show_output:
            print("Succeeded: the nodes are part of this machine.", flush=True)

    def delete(self) -> None:
        """Take the target out of the workspace; runs that wait for its nodes still get them.

        Raises:
            ComputeTargetException: it is not there any more.
        """
        try:
            os.unlink(self.workspace._paths.compute_target(self.name))
        except FileNotFoundError:
            raise absent(self.workspace, self.name) from None

    def detach(self) -> None:
        """Do what `delete` does."""
        self.delete()

    def serialize(self) -> dict[str, Any]:
        """Return the target as plain data."""
        return {"name": self.name, **read(self.workspace, self.name)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace!r}, name={self.name!r})"


@azures(
    "The nodes are part of this machine.",
    "add_identity", "list_quotas", "list_usages", "remove_identity", "update_quotas",
)  # fmt: skip
class AmlCompute(ComputeTarget):
    """A pool of virtual nodes of this machine; see `ComputeTarget`."""

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "",
        vm_priority: str = "dedicated",
        min_nodes: int = 0,
        max_nodes: int | None = None,
        idle_seconds_before_scaledown: int = 1800,
        admin_username: str | None = None,
        admin_user_password: str | None = None,
        admin_user_ssh_key: str | None = None,
        vnet_resourcegroup_name: str | None = None,
        vnet_name: str | None = None,
        subnet_name: str | None = None,
        tags: dict[str, str] | None = None,
        description: str | None = None,
        remote_login_port_public_access: str = "NotSpecified",
        identity_type: str | None = None,
        identity_id: list[str] | None = None,
        location: str | None = None,
        enable_node_public_ip: bool = True,
    ) -> _Provisioning:
        """Describe a pool.

        Args:
            vm_size: Azure's name of the size that each node is limited to; without one a node has
                no limits.
            vm_priority: `dedicated`, or `lowpriority`: such runs yield to dedicated ones.
            min_nodes: recorded; a virtual node that is idle costs nothing.
            max_nodes: how many nodes there are.
            idle_seconds_before_scaledown: recorded.
            admin_username: not used, like all that follows but `tags` and `description`: nobody
                logs in to a virtual node, and it has no network of its own.
            admin_user_password: not used, and not recorded.
            admin_user_ssh_key: not used.
            vnet_resourcegroup_name: not used.
            vnet_name: not used.
            subnet_name: not used.
            tags: recorded.
            description: recorded.
            remote_login_port_public_access: not used.
            identity_type: not used.
            identity_id: not used.
            location: not used.
            enable_node_public_ip: not used.

        Raises:
            ComputeTargetException: the numbers of nodes make no pool, or the priority is none.
        """
        for name, count in (("min_nodes", min_nodes), ("max_nodes", max_nodes)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                hint = " It says how many nodes the pool has." if count is None else ""
                raise ComputeTargetException(f"{name} is {count!r}; it must be 0 or more.{hint}")
        if max_nodes is not None and max_nodes < min_nodes:
            raise ComputeTargetException(
                f"max_nodes is {max_nodes}, which is less than min_nodes, {min_nodes}."
            )
        if vm_priority not in _PRIORITIES:
            raise ComputeTargetException(
                f"vm_priority is {vm_priority!r}; it must be one of {', '.join(_PRIORITIES)}."
            )
        return _Provisioning(
            vm_size=vm_size,
            vm_priority=vm_priority,
            min_nodes=min_nodes,
            max_nodes=max_nodes,
            idle_seconds_before_scaledown=idle_seconds_before_scaledown,
            tags=tags or {},
            description=description,
        )

    @property
    def vm_size(self) -> str:
        """The size of its nodes; empty if they have no limits."""
        return str(read(self.workspace, self.name)["vm_size"])

    @property
    def vm_priority(self) -> str:
        """`dedicated` or `lowpriority`."""
        return str(read(self.workspace, self.name)["vm_priority"])

    @staticmethod
    def supported_vmsizes(workspace: Workspace, location: str | None = None) -> list[Any]:
        """Return the sizes that are known here.

        Args:
            workspace: accepted for v1's sake, like `location`.
            location: see `workspace`.
        """
        return [
            {
                "name": size.name,
                "vCPUs": size.cpus,
                "gpus": size.gpus,
                "memoryGB": size.memory_gib,
            }
            for size in sizes.known()
        ]

    def update(
        self,
        min_nodes: int | None = None,
        max_nodes: int | None = None,
        idle_seconds_before_scaledown: int | None = None,
    ) -> None:
        """Change the number of nodes, for runs that are submitted from now on.

        Args:
            min_nodes: see `provisioning_configuration`; as it was if left out.
            max_nodes: the same.
            idle_seconds_before_scaledown: the same.

        Raises:
            ComputeTargetException: the numbers make no pool.
        """
        before = read(self.workspace, self.name)
        given: dict[str, Any] = {
            "min_nodes": min_nodes,
            "max_nodes": max_nodes,
            "idle_seconds_before_scaledown": idle_seconds_before_scaledown,
        }
        changed: dict[str, Any] = {
            name: before[name] if new is None else new for name, new in given.items()
        }
        settings = AmlCompute.provisioning_configuration(**changed).settings
        kept = {name: settings[name] for name in given}
        path = self.workspace._paths.compute_target(self.name)
        jsonl.write_atomic(path, {**before, **kept})

    def get_status(self) -> AmlComputeStatus:
        """Return how many of its nodes are busy, and with what they were made."""
        return AmlComputeStatus(read(self.workspace, self.name), self._tickets())

    def list_nodes(self) -> list[dict[str, Any]]:
        """Return its busy nodes, each with the run that it works for."""
        return [
            {"nodeId": f"{ticket.run_id}-{number}", "nodeState": "running", "runId": ticket.run_id}
            for ticket in self._tickets()
            if ticket.running
            for number in range(ticket.nodes)
        ]

    def get(self) -> None:
        """Do nothing: every answer is read when asked."""

    def get_active_runs(
        self,
        type: str | None = None,
        tags: dict[str, str] | str | None = None,
        properties: dict[str, str] | str | None = None,
        status: str | None = None,
    ) -> Any:
        """Yield the runs of this workspace that wait for its nodes or have them.

        Args:
            type: only runs of this type.
            tags: only runs with this tag, or with these tags and values.
            properties: the same for properties.
            status: only runs of this status.
        """
        from rechain.workspace.experiment import has_labels

        mine = {run.id: run for run in self.workspace.get_runs() if _on(run, self.name)}
        for ticket in self._tickets():
            run = mine.get(ticket.run_id)
            if (
                run is not None
                and type in (None, run.type)
                and has_labels(run.tags, tags)
                and has_labels(run.properties, properties)
                and status in (None, run.status)
            ):
                yield run

    def _tickets(self) -> Sequence[Ticket | Share]:
        if not read(self.workspace, self.name).get("on"):
            from rechain.supervisor import pool

            return pool.tickets(self.name)
        runs = [run for run in self.workspace.get_runs() if _on(run, self.name)]
        found = [(run, run.status) for run in runs]
        return [
            Share(
                run.id, run._job["distribution"]["nodes"], status not in ("Queued", "NotStarted")
            )
            for run, status in found
            if status not in TERMINAL
        ]


class _Provisioning:
    """What a pool is to be made like."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings


def _on(run: Run, name: str) -> bool:
    if run._job.get("slurm"):
        return bool(run._job["target"] == name)
    return (run._job.get("pool") or {}).get("name") == name
