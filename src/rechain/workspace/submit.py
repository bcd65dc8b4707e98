"""From a description of a run to a started run.

The run folder is made beside its place and renamed into it complete, so that a run is there as a
whole or not at all, whatever happens to this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from rechain.compute import get
from rechain.compute.target import StartError
from rechain.environment import store
from rechain.exceptions import ExperimentExecutionException, UserErrorException
from rechain.job import snapshot
from rechain.job.seen import look
from rechain.job.variables import inherited, recorded
from rechain.record import host, index, jsonl, requests
from rechain.record.paths import RunPaths
from rechain.workspace.details import ranks_in_words
from rechain.workspace.run import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from rechain.estimator import MMLBaseEstimator
    from rechain.job.job import Job
    from rechain.workspace.experiment import Experiment
    from rechain.workspace.workspace import Workspace

__all__ = ["Prepared", "prepare", "submit"]


def submit(
    experiment: Experiment,
    config: Any,
    *,
    tags: dict[str, str] | None,
    overrides: dict[str, Any],
    parent: str | None = None,
) -> Run:
    """Start a run of an estimator; see `Experiment.submit` and `Run.submit_child`."""
    arguments = None
    if overrides:
        from rechain.estimator.overrides import overridden

        config, arguments = overridden(config, overrides)
    return prepare(experiment, config, tags=tags, arguments=arguments, parent=parent).start()


def prepare(
    experiment: Experiment,
    config: MMLBaseEstimator,
    *,
    tags: dict[str, str] | None = None,
    arguments: Sequence[str] | None = None,
    python: str | None = None,
    grace_seconds: float = 10,
    stall_seconds: float | None = None,
    mpi: str | None = None,
    gpu: str | None = None,
    as_of: object = None,
    lock: str | None = None,
    channels: Sequence[str] = (),
    pull: bool = False,
    parent: str | None = None,
) -> Prepared:
    """Compile a description and check it, without starting or writing anything.

    Args:
        experiment: where the run will belong.
        config: an estimator.
        tags: labels for the run.
        arguments: the script's arguments, in place of the description's own.
        python: the interpreter, as a version, a name or a path.
        grace_seconds: between SIGTERM and SIGKILL, when the run is stopped.
        stall_seconds: after this time without any sign of progress it is stopped.
        mpi: which MPI starts its ranks; see `compile`.
        gpu: whether it may run without the GPU that it asks for; see `compile`.
        as_of: the day whose packages its environment has; see `compile`.
        lock: the file of the lock that is its environment; see `compile`.
        channels: where its packages of conda come from; see `compile`.
        pull: whether its image is fetched again; see `compile`.
        parent: the id of the run that it will be a child of.

    Raises:
        AzureMLException: the description makes no run; the message says why.
    """
    from rechain.estimator import MMLBaseEstimator, compile

    going_on = getattr(config, "_resumed", None)  # of a ScriptRunConfig
    if not isinstance(config, MMLBaseEstimator):
        from rechain.estimator.as_estimator import as_estimator

        config, own = as_estimator(config, experiment.workspace)
        python = python or own.python
        as_of = own.as_of if as_of is None else as_of
        lock = lock or own.lock
        channels = channels or own.channels
    if not isinstance(tags or {}, dict):
        raise UserErrorException(f"tags={tags!r}: tags are a dict of names and values")
    tags = {name: "" if value is None else value for name, value in (tags or {}).items()}
    job = compile(
        config,
        experiment=experiment.name,
        arguments=arguments,
        python=python,
        grace_seconds=grace_seconds,
        stall_seconds=stall_seconds,
        mpi=mpi,
        gpu=gpu,
        as_of=as_of,
        lock=lock,
        channels=channels,
        pull=pull,
        **_place(experiment.workspace, config),
        tags=tags,
        default_datastore=experiment.workspace.get_default_datastore,
    )
    if going_on is None:
        going_on = config._given["resume_from"]
    if going_on is not None:
        from rechain.workspace.resuming import resumed

        job = resumed(experiment.workspace, going_on, job)
    return Prepared(experiment, job if parent is None else job.replace(parent=parent))


def _place(workspace: Workspace, config: MMLBaseEstimator) -> dict[str, Any]:
    """Return an estimator's `pool` or `slurm`, by name; nothing for this machine as it is."""
    from rechain.estimator.base import MMLBaseEstimator

    if not isinstance(config, MMLBaseEstimator):
        return {}  # what is no estimator is refused where it is compiled
    given = config._as_changed()[0]._given
    if given["compute_target"] == "local":
        return {}
    from rechain.workspace.place import place_of

    return place_of(
        workspace,
        given["compute_target"],
        vm_size=given["vm_size"],
        vm_priority=given["vm_priority"],
        node_count=given["node_count"],
    )


