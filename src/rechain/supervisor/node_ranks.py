"""A script whose ranks are on several nodes of a Slurm job.

On each node there is a node guard (`node.py`), the ancestor of the ranks there; what it says over
its link is all the supervisor knows of them. srun starts the node guards, and srun or mpirun the
seats (`seat.py`) in which the ranks are put.
"""

from __future__ import annotations

import os
import time

from rechain.record import events, jsonl
from rechain.supervisor import launchers, linux, tree
from rechain.supervisor.apart import Apart
from rechain.supervisor.link import ADDRESS, Hub
from rechain.supervisor.linux import signal
from rechain.supervisor.node import HELD
from rechain.supervisor.nodes import NODES
from rechain.supervisor.outcome import Outcome, tail
from rechain.supervisor.rank import SEATED
from rechain.supervisor.ranks import LOST, Ranks
from rechain.supervisor.script import redirect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from rechain.record.events import Watch

__all__ = ["NodeRanks"]

# Seconds between the heartbeats of a link, unless the job says otherwise.
_BEAT = 30.0

# Seconds for all nodes to say that they are there, and that nothing is left on them.
_UP_SECONDS = 300.0
_DOWN_SECONDS = 60.0

# How much later than a node's guard the supervisor may hear from Slurm that the job must end.
_HEARSAY_SECONDS = 5.0


