"""Ranks on several nodes of a Slurm job, in one container on each.

The container of the first node runs the launcher of the image's own MPI, which takes an agent of
ours for ssh. What it wants to have run on another node comes here over the links, and goes on to
the guard of that node, which runs it in its container. So neither the nodes nor Slurm need an MPI.
"""

from __future__ import annotations

import os
import shlex
import sys

from rechain.supervisor import launchers
from rechain.supervisor.contained import describe, explain
from rechain.supervisor.contained_ranks import as_root, guard_in, hide
from rechain.supervisor.container import take_away
from rechain.supervisor.engine import GUEST
from rechain.supervisor.node_ranks import NodeRanks
from rechain.supervisor.outcome import Outcome, tail
from rechain.supervisor.script import redirect
from rechain.supervisor.seat import desk_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["ContainedNodes"]

_AGENT, _DEAF = "rechain-agent", "rechain-deaf"
_AGENTS = f"{GUEST}/agents"  # where those are


class ContainedNodes(NodeRanks):
    """Ranks in containers of several nodes; see `Script` for the methods."""

    unproved = False
    """Nothing is to be found out: each MPI starts ranks by an agent."""

    def __init__(self, *args: Any, job: Mapping[str, Any], **more: Any) -> None:
        super().__init__(*args, job=job, **more)
        self._job = job
        self._here = os.uname().nodename
        self._indexes: dict[str, int] = {}  # of the nodes in the job
        self._unprepared: set[str] | None = None
        self._failed: Outcome | None = None
        self._asked_by: dict[str, tuple[str, int]] = {}  # who has something run on a node
        self._status: int | None = None  # of the launcher

    @property
    def _refusal(self) -> Outcome | None:
        return self._failed

    def _furnish(self) -> bool:
        """Have the engines of all nodes get the image."""
        if self._apart.nodes and self._failed is None:
            names = ", ".join(sorted(self._apart.nodes))
            self._failed = Outcome(
                "environment",
                f"node {names} cannot see the run's folder {self._run.root}, which containers on "
                "several nodes share",
                hint="Put the workspace on a file system that the nodes share, or run without a "
                "container.",
            )
        elif self._unprepared is None and self._failed is None:
            self._unprepared = set(self._hub.nodes)
            if self._wanted.startswith("srun"):
                text = (
                    f"ranks in containers are started by the image's own MPI, not {self._wanted}"
                )
                self._journal.write("note", text=text)
            password, variables = self._stage.to_prepare
            for name, line in self._hub.nodes.items():
                facts = self._stage.container if name == self._here else None
                line.say(
                    "prepare", facts=facts, cache=variables["RECHAIN_CACHE"], password=password,
                    gpu=self._stage.with_gpu,
                )  # fmt: skip
        return self._failed is not None or not self._unprepared

    # The launcher, as the container of the first node has it.

    def start(self, refusal: int) -> None:
        """Become the agent that has the launcher run; called in a fresh child."""
        if self._refuses(refusal):
            return
        program = f"{GUEST}/rechain_guest/agent.py"
        argv = [sys.executable, "-I", "-S", program, self._here, "exec"]
        argv += map(shlex.quote, self._inside()[0])
        name = desk_of(f"{self._run.run_id}/{self._attempt.number}")
        try:
            redirect("/dev/null", os.O_RDONLY, 0)
            redirect(self._attempt.mpi_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1)
            os.dup2(1, 2)
            os.execve(argv[0], argv, {"RECHAIN_DESK": name})
        except OSError as error:
            os.write(refusal, str(error).encode())

    def _inside(self) -> tuple[list[str], dict[str, str]]:
        """Return what starts all ranks, and the variables that it and its daemons have."""
        python = self._stage.command()[0][0]
        return self._command(guard_in(python, self._attempt, self._run))

    def _launcher(self) -> list[str]:
        nodes = sorted(self._indexes, key=lambda name: (name != self._here, self._indexes[name]))
        return launchers.by_agent(self._stage.mpi, _AGENT, nodes, self._each)

    def _surround(self, environment: dict[str, str]) -> None:
        environment.setdefault("OMP_NUM_THREADS", self._threads())
        environment["RECHAIN_AGENT_PYTHON"] = self._stage.command()[0][0]
        launchers.tell_agent(environment, _AGENT, _DEAF)
        as_root(environment)

    def _what(self, node: str, command: str) -> dict[str, Any]:
        """Return what a node's container is to run for an agent."""
        variables = self._inside()[1]
        index = str(self._indexes[node])
        own = {
            "RECHAIN_NODE": index,
            "RECHAIN_NODE_NAME": node,
            # As v1's runtime named them.
            "AZUREML_NODE_COUNT": str(self._nodes),
            "AZUREML_CR_NODE_RANK": index,
        }
        hide(variables, {**own, "SLURM_NODEID": index, "SLURMD_NODENAME": node})
        log = self._attempt.mpi_log if node == self._here else self._attempt.node_log(node)
        if node != self._here and self._stage.mpi["family"] != "openmpi":
            command = f"exec {command}"  # a shell would not keep SIGTERM blocked for it
        shell = ["/bin/sh", "-c", f"trap '' TERM; {command}"]
        what = describe(self._run, self._stage, self._job, shell, variables, (log, log), True)
        document = what["document"]
        if "PATH" in variables:
            variables["PATH"] = f"{_AGENTS}:{variables['PATH']}"
        else:
            document["path"] = ":".join(filter(None, (_AGENTS, document["path"])))
        return what

    # What the nodes say.

    def look(self) -> bool:
        """Hear what the nodes say; return whether all has ended that can."""
        return super().look() or (self._failed is not None and not self._asked)

    def _take(self, row: Mapping[str, Any]) -> None:
        super()._take(row)
        node = row["node"]
        if row["event"] == "up":
            self._indexes[node] = row["index"]
        elif row["event"] == "prepared":
            for note in row.get("notes", ()):
                self._journal.write("note", text=f"node {node}: {note}")
            if row["failure"] is not None:
                self._fail(node, row["failure"])
            (self._unprepared or set()).discard(node)
        elif row["event"] == "launch":
            self._have_run(row)
        elif row["event"] == "gone":
            self._fail_first(node, row["failure"])
        elif row["event"] == "ran":
            self._ran(row)

    def _fail(self, node: str, failure: Mapping[str, Any]) -> None:
        if self._failed is None:
            outcome = self._failed = Outcome(
                failure["cause"], f"node {node}: {failure['message']}"
            )
            for name in ("detail", "hint", "signal", "tail"):
                setattr(outcome, name, failure[name])

    def _fail_first(self, node: str, failure: Mapping[str, Any]) -> None:
        """A node's container has failed: that counts unless it follows on something else."""
        if not self._asked and not any(end["status"] for end in self._ends):
            self._fail(node, failure)

    def _have_run(self, row: Mapping[str, Any]) -> None:
        by, node = row["node"], row["to"]
        line = self._hub.nodes.get(node)
        if line is None or node in self._asked_by:
            why = (
                "which is not the job's" if line is None
                else "whose container runs something already: has it another host name than that?"
            )  # fmt: skip
            failure = Outcome("environment", f"the MPI asks for node {node}, {why}")
            self._fail(by, failure.fields())
            self._hub.nodes[by].say("ran", agent=row["agent"], status=1 << 8)
            return
        self._asked_by[node] = (by, row["agent"])
        line.say("run", what=self._what(node, row["command"]))

    def _ran(self, row: Mapping[str, Any]) -> None:
        node = row["node"]
        by, agent = self._asked_by.pop(node)
        if row["failure"] is not None:
            self._fail_first(node, row["failure"])
        elif node == self._here:
            self._status = row["status"]
        elif node not in self._places.values():  # the launcher would wait for it
            outcome = Outcome("environment", "the MPI's daemon ended before there was a rank")
            outcome.tail = tail(self._attempt.node_log(node)) or tail(self._attempt.mpi_log)
            self._fail_first(node, outcome.fields())
        what = "the launcher" if node == self._here else "the MPI's daemon"
        for rank, place in self._places.items():
            if place == node:
                self._lost(rank, f"{what} on {node} ended, and rank {rank} with it")
        self._hub.nodes[by].say("ran", agent=agent, status=row["status"])

    def ended(self, status: int) -> int:
        """Have all nodes end; return how the launcher ended."""
        super().ended(status)
        for node in self._hub.lost:
            take_away(self._attempt.node(node))  # it could not do so itself
        return status if self._status is None else self._status

    def outcome(self, status: int, refused: str) -> Outcome:
        """Say how it ended: the first failure counts."""
        return explain(super().outcome(status, refused), self._job)