class Prepared:
    """A run that could be started.

    Args:
        experiment: where it will belong.
        job: the compiled description.
    """

    def __init__(self, experiment: Experiment, job: Job) -> None:
        self._experiment = experiment
        self._job = job
        moment = time.time()
        self._run_id = f"{experiment.name}_{int(moment)}_{os.urandom(4).hex()}"
        self._paths = experiment.workspace._paths.run(self._run_id)
        self._target = get(job.to_json())

    @property
    def summary(self) -> str:
        """What will run where, in a few words."""
        environment = self._job.environment
        if environment["kind"] == "user-managed":
            what = f"{environment['python']} as it is"
        else:
            from rechain.environment.spec import shown

            what = shown(environment)
        if "image" in environment:
            asked = environment["image"].get("asked")  # else only if there is an engine
            what += f" in {asked}" if asked else " with use_docker"
        return " · ".join([what, *ranks_in_words(self._job.distribution), self._job.target])

    def plan(self) -> dict[str, Any]:
        """Return all that `start` would do, for people and golden tests. Pure."""
        document = self._job.to_json()
        submission = self._target.plan(self._paths, document)
        return {
            "submission": submission.to_json(),
            "source": document["source"]["directory"],
            "environment": document["environment"],
            "limits": document["limits"],
            "distribution": document["distribution"],
            "pool": document["pool"],
            "secrets": document["secrets"],
            "resumed": document["resumed"],
            "notes": document["notes"],
        }

    def start(self) -> Run:
        """Make the run folder and start the run.

        Raises:
            SnapshotException: the source folder cannot be stored.
            ExperimentExecutionException: the run cannot be recorded or started.
        """
        from rechain.job import git

        workspace = self._experiment.workspace
        workspace._make()
        # A replay has what git said of the run that it repeats.
        replayed = self._job.source["snapshot"] is not None
        facts = None if replayed else git.start(self._job.source["directory"])
        staged = RunPaths(f"{os.path.dirname(self._paths.root)}/.{self._run_id}")
        try:
            with contextlib.ExitStack() as held:
                self._launch(lambda: self._make_ready(staged, facts, held))
        except OSError as error:
            raise ExperimentExecutionException(
                f"the run cannot be recorded in {workspace.path}: {error.strerror or error}", error
            ) from error
        except (KeyboardInterrupt, SystemExit):
            if os.path.exists(self._paths.root):  # it was started before the signal was seen
                requests.ask_to_stop(self._paths)
            raise
        finally:
            _remove(staged.root)
            if facts is not None:
                facts.close()
        return Run(self._experiment, self._run_id)

    def _make_ready(
        self, staged: RunPaths, facts: Any, held: contextlib.ExitStack
    ) -> dict[str, Any]:
        """Make the run folder; return the payload. From its last step on, signals are held."""
        store_path = self._experiment.workspace._paths.store
        source, notes = self._job.source, []
        resumed = self._job.resumed
        if source["snapshot"] is None:
            taken = snapshot.take(source["directory"], store_path, required=self._job.command[:1])
            source, notes = {**source, "snapshot": taken.digest}, list(taken.notes)
            if resumed and resumed["snapshot"]:
                from rechain.workspace.resuming import store_snapshot

                resumed["files"] = store_snapshot(store_path, resumed)
        if "copy" in source:
            from rechain.data.source import path_of

            source["copy"]["path"] = path_of(source["snapshot"])
        self._job = self._job.replace(
            source=source,
            resumed=resumed,
            notes=[*self._job.notes, *notes],
            seen=look(self._job.command[1:]),
        )
        self._fill(staged, facts)
        held.enter_context(_signals_held())
        self._enter(staged)
        cache = store.cache_root()
        store.want(cache, self._job.environment, self._paths.root)
        return {
            "script": self._script_environment(),
            "prepare": {**os.environ, **_data_secrets()},
            "cache": cache,
            "password": self._job.registry_password,
        }

    def _enter(self, staged: RunPaths) -> None:
        """Make the complete run folder one of the workspace's runs."""
        paths = self._experiment.workspace._paths
        if self._job.parent:  # listed there, not in the index
            children = paths.run(self._job.parent).children
            os.makedirs(children, exist_ok=True)
            entry = f"{children}/{self._run_id}"
            os.close(os.open(entry, os.O_WRONLY | os.O_CREAT, 0o644))
            os.rename(staged.root, self._paths.root)
            return
        index.add(paths, self._run_id)
        try:
            os.rename(staged.root, self._paths.root)
        except OSError:
            index.remove(paths, self._run_id)
            raise

    def _fill(self, staged: RunPaths, facts: Any) -> None:
        workspace = self._experiment.workspace
        os.makedirs(staged.root)
        for folder in (staged.requests, staged.metrics, staged.attempts):
            os.mkdir(folder)
        if "copy" in self._job.source:  # what prepares the run fills its folder from there
            from rechain.data.source import send_source

            os.mkdir(staged.work)
            send_source(self._job.source, workspace._paths.store, staged.root)
        else:
            snapshot.checkout(workspace._paths.store, self._job.source["snapshot"], staged.work)
        if files := (self._job.resumed or {}).get("files"):
            for path, *_ in snapshot.manifest(workspace._paths.store, files):
                with contextlib.suppress(FileNotFoundError):  # the source folder's own of its name
                    os.unlink(f"{staged.work}/{path}")
            snapshot.checkout(workspace._paths.store, files, staged.work)
        for name in ("outputs", "logs"):
            os.makedirs(f"{staged.work}/{name}", exist_ok=True)
            os.symlink(f"work/{name}", f"{staged.root}/{name}")
        document = self._job.to_json()
        document["run_id"] = self._run_id
        document["workspace"] = workspace.name
        if facts is not None:
            properties, patch = facts.result()
            document["properties"] = {**document["properties"], **properties}
            if patch:
                with open(staged.patch, "wb") as file:
                    file.write(patch)
        document["submitted"] = _submitted()
        jsonl.write_new(staged.job, document)

    def _launch(self, payload: Callable[[], dict[str, Any]]) -> None:
        submission = self._target.plan(self._paths, self._job.to_json())
        try:
            handle = self._target.start(submission, self._paths, payload)
        except (StartError, OSError) as error:
            if not os.path.exists(self._paths.root):  # it did not come to a run
                if isinstance(error, OSError):
                    raise
                raise ExperimentExecutionException(f"nothing can be started: {error}") from error
            with contextlib.suppress(OSError):  # the disk may be full: that is what it says
                from rechain.compute.ended import give_up

                cause = "environment" if self._job.slurm else "supervisor_lost"
                give_up(self._paths, cause, str(error), here=True)
            raise ExperimentExecutionException(
                f"the run {self._run_id} cannot be started: {error}", error
            ) from error
        with contextlib.suppress(OSError):  # it runs, and records by itself how that ends
            jsonl.write_new(self._paths.submission, {**submission.to_json(), "handle": handle})

    def _script_environment(self) -> dict[str, str]:
        environment = self._job.environment
        managed = environment["kind"] != "user-managed" or "image" in environment
        found = inherited(os.environ, managed)
        if self._job.replayed:  # of what changes results, as it was
            now = recorded(found)
            found = {name: text for name, text in found.items() if name not in now}
            found.update(self._job.inherited)
        return {
            **found,
            **self._job.variables,
            **self._job.secret_values,
        }


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Put off SIGINT and SIGTERM for some milliseconds: a run is started whole or not at all."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _data_secrets() -> dict[str, str]:
    """Return the secrets of datastores that this process was given; they travel by pipe."""
    import sys

    known = sys.modules.get("rechain.data.credentials")
    return known.variables() if known is not None else {}


def _submitted() -> dict[str, Any]:
    from rechain import __version__

    return {
        "time": time.time(),
        "user": _user(),
        "host": host.identity(),
        **host.process(os.getpid()),
        "rechain": __version__,
    }


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a uid without a name, as in many containers
        return str(os.getuid())


def _remove(folder: str) -> None:
    if os.path.lexists(folder):
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