class NodeRanks(Ranks):
    """Ranks on several nodes; see `Script` for the methods.

    Args:
        *args: as for `Script`.
        job: the job's document.
        watch: as for `Ranks`.
    """

    def __init__(self, *args: Any, job: Mapping[str, Any], watch: Watch) -> None:
        super().__init__(*args, job=job, watch=watch)
        distribution = job["distribution"]
        wanted: str = job["slurm"]["mpi"]
        self._nodes: int = distribution["nodes"]
        self._each: int = distribution["processes_per_node"]
        self._wanted = wanted
        self._kind = wanted
        self._hub = Hub(self._nodes, job["limits"].get("heartbeat_seconds") or _BEAT)
        self._srun = 0
        self._until = 0.0
        self._not_up = ""
        self._let = False  # srun was let go
        self._moved = 0.0  # when a part of a file came
        around = (self._run, self._attempt, self._stage, self._journal)
        self._apart = Apart(*around, job, self._hub)
        self._places: dict[int, str] = {}  # the node of each rank
        self._told: tuple[float, str] | None = None
        self._gone: dict[str, str] = {}  # nodes on which nothing runs any more, with the reason

    # Before the script starts.

    @property
    def unproved(self) -> bool:  # type: ignore[override]
        """Whether it is to be found out what starts the ranks."""
        return self._kind == "auto" and not (self._not_up or self._refusal)

    def prove(self) -> None:
        """Find out what starts ranks on all nodes; called in a fresh child."""
        redirect("/dev/null", os.O_RDONLY, 0)
        redirect(self._attempt.mpi_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)
        os.dup2(1, 2)
        told = os.open(self._attempt.prepare_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        mpi = self._stage.mpi
        argv, environment = self._stage.command()
        self._surround(environment)
        launchers.prove(
            launchers.candidates(self._wanted, mpi), mpi, self._nodes, argv[0], environment,
            self._attempt.mpi_proof, lambda line: os.write(told, f"{line}\n".encode()),
        )  # fmt: skip
        os._exit(0)

    def read_proof(self) -> None:
        """Take over what that child found."""
        try:
            proof = jsonl.read(self._attempt.mpi_proof)
        except (OSError, ValueError):
            proof = {"kind": None, "text": "what starts the ranks could not be proved"}
        self._kind = proof["kind"] or launchers.candidates("auto", self._stage.mpi)[0]
        text = proof["text"] if proof["kind"] else f"{proof['text']}; trying {self._kind}"
        self._journal.write("note", text=text)

    def ready(self) -> bool:
        """Start the node guards and see whether all are up, or never will be."""
        if not self._srun:
            self._until = time.monotonic() + _UP_SECONDS
            self._start_guards()
        self.look()
        if self._hub.lost:
            return True
        if self._hub.complete:
            if not self._let:
                self._let = True
                self._let_go()
            return self._furnish()
        if not os.path.exists(f"/proc/{self._srun}"):
            said = tail(self._attempt.mpi_log)
            self._not_up = said[-1] if said else "srun ended"
        elif time.monotonic() >= self._until:
            self._not_up = f"only {', '.join(sorted(self._hub.nodes)) or 'none'} called"
        return bool(self._not_up)

    def _furnish(self) -> bool:
        """Have all nodes get what they need; return whether all have, or one cannot."""
        return self._apart.ready()

    def _start_guards(self) -> None:
        self._srun = linux.start_child(self._become_srun)

    def _become_srun(self) -> None:
        environment = dict(os.environ)
        launchers.surroundings(environment)
        environment[ADDRESS] = self._hub.address
        environment[HELD] = self._stage.unpacked
        redirect("/dev/null", os.O_RDONLY, 0)
        redirect(self._attempt.mpi_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)
        os.dup2(1, 2)
        command = launchers.on_each_node(
            self._nodes, "--node", self._run.root, str(self._attempt.number)
        )
        try:
            os.execvpe(command[0], command, environment)
        except OSError as error:
            os.write(2, f"srun cannot be started: {error}\n".encode())

    def _let_go(self) -> None:
        """End srun: a step goes on without it.

        Slurm sends SIGTERM to all of a job at a preemption, say, srun included; and srun answers
        that with SIGKILL for its step, whatever grace there is. First its helper, which would do
        the same at the end of srun.
        """
        for pid in [*tree.descendants(self._srun), self._srun]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def start(self, refusal: int) -> None:
        """Become what starts the ranks; called in a fresh child."""
        if not self._refuses(refusal):
            super().start(refusal)

    def _refuses(self, refusal: int) -> bool:
        """Return whether nothing can be started, having said why."""
        why = self._not_up or "; ".join(self._hub.lost.values())
        if self._refusal is not None:
            why = self._refusal.message
        os.write(refusal, why.encode())
        return bool(why)

    @property
    def _refusal(self) -> Outcome | None:
        """Why a node cannot take part."""
        return self._apart.refusal

    def _launcher(self) -> list[str]:
        return launchers.launcher(self._kind, self._stage.mpi, self._nodes, self._each)

    def _surround(self, environment: dict[str, str]) -> None:
        launchers.surroundings(environment)
        environment[SEATED] = "1"
        none: list[list[int]] = [[] for _ in range(self._nodes)]
        environment[NODES] = jsonl.dumps(
            {"per_node": self._each, "cores": none, "data": None, "gpus": None}
        )

    def _threads(self) -> str:
        cores = os.environ.get("SLURM_CPUS_ON_NODE") or str(len(os.sched_getaffinity(0)))
        return str(max(1, int(cores) // self._each))

    # While it runs.

    @property
    def descriptors(self) -> Collection[int]:  # type: ignore[override]
        """The links."""
        return self._hub.descriptors

    def look(self) -> bool:
        """Hear what the nodes say; return whether all has ended that can."""
        for row in self._hub.hear():
            node = row["node"]
            if row["event"] == "start":
                rank = row["rank"]
                self._places[rank] = node
                self._guards[rank] = row["guard"]
                self._scripts[rank] = row
                fields = {key: row[key] for key in ("rank", "pid", "start", "node")}
                self._journal.write("rank", **fields)
            elif row["event"] == "end":
                self._ended({**row, "t": time.time()})  # nodes' clocks differ
            elif row["event"] == "lost":
                self._lost(row["rank"], f"the guard of rank {row['rank']} on {node} was killed")
            elif row["event"] == "killed":
                self._leave(node, f"the guard of node {node} was killed")
            elif row["event"] == "told":
                self._told = self._told or (time.monotonic(), node)
            else:
                self._take(row)
        for node in self._hub.lost.keys() - self._gone.keys():
            self._leave(node, "")
        if self._hub.lost and not self._asked:
            return True  # a rank that waits for its would wait for ever
        return len(self._ends) == self._count and any(end["status"] for end in self._ends)

    def _take(self, row: Mapping[str, Any]) -> None:
        """Take over what else a node says."""
        self._apart.take(row)
        if row["event"] == "file":
            self._moved = time.monotonic()

    def _lost(self, rank: int, why: str) -> None:
        if all(end["rank"] != rank for end in self._ends):
            end = {"rank": rank, "t": time.time(), "status": signal.SIGKILL, **LOST}
            self._ended({**end, "why": why})

    def _leave(self, node: str, why: str) -> None:
        """A node has ended all that was on it, or is lost."""
        self._gone[node] = why
        for rank, place in self._places.items():
            if place == node:
                self._lost(rank, why)

    @property
    def told(self) -> str:  # type: ignore[override]
        """Why it must end, if a node guard was told so; Slurm tells the supervisor as well."""
        if self._told is None or time.monotonic() < self._told[0] + _HEARSAY_SECONDS:
            return ""
        return f"the guard of node {self._told[1]} received SIGTERM"

    def processes(self) -> list[int]:
        """Return nothing: their pids mean nothing here."""
        return []

    def ask_for_stacks(self) -> None:
        """Have the node guards send SIGUSR2 to their ranks."""
        self._hub.tell("stacks")

    def was_asked(self) -> None:
        """Have the node guards see that Slurm sends SIGTERM to their ranks."""
        super().was_asked()
        self._hub.tell("slurm")

    def ask_to_end(self) -> None:
        """Have the node guards send SIGTERM to their ranks; what started them is not asked."""
        super().was_asked()
        self._hub.tell("term")
        if len(self._guards) < self._count:  # it may be about to start the others
            self._ask_launcher()

    def outlives(self) -> bool:
        """Return whether ranks run without what started them: Slurm has told it to end, too."""
        return len(self._ends) < len(self._places)

    # When it is over.

    def settle(self) -> None:
        """Have all ended that is left on any node, and hear the last of it."""
        self._hub.tell("end")
        began = time.monotonic()
        while True:
            self.look()
            left = self._hub.nodes.keys() - self._hub.done - self._hub.lost.keys()
            seconds = max(began, self._moved) + _DOWN_SECONDS - time.monotonic()
            if not left or seconds < 0:
                break
            events.wait(list(self.descriptors), min(seconds, 1.0))
        for node in sorted(left):
            self._journal.write("note", text=f"node {node} did not say that all on it has ended")
        self._hub.close()

    def outcome(self, status: int, refused: str) -> Outcome:
        """Say how it ended: a lost node counts before what its loss did to the others."""
        for node, why in self._hub.lost.items():
            outcome = Outcome("lost_node", f"node {node}: {why}")
            outcome.tail = tail(self._attempt.node_log(node))
            return outcome
        if self._refusal is not None:
            return self._refusal
        if self._not_up:
            # Slurm gives nodes that it has not missed yet, most likely.
            outcome = Outcome("lost_node", f"not all nodes came up: {self._not_up}")
            outcome.tail = tail(self._attempt.mpi_log)
            return outcome
        return super().outcome(status, refused)

    def _failure(self, end: dict[str, Any]) -> Outcome:
        # What the kernel of this node counts says nothing of the others.
        self._oom_before = -1 if end.get("oom") else 1 << 62
        outcome = super()._failure(end)
        if end["rank"] in self._places:
            outcome.message += f" on {self._places[end['rank']]}" * (not end.get("why"))
        return outcome

    def give_back_room(self) -> None:
        """Do nothing: the files are other nodes'."""
