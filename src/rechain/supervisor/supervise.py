"""The supervisor: makes the environment ready, runs the script, watches it, writes the record."""

from __future__ import annotations

import os
import time

from rechain.environment.errors import EnvironmentFailure
from rechain.record import events, host, jsonl
from rechain.record.journal import Journal
from rechain.record.paths import AttemptPaths, RunPaths
from rechain.supervisor import linux, tree
from rechain.supervisor.linux import signal
from rechain.supervisor.outcome import Outcome
from rechain.supervisor.script import make_script, redirect
from rechain.supervisor.stage import Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rechain.supervisor.nodes import Nodes
    from rechain.supervisor.pool import Place
    from rechain.supervisor.script import Script
    from rechain.supervisor.slurm import Slurm
    from rechain.supervisor.stall import Watchdog

__all__ = ["Supervisor"]

_RESERVE_BYTES = 16384  # so that the end can be recorded when the job fills the disk
_WIND_UP = 5.0  # seconds for the other ranks to end by themselves once one has failed
_LOOK = 1.0  # seconds between looks at a folder that other hosts write
_STACKS = 0.5  # seconds for the ranks to write their stacks


class Supervisor:
    """One attempt's supervisor.

    Args:
        run: the run.
        attempt: the attempt, claimed by the launcher.
        payload: what travelled by pipe: the environments, with their secrets.
        slurm: the Slurm job that it runs in.
    """

    def __init__(
        self,
        run: RunPaths,
        attempt: AttemptPaths,
        payload: dict[str, Any],
        slurm: Slurm | None = None,
    ) -> None:
        self._slurm = slurm
        self.run_paths = run
        self.attempt = attempt
        self._payload = payload
        self.cgroup: str | None = None
        self.stopping: str | None = None
        self.stopping_message = ""
        self._deadline: float | None = None  # the time limit, on the monotonic clock
        self._patience: float | None = None  # when SIGKILL follows SIGTERM
        self._asking = 0.0  # not before is the script asked to end
        self._signaled = False  # Slurm has asked it already
        self._child = 0
        self._script: Script | None = None
        self._place: Place | None = None
        self._watchdog: Watchdog | None = None
        self._status: int | None = None
        self._terminated = False

    def run(self, guard: int) -> int:
        """Run the attempt to its end.

        Args:
            guard: the pid of the guard, this process's parent.

        Returns:
            The exit code of this process: 0 once the end is recorded.
        """
        self._guard = guard
        self._wakeup = linux.listen(self._on_term)
        try:
            linux.die_with_parent(signal.SIGTERM, guard)
            linux.become_subreaper()
            self.job: dict[str, Any] = jsonl.read(self.run_paths.job)
            self._reserve = f"{self.attempt.root}/reserve"
            linux.allocate(self._reserve, _RESERVE_BYTES)
            self.journal = Journal(self.attempt.journal)
            self.cgroup = tree.make_cgroup(
                f"rechain-{self.run_paths.run_id}-{self.attempt.number}"
            )
            self.journal.write(
                "attempt",
                attempt=self.attempt.number,
                host=host.identity(),
                guard=host.process(guard),
                supervisor=host.process(os.getpid()),
                cgroup=self.cgroup,
                cpus=len(os.sched_getaffinity(0)),
                slurm=self._slurm.facts if self._slurm else None,
            )
            self._watch = events.Watch()
            self._watch.add(self.run_paths.requests)
            self._watch.add(self.run_paths.attempts)
        except (OSError, ValueError) as error:
            linux.answer(f"the supervisor cannot start: {error}")
            return 1
        if os.path.exists(self.attempt.reader_end):
            return 0  # a reader gave this attempt up before its first line was there
        linux.answer("ok")
        for descriptor in (0, 1):
            redirect("/dev/null", os.O_RDWR, descriptor)
        try:
            outcome = self._work()
        except OSError as error:
            outcome = Outcome("record", str(error))
        leftover = tree.end_descendants()
        if self.cgroup:
            tree.end_cgroup(self.cgroup)
        self._finish(outcome, leftover)
        if outcome.cause == "supervisor_lost" and os.getppid() != guard:
            from rechain.supervisor.rest import send_rest

            send_rest(self.run_paths, self.attempt, self._payload)
        return 0

    def _on_term(self, *_: object) -> None:
        self._terminated = True

    def _work(self) -> Outcome:
        stage = Stage(self.run_paths, self.attempt, self.job, self._payload)
        for note in self.job.get("notes", ()):
            self.journal.write("note", text=note)
        try:
            stage.find()
            for note in stage.notes:
                self.journal.write("note", text=note)
            if not stage.ready:
                self.journal.write("state", state="Preparing")
                if not self._run_child(stage.start_preparing):
                    return self._stopped(None)
                stage.read_result(self._status or 0)
            for note in stage.write_lock():
                self.journal.write("note", text=note)
            if stage.unpacks:
                if not self._run_child(stage.start_unpacking):
                    return self._stopped(None)
                self.journal.write("note", text=stage.use_unpacked())
            if stage.has_data and not self._run_child(lambda: stage.start_with_data("bring")):
                return self._stopped(None)
            stage.read_inputs(self._status or 0)
        except EnvironmentFailure as error:
            return Outcome(error.cause, error.message, error.detail, error.hint)
        if self.attempt.number > 1:
            if not self._run_child(stage.start_resuming):
                return self._stopped(None)
            stage.say_how_it_goes_on(self.journal)
        outcome = self._run_script(stage)
        ran = self._script is not None
        for note in stage.changed_inputs() if ran else ():
            self.journal.write("note", text=note)
        return self._send_outputs(stage, outcome) if stage.sends and ran else outcome

    def _send_outputs(self, stage: Stage, outcome: Outcome) -> Outcome:
        """Take outputs to their datastores, however the script ended.

        Where a user or a limit of the run's own ended it there is time for that. Where something
        else did, what is left of the grace must do.
        """
        tree.end_descendants()
        if self.stopping in ("supervisor_lost", "preempted"):
            return outcome
        script, self._script, self._watchdog, self._deadline = self._script, None, None, None
        if self.stopping != "terminated" and not self._signaled:
            self._patience = None
        self._asking = self._patience or 0.0
        self.journal.write("state", state="Finalizing")
        self._run_child(
            lambda: stage.start_with_data("finish" if outcome.cause == "completed" else "take")
        )
        self._script = script
        why, notes = stage.read_sent(self._status)
        for note in notes:
            self.journal.write("note", text=note)
        return Outcome("output", why) if why and outcome.cause == "completed" else outcome

    def _run_script(self, stage: Stage) -> Outcome:
        nodes = None
        if self.job.get("pool"):
            try:
                nodes = self._take_nodes()
            except OSError as error:
                return Outcome("environment", f"no node can be had: {error}")
            if nodes is None:
                return self._stopped(None)
        around = (self.run_paths, self.attempt, stage, self.journal)
        script = self._script = make_script(self.job, self._watch, *around)
        if not self._make_ready(script):
            script.settle()
            return self._stopped(None)
        reader, writer = os.pipe()
        self._spawn(lambda: script.start_on(nodes, writer))
        os.close(writer)
        self.journal.write("state", state="Running", sync=True)
        script.started(self._child)
        if stage.sends:
            linux.start_child(lambda: stage.start_with_data("mirror"), self._fork)
        limit = self.job["limits"]["seconds"]
        if limit is not None:
            self._deadline = time.monotonic() + limit
        stall = self.job["limits"].get("stall_seconds")
        if stall is not None:
            from rechain.supervisor.stall import Watchdog

            ranks = self.job["distribution"]["communicator"] != "None"
            self._watchdog = Watchdog(self.run_paths, self.attempt, stall, ranks, script.processes)
        refused = os.read(reader, 4096).decode()  # ends when the script's interpreter is running
        os.close(reader)
        status = script.ended(self._wait_for_child(script.ask_to_end))
        if status and not self.stopping:
            self._ended_by_slurm()  # it may have been quicker to end the script than to tell us
        if self.stopping:
            return self._stopped(status)
        return script.outcome(status, refused)

    def _take_nodes(self) -> Nodes | None:
        """Wait in line for nodes; None if the attempt must end before it has them."""
        from rechain.environment import gpu
        from rechain.supervisor.nodes import Nodes
        from rechain.supervisor.pool import Place

        gpus = gpu.visible(self._payload["script"]) if self.job["pool"]["gpus"] else []
        place = self._place = Place(self.job, self.attempt, self._guard, self._watch, gpus)
        self._look_around()
        queued = False
        while not self.stopping and not place.enter():
            if not queued:
                queued = True
                self.journal.write("state", state="Queued", sync=True)
            self._sleep()
            self._look_around()
        if self.stopping:
            return None
        nodes = Nodes(self.job, place.ticket, self.cgroup)
        self.journal.write("nodes", **nodes.applied)
        for note in nodes.notes:
            self.journal.write("note", text=note)
        self._payload["script"].update(nodes.variables())
        return nodes

    def _make_ready(self, script: Script) -> bool:
        """See to what comes before the script; return False if the attempt must end first."""
        while not self.stopping and not script.ready():
            self._sleep()
            self._look_around()
            self._reap()
        if not self.stopping and script.unproved and self._run_child(script.prove):
            script.read_proof()
        return not self.stopping

    def _stopped(self, status: int | None) -> Outcome:
        assert self.stopping is not None
        outcome = Outcome(self.stopping, self.stopping_message)
        if status is not None and os.WIFEXITED(status):
            outcome.exit_code = os.WEXITSTATUS(status)
        elif status is not None:
            outcome.signal = os.WTERMSIG(status)
        return outcome

    def _run_child(self, start: Callable[[], None]) -> bool:
        """Run a child to its end; return False if the attempt must end first."""
        self._spawn(start)
        self._wait_for_child(lambda: linux.ask_group_to_end(self._child))
        return self.stopping is None

    def _spawn(self, start: Any) -> None:
        """Fork the child that is waited for."""
        self._status = None
        self._child = linux.start_child(start, self._fork)

    def _fork(self) -> int:
        if self.cgroup:
            try:
                return linux.fork_into(self.cgroup)
            except OSError:
                pass  # its mark in the environment has to do
        return os.fork()

    def _wait_for_child(self, ask_to_end: Callable[[], None]) -> int:
        """Wait for the child's end, seeing to requests, signals and time limits meanwhile.

        Args:
            ask_to_end: what to do first when the child must end.
        """
        asked = False
        while True:
            self._look_around()
            if self._watchdog is not None and self._patience is None and self._watchdog.stalled():
                self._stalled()
            if self._script is not None:
                if self._script.look():
                    self._patience = 0
                elif self._script.due is not None and time.monotonic() >= self._script.due:
                    # The others wait for the rank that failed, and would for ever.
                    grace = min(_WIND_UP, self.job["limits"]["grace_seconds"])
                    self._patience = time.monotonic() + grace
            if self._patience is not None and not asked and time.monotonic() >= self._asking:
                asked = True
                if not self._signaled:
                    ask_to_end()
                elif self._script is not None:
                    self._script.was_asked()
            self._reap()
            if self._status is not None and not self._outlived():
                return self._status
            if self._patience is not None and time.monotonic() >= self._patience:
                tree.end_descendants()
                return self._status if self._status is not None else signal.SIGKILL
            self._sleep()

    def _sleep(self) -> None:
        """Wait until something happens or is due."""
        due = self._script.due if self._script is not None else None
        awaited = self._script or self._place
        descriptors = awaited.descriptors if awaited is not None else ()
        moments = [m for m in (self._deadline, self._patience, due) if m is not None]
        if self._patience is None and self._watchdog is not None:
            moments.append(self._watchdog.due)
        if self._asking > time.monotonic():
            moments.append(self._asking)
        if self._slurm is not None:
            moments.append(time.monotonic() + _LOOK)  # no event tells what another host wrote
        pause = max(0.0, min(moments) - time.monotonic()) if moments else None
        events.wait([self._wakeup, self._watch.fileno(), *descriptors], pause)
        self._watch.drain()
        try:
            os.read(self._wakeup, 4096)
        except BlockingIOError:
            pass

    def _reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid == self._child:
                    self._status = status
        except ChildProcessError:
            return

    def _look_around(self) -> None:
        """See whether anything says that the attempt must end."""
        if os.getppid() != self._guard:
            self._stop("supervisor_lost", "the guard was killed; the supervisor ended its tree", 0)
        elif self._terminated:
            self._was_terminated("the supervisor received SIGTERM")
        elif self._script is not None and self._script.told:
            self._was_terminated(self._script.told)
        elif os.path.exists(f"{self.run_paths.requests}/kill"):
            self._stop("canceled", "canceled without grace", 0)
        elif os.path.exists(f"{self.run_paths.requests}/cancel"):
            self._stop("canceled", "canceled on request")
        elif self.run_paths.numbers()[-1] != self.attempt.number:
            self._stop("supervisor_lost", "a newer attempt has taken over", 0)
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            limit = self.job["limits"]["seconds"]
            self._stop("time_limit", f"longer than {limit:g} s")
        elif self._place is not None and self._place.must_leave():
            self._stop("preempted", "a dedicated run needs its nodes")

    def _was_terminated(self, told: str) -> None:
        """See who sent SIGTERM, and stop."""
        if not self._ended_by_slurm():
            self._stop("terminated", told)

    def _ended_by_slurm(self) -> bool:
        """See whether Slurm is ending the job, and stop if so."""
        why = self._slurm.ended() if self._slurm else None
        if why is not None:
            self._signaled = True  # Slurm signals all that belongs to the job
            self._stop(*why)
        return why is not None

    def _stalled(self) -> None:
        """Have all ranks say where they are, and end them."""
        assert self._script is not None
        limits = self.job["limits"]
        message = f"no sign of life for {limits['stall_seconds']:g} s"
        self._stop("stalled", message, _STACKS + limits["grace_seconds"])
        self._asking = time.monotonic() + _STACKS
        self._script.ask_for_stacks()

    def _outlived(self) -> bool:
        """Return whether ranks run on without what started them, which Slurm ends as well."""
        if self._script is None or not self._script.outlives():
            return False
        return self.stopping is not None or self._ended_by_slurm()

    def _stop(self, cause: str, message: str, grace: float | None = None) -> None:
        """Ask the script to end, and set the moment after which it is not asked."""
        if grace is None:
            grace = self.job["limits"]["grace_seconds"]
        moment = time.monotonic() + grace
        if self.stopping is None:
            self.stopping = cause
            self.stopping_message = message
            self._deadline = None
            self._patience = moment
            self.journal.write("stopping", cause=cause)
        elif grace == 0:  # a second, more urgent reason
            self._patience = min(self._patience or moment, moment)

    def _finish(self, outcome: Outcome, leftover: int) -> None:
        fields = {**outcome.fields(), "leftover": leftover}
        if self._script is not None:
            fields["leftover"] = self._script.leftover(leftover)
        if self._slurm.goes_on(outcome.cause) if self._slurm else outcome.cause == "preempted":
            fields["requeue"] = True  # the guard starts the next attempt, or Slurm does
        try:
            os.unlink(self._reserve)
            if self._script is not None:
                self._script.give_back_room()
        except OSError:
            pass
        try:
            self.journal.write("end", sync=True, **fields)
        except OSError:
            # Still no room: give up what only explains, keep what counts.
            fields.update(detail="", hint="", tail=[])
            self.journal.write("end", sync=True, **fields)
        if self._place is not None:
            self._place.leave()
