"""The only place that knows the names of files in a workspace and in a run folder.

See docs/run-folder.md for what each holds.
"""

from __future__ import annotations

import os

__all__ = [
    "AttemptPaths", "NodePaths", "RunPaths", "WorkspacePaths", "experiment_of", "month_of",
]  # fmt: skip


def experiment_of(run_id: str) -> str:
    """Return the experiment named in a run id (`<experiment>_<unix seconds>_<8 hex>`).

    Raises:
        ValueError: it is not a run id.
    """
    parts = run_id.rsplit("_", 2)
    if len(parts) != 3 or not parts[1].isdigit() or len(parts[2]) != 8 or "/" in run_id:
        raise ValueError(f"{run_id!r} is not a run id")
    return parts[0]


def month_of(seconds: float) -> str:
    """Return the index folder of a moment: `yyyymm`, in UTC."""
    import time

    return time.strftime("%Y%m", time.gmtime(seconds))


class WorkspacePaths:
    """Paths in a workspace.

    Args:
        root: the `.rechain` folder.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.settings = f"{root}/workspace.json"
        self.ignore = f"{root}/.gitignore"
        self.experiments = f"{root}/experiments"
        self.index = f"{root}/index"
        self.store = f"{root}/store"
        self.environments = f"{root}/environments"
        self.datasets = f"{root}/datasets"
        self.datastores = f"{root}/datastores"
        self.compute = f"{root}/compute"
        self.models = f"{root}/models"
        self.labels = f"{root}/labels"

    def compute_target(self, name: str) -> str:
        """Return the path of a compute target's description."""
        return f"{self.compute}/{name}.json"

    def datastore(self, name: str) -> str:
        """Return the path of the description of a datastore that was registered."""
        return f"{self.datastores}/{name}.json"

    def experiment_labels(self, name: str) -> str:
        """Return the path of what is said of an experiment: its tags, whether it is archived."""
        return f"{self.labels}/{name}.json"

    def run(self, run_id: str) -> RunPaths:
        """Return the paths of a run.

        Raises:
            ValueError: `run_id` is not a run id.
        """
        return RunPaths(f"{self.experiments}/{experiment_of(run_id)}/{run_id}")


class RunPaths:
    """Paths in a run folder.

    Args:
        root: the run folder.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.run_id = os.path.basename(root)
        self.job = f"{root}/job.json"
        self.submission = f"{root}/submission.json"
        self.lock = f"{root}/lock.json"
        self.data = f"{root}/data"
        self.inputs = f"{root}/inputs.json"
        self.sent = f"{root}/sent.json"
        self.apart = f"{root}/apart.json"
        self.patch = f"{root}/git.patch"
        self.work = f"{root}/work"
        self.requests = f"{root}/requests"
        self.children = f"{root}/children"
        self.metrics = f"{root}/metrics"
        self.uploads = f"{root}/uploads"
        self.attempts = f"{root}/attempts"

    def slurm_log(self, job_id: str) -> str:
        """Return the path of what a Slurm job said outside of its attempts' own files."""
        return f"{self.root}/slurm-{job_id}.log"

    def attempt(self, number: int) -> AttemptPaths:
        """Return the paths of the attempt with this number."""
        return AttemptPaths(f"{self.attempts}/{number}")

    def numbers(self) -> list[int]:
        """Return the numbers of the attempts there are, ascending."""
        try:
            names = os.listdir(self.attempts)
        except FileNotFoundError:
            return []
        return sorted(int(name) for name in names if name.isdigit())

    def last_attempt(self) -> AttemptPaths | None:
        """Return the newest attempt, if there is one."""
        numbers = self.numbers()
        return self.attempt(numbers[-1]) if numbers else None


class NodePaths:
    """Paths of what each machine has of its own that runs a container of an attempt.

    Args:
        root: the attempt's folder, or that of one of its nodes.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.image_log = f"{root}/image.log"
        self.prepare_result = f"{root}/prepare.json"
        self.container = f"{root}/container.json"
        self.container_log = f"{root}/container.log"
        self.container_in = f"{root}/container.in"
        self.container_out = f"{root}/container.out"


class AttemptPaths(NodePaths):
    """Paths in an attempt's folder.

    Args:
        root: the folder `attempts/<n>` of a run.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.number = int(os.path.basename(root))
        self.launcher = f"{root}/launcher.json"
        self.journal = f"{root}/journal.jsonl"
        self.guard_end = f"{root}/guard.json"
        self.reader_end = f"{root}/lost.json"
        self.prepare_log = f"{root}/prepare.log"
        self.unpacked = f"{root}/unpacked.json"
        self.lent = f"{root}/lent.json"
        self.fetch_result = f"{root}/fetch.json"
        self.send_result = f"{root}/send.json"
        self.resume = f"{root}/resume.json"
        self.supervisor_log = f"{root}/supervisor.log"
        self.mpi_log = f"{root}/mpi.log"
        self.mpi_proof = f"{root}/mpi.json"
        self.ranks = f"{root}/ranks"

    def node(self, name: str) -> NodePaths:
        """Return the paths of one node of several that have a container each."""
        return NodePaths(f"{self.root}/nodes/{name}")

    def nodes(self) -> list[str]:
        """Return the names of those nodes."""
        try:
            return sorted(os.listdir(f"{self.root}/nodes"))
        except FileNotFoundError:
            return []

    def come_from(self, name: str) -> str:
        """Return the folder of what comes from a node that does not see the run folder."""
        return f"{self.root}/from-{name}"

    def node_log(self, name: str) -> str:
        """Return the path of what the guard of a node says of itself."""
        return f"{self.root}/node-{name}.log"

    def stdout(self, rank: int) -> str:
        """Return the path of a rank's stdout."""
        return f"{self.root}/{rank}.out"

    def stderr(self, rank: int) -> str:
        """Return the path of a rank's stderr."""
        return f"{self.root}/{rank}.err"

    def rank(self, rank: int, what: str) -> str:
        """Return the path of what is noted of a rank: `start`, `end`, `mpi` or `reports`."""
        return f"{self.ranks}/{rank}.{what}.json"
