"""The container of one node of several, as the node's guard has it.

The supervisor says what is run in it: on the first node the launcher of the image's own MPI, on
the others that MPI's daemons, which the launcher asks for as it would by ssh. An agent
(`rechain_guest/agent.py`) brings what it asks for to the guard of its node.
"""

from __future__ import annotations

import os

from rechain.environment.errors import EnvironmentFailure
from rechain.record import host, jsonl
from rechain.supervisor import linux, preparing
from rechain.supervisor.container import Container, end
from rechain.supervisor.linux import signal
from rechain.supervisor.outcome import Outcome
from rechain.supervisor.seat import Occupant, desk_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rechain.record.paths import AttemptPaths, RunPaths
    from rechain.supervisor.link import Line

__all__ = ["NodeContainer"]


class NodeContainer:
    """A node's container; also what its agents ask for.

    Args:
        run: the run.
        attempt: the attempt.
        line: the link to the supervisor.
        name: the node's.

    Attributes:
        client: the pid of the engine's client; 0 if there is none.
    """

    def __init__(self, run: RunPaths, attempt: AttemptPaths, line: Line, name: str) -> None:
        self._run = run
        self._attempt = attempt
        self._line = line
        self._name = name
        self._id = f"{run.run_id}/{attempt.number}"
        self._place = attempt.node(name)
        self._facts: dict[str, Any] | None = None
        self._gpus: list[dict[str, str]] | None = None
        self._preparing = 0
        self._container: Container | None = None
        self.client = 0
        self._refused = ""
        self._torn = False
        self._inner: dict[int, int] = {}  # the pids of the ranks' guards in there
        self._guards: dict[int, dict[str, Any]] = {}  # and as they are known here
        self._pidfds: dict[int, int] = {}
        self._agents: dict[int, Occupant] = {}

    # What the supervisor says.

    def prepare(self, row: Mapping[str, Any]) -> None:
        """Have this node's engine get the image.

        Args:
            row: `facts`, if the supervisor is on this node and has them; else `cache`, `password`
                and `gpu`, whether the job has GPUs.
        """
        os.makedirs(self._place.root, exist_ok=True)
        for number in self._run.numbers():
            before = self._run.attempt(number).node(self._name)
            if number < self._attempt.number and os.path.exists(before.container_out):
                end(before)  # this node lost its guard with all else
        if row["facts"] is not None:
            self._facts = row["facts"]
            self._line.say("prepared", failure=None)
            return
        if row["gpu"]:
            from rechain.environment import gpu

            self._gpus, why = gpu.look(dict(os.environ))
            if not self._gpus:
                self._line.say("prepared", failure=Outcome("no_gpu", why).fields())
                return
        more = [] if self._gpus is None else ["", jsonl.dumps(self._gpus)]
        log = self._attempt.node_log(self._name)
        given = row["password"], {**os.environ, "RECHAIN_CACHE": row["cache"]}
        self._preparing = linux.start_child(
            lambda: preparing.become(self._run.job, self._place.prepare_result, log, *given, *more)
        )

    def _prepared(self, status: int) -> None:
        log = self._attempt.node_log(self._name)
        try:
            result = preparing.result_of(self._place.prepare_result, log, status)
            if result["container"] is None:
                raise EnvironmentFailure(result["notes"][0])
        except EnvironmentFailure as error:
            failure = Outcome(error.cause, error.message, error.detail, error.hint)
            self._line.say("prepared", failure=failure.fields())
            return
        self._facts = result["container"]
        self._line.say("prepared", failure=None, notes=result["notes"])

    def run(self, row: Mapping[str, Any]) -> None:
        """Run something in this node's container.

        Args:
            row: `what`, as `contained.describe` returned it.
        """
        if self._container is not None or self._facts is None:
            message = "its container runs already: has it another host name than the node?"
            self._line.say("ran", status=1, failure=Outcome("environment", message).fields())
            return
        what: dict[str, Any] = row["what"]
        variables = what["document"]["variables"]
        variables["RECHAIN_DESK"] = desk_of(self._id)
        if self._gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpu["uuid"] for gpu in self._gpus)
        container = self._container = Container(self._id, self._place, self._facts, self._name)
        reader, writer = os.pipe()
        try:
            container.lay(what)
            limits = container.allotted()
            self.client = linux.start_child(lambda: container.enter(what, *limits, writer))
        except OSError as error:
            os.write(writer, str(error).encode())
        os.close(writer)
        self._refused = os.read(reader, 4096).decode()
        os.close(reader)
        if not self.client:
            self._over(1)

    def answer(self, row: Mapping[str, Any]) -> None:
        """Tell an agent how what it had run has ended.

        Args:
            row: its `agent`, and `status`.
        """
        agent = self._agents.pop(row["agent"], None)
        if agent is not None:
            status = row["status"]
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            agent.answer(code)
            agent.leave()

    def forward(self, agent: Occupant) -> None:
        """Tell the supervisor what an agent wants to have run.

        Args:
            agent: the agent.
        """
        number = len(self._agents)
        while number in self._agents:
            number += 1
        self._agents[number] = agent
        assert agent.launch is not None
        to, what = agent.launch["node"], agent.launch["command"]
        self._line.say("launch", agent=number, to=to, command=what)

    # What happens in it.

    @property
    def descriptors(self) -> list[int]:
        """What becomes readable when there is something to look at."""
        line = self._container.descriptors if self._container is not None else ()
        return [*line, *self._pidfds.values()]

    def look(self) -> None:
        """See what the container says, and whether guards of ranks are gone without a word."""
        gone = [rank for rank, guard in self._guards.items() if not host.is_alive(guard)]
        if self._container is None:
            return
        self._container.look()
        if self._container.gone and not self._container.refused and not self._torn:
            # Said before others say what comes of it, and long before its client ends.
            self._torn = True
            if (outcome := self._container.outcome(0, "")) is not None:
                self._line.say("gone", failure=outcome.fields())
        for rank in gone if not self._container.gone else ():  # else they have ended with it
            self.forget(rank)
            if not os.path.exists(self._attempt.rank(rank, "end")):
                self._line.say("lost", rank=rank)

    def locate(self, note: dict[str, Any]) -> None:
        """Put the pids by which this machine knows a rank and its guard into its note.

        Args:
            note: what the guard has written.
        """
        assert self._container is not None
        rank, guard = note["rank"], note["guard"]
        self._inner[rank] = guard["pid"]
        # One that cannot be seen lives as long as the container, as far as is known here.
        client = host.process(self.client)
        note.update(self._container.locate(note["pid"]) or client)
        note["guard"] = self._container.locate(guard["pid"]) or client
        self._guards[rank] = note["guard"]
        pidfd = host.open_pidfd(note["guard"])
        if pidfd is not None:
            self._pidfds[rank] = pidfd

    def forget(self, rank: int) -> None:
        """Take a rank for ended."""
        self._guards.pop(rank, None)
        self._inner.pop(rank, None)
        if rank in self._pidfds:
            os.close(self._pidfds.pop(rank))

    def reaped(self, pid: int, status: int) -> None:
        """See whether a child of this process that has ended is one of these.

        Args:
            pid: the child.
            status: its wait status.
        """
        if pid == self._preparing:
            self._preparing = 0
            self._prepared(status)
        elif pid == self.client:
            self._over(status)

    def _over(self, status: int) -> None:
        assert self._container is not None
        client, self.client = self.client, 0
        ended = self._container.ended(status) if client else status
        outcome = self._container.outcome(status, self._refused)
        failure = None if outcome is None else outcome.fields()
        for rank in list(self._guards):
            self.forget(rank)
        self._line.say("ran", status=ended, failure=failure)

    def reached(self) -> bool:
        """Return whether Slurm's own SIGTERM reaches what runs in it."""
        return self._container is None or self._container.reached()

    def ask(self) -> None:
        """Have SIGTERM sent to every rank that has not ended."""
        if self._container is not None:
            for pid in self._inner.values():
                self._container.ask_process(pid)

    def end(self) -> None:
        """End it, and wait until it has."""
        for agent in self._agents.values():
            agent.leave()
        if self._preparing:
            os.kill(self._preparing, signal.SIGTERM)
        if self.client and self._container is not None:
            if self._container.started is None:  # it must not come up when nobody waits for it
                os.kill(self.client, signal.SIGKILL)
                os.waitpid(self.client, 0)
            self.client = 0
            self._container.ended(signal.SIGKILL)
