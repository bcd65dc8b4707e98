"""v1's `ScriptRunConfig`: a script and how it runs, in one object."""

from __future__ import annotations

import os

from rechain.exceptions import RunConfigurationException, UserErrorException
from rechain.runconfig.distributed import (
    MpiConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from rechain.runconfig.docker import DockerConfiguration
from rechain.runconfig.environment import Environment
from rechain.runconfig.run_configuration import RunConfiguration
from rechain.runconfig.section import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rechain.data import DataReference

    DistributedJob = MpiConfiguration | PyTorchConfiguration | TensorflowConfiguration

__all__ = ["ScriptRunConfig"]


class ScriptRunConfig:
    """A script, or a command, and how it runs.

    Args:
        source_directory: folder with the script's files; a snapshot of it is what runs.
        script: the script, relative to `source_directory`.
        arguments: its arguments.
        run_config: how it runs. The parameters below are then not looked at, but for `command`
            and `resume_from`; a warning says so.
        compute_target: where to run; this machine if left out.
        environment: what it finds installed; v1's default environment if left out.
        distributed_job_config: how its processes are laid out.
        resume_from: a `DataPath` with what an earlier run left, mounted for the script and given
            to it as `--resume-from`; or a run, a run's id, or the path of a snapshot or of a
            folder with snapshots.
        max_run_duration_seconds: after this time (s) the run is stopped; None for no limit.
        command: what to run, in place of a script and its arguments. A list becomes one command
            line, joined by spaces as in v1.
        docker_runtime_config: how a container is used.

    Attributes:
        source_directory: as given.
        script: as given, else the `run_config`'s.
        arguments: as given, else the `run_config`'s.
        command: as given, else the `run_config`'s.
        run_config: the `RunConfiguration`, the given one or a new one.

    Raises:
        RunConfigurationException: `distributed_job_config` or `docker_runtime_config` is
            something else.
        UserErrorException: another parameter is of a wrong type, or script and command are both
            given.
    """

    MAX_DURATION_SECONDS_DEFAULT = 30 * 24 * 60 * 60

    def __init__(
        self,
        source_directory: str | os.PathLike[str],
        script: str | None = None,
        arguments: Sequence[object] | None = None,
        run_config: RunConfiguration | None = None,
        _telemetry_values: dict[str, Any] | None = None,
        compute_target: Any = None,
        environment: Environment | None = None,
        distributed_job_config: DistributedJob | None = None,
        resume_from: Any = None,
        max_run_duration_seconds: float | None = MAX_DURATION_SECONDS_DEFAULT,
        command: str | Sequence[object] | None = None,
        docker_runtime_config: DockerConfiguration | None = None,
    ) -> None:
        _check_types(
            source_directory=((str, os.PathLike), "a folder's path", source_directory),
            script=((str, os.PathLike), "a script's path", script),
            arguments=((list, tuple), "a list", arguments),
            run_config=(RunConfiguration, "a RunConfiguration", run_config),
            environment=(Environment, "an Environment", environment),
            max_run_duration_seconds=((int, float), "a number", max_run_duration_seconds),
            command=((str, list, tuple), "a str or a list", command),
        )
        if script and command:
            raise UserErrorException(
                f"script={script!r} and command={command!r} both say what to run; give one."
            )
        self.source_directory = source_directory
        self.script = script
        self.arguments = None if arguments is None else list(arguments)
        self.command = command
        self.run_config = run_config or RunConfiguration()
        self._telemetry_values = _telemetry_values
        self._references: dict[str, DataReference] = {}
        self._resumed: Any = None
        self._docker_given = docker_runtime_config is not None
        if run_config is None:
            if compute_target not in (None, ""):
                self.run_config.target = _target(compute_target)
            if environment is not None:
                self.run_config.environment = environment
                docker = environment.docker  # where v1 said so before it had DockerConfiguration
                self.run_config.docker = DockerConfiguration(
                    docker.enabled, docker.shared_volumes, docker.arguments, docker.shm_size
                )
            if docker_runtime_config is not None:
                _apply_docker(self.run_config, docker_runtime_config)
            if distributed_job_config is not None:
                _apply_distribution(self.run_config, distributed_job_config)
            if max_run_duration_seconds is not None:
                self.run_config.max_run_duration_seconds = int(max_run_duration_seconds)
        else:
            ignored = {
                "compute_target": compute_target,
                "environment": environment,
                "distributed_job_config": distributed_job_config,
                "docker_runtime_config": docker_runtime_config,
            }
            named = [name for name, value in ignored.items() if value not in (None, "")]
            if max_run_duration_seconds != self.MAX_DURATION_SECONDS_DEFAULT:
                named.append("max_run_duration_seconds")
            if named:
                log(f"run_config is given, so {', '.join(named)} has no effect", None)
            self._take("script", run_config.script)
            self._take("arguments", run_config.arguments)
            self._take("command", run_config.command)
        if resume_from is not None:
            self._resume_from(resume_from)

    def __repr__(self) -> str:
        what = f"command={self.command!r}" if self.command else f"script={self.script!r}"
        return (
            f"ScriptRunConfig({self.source_directory!r}, {what}, arguments={self.arguments!r}, "
            f"compute_target={self.run_config.target!r})"
        )

    def _take(self, name: str, theirs: Any) -> None:
        """Take what the run configuration says, unless the caller says something else."""
        if getattr(self, name) in (None, ""):
            setattr(self, name, theirs or getattr(self, name))
        elif theirs:
            log(f"{name} is taken as given, not from run_config", None)

    def _resume_from(self, given: Any) -> None:
        from rechain.data.data_path import DataPath, DataPathComputeBinding
        from rechain.estimator.validation import check_resume_from

        check_resume_from(given)
        self._resumed = given
        if not isinstance(given, DataPath):
            return  # how the script goes on from it, it is asked when it is submitted
        reference = given.create_data_reference("MODEL_LOCATION", DataPathComputeBinding())
        self._references["MODEL_LOCATION"] = reference
        self.run_config.data_references["MODEL_LOCATION"] = reference.to_config()
        self.arguments = [*(self.arguments or ()), "--resume-from", str(reference)]


def _check_types(**parameters: Any) -> None:
    for name, (kind, words, value) in parameters.items():
        if (value is not None and not isinstance(value, kind)) or isinstance(value, bool):
            raise UserErrorException(
                f"{name} is {value!r}, a {type(value).__name__}; it must be {words}."
            )


def _target(target: Any) -> str:
    name = getattr(target, "name", target)
    if not isinstance(name, str):
        raise UserErrorException(
            f"compute_target is {target!r}, a {type(target).__name__}; it must be a compute "
            "target or the name of one."
        )
    return name


def _apply_docker(run_config: RunConfiguration, docker: Any) -> None:
    if not isinstance(docker, DockerConfiguration):
        raise RunConfigurationException(
            f"docker_runtime_config is {docker!r}, a {type(docker).__name__}; it must be a "
            "DockerConfiguration."
        )
    run_config.docker = docker


def _apply_distribution(run_config: RunConfiguration, job: Any) -> None:
    if isinstance(job, MpiConfiguration):
        run_config.mpi = job
        run_config.communicator = "IntelMpi"
        run_config.node_count = job.node_count
    elif isinstance(job, PyTorchConfiguration):
        run_config.pytorch = job
        run_config.framework = "PyTorch"
        run_config.communicator = job.communication_backend
        run_config.node_count = job.node_count
    elif isinstance(job, TensorflowConfiguration):
        run_config.tensorflow = job
        run_config.framework = "TensorFlow"
        run_config.communicator = "ParameterServer"
        run_config.node_count = job.worker_count
    else:
        raise RunConfigurationException(
            f"distributed_job_config is {job!r}, a {type(job).__name__}; it must be an "
            "MpiConfiguration, PyTorchConfiguration or TensorflowConfiguration."
        )
