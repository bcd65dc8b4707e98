"""A Slurm cluster as a compute target of a workspace."""

from __future__ import annotations

from rechain.compute.slurm.settings import Settings, size_from_text
from rechain.workspace.compute_target import ComputeTarget
from rechain.workspace.target_files import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from rechain.compute.slurm.check import Finding

__all__ = ["SlurmCompute", "size_from_text"]


class SlurmCompute(ComputeTarget):
    """A Slurm cluster; see `ComputeTarget`. What it keeps is a file of the workspace."""

    type = "Slurm"

    @staticmethod
    def attach_configuration(
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
    ) -> Settings:
        """Describe a cluster, for `ComputeTarget.attach`; see `rechain.compute.slurm.settings`.

        Args:
            partition: the partition of its jobs; the cluster's default if left out.
            qos: their QOS.
            account: the account that they are charged to.
            lowpriority_partition: where runs of low priority go.
            lowpriority_qos: their QOS.
            vm_size: the size of a node where a run names none.
            vm_sizes: sizes of this cluster, by name: `constraint`, `gres`, `cpus`, `memory` in
                GiB and `partition`.
            prologue: a shell file that every job sources first.
            store: the folder of environments; the nodes must see it.
            node_store: a folder on each node's own disk, to which environments are unpacked.
            prepare: where environments are built: `job` or `here`.
            mpi: what starts ranks on several nodes.
            secrets: a file of `NAME=VALUE` lines that only its owner can read.
            python: the Python that runs Rechain on the nodes.
            options: further options of sbatch.
            default: whether an `AmlCompute` made from now on is a share of this cluster.

        Raises:
            ComputeTargetException: one of them cannot be used.
        """
        return Settings(
            partition=partition,
            qos=qos,
            account=account,
            lowpriority_partition=lowpriority_partition,
            lowpriority_qos=lowpriority_qos,
            vm_size=vm_size,
            vm_sizes=vm_sizes,
            prologue=prologue,
            store=store,
            node_store=node_store,
            prepare=prepare,
            mpi=mpi,
            secrets=secrets,
            python=python,
            options=options,
            default=default,
        )

    def check(self, seconds: float = 300) -> Iterator[Finding]:
        """Try the target out with a small job; yield what there is to say, as it is found.

        Args:
            seconds: how long the job may wait in the queue.

        Raises:
            UserErrorException: the workspace cannot be written.
        """
        from rechain.compute.slurm.check import check
        from rechain.compute.slurm.settings import request

        self.workspace._make()
        asked = request(read(self.workspace, self.name))
        yield from check(asked, self.workspace._paths.experiments, seconds)
