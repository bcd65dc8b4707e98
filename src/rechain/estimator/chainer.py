"""The Chainer estimator."""

from __future__ import annotations

from rechain.estimator.base import _FrameworkBaseEstimator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import Any

    from rechain.estimator.distributed import Mpi
    from rechain.runconfig import MpiConfiguration

__all__ = ["Chainer"]


class Chainer(_FrameworkBaseEstimator):
    """A Chainer training: which script, with which arguments, in which environment.

    The parameters are those of Azure ML's estimator of this name. Some of them ask for what
    Rechain does not have yet; these raise `NotBuiltError`, which says what to do meanwhile.
    Constructing an estimator looks at no file but a requirement file: the folder and the script
    may come into being later, before the submission.

    Args:
        source_directory: folder with the training's files; a snapshot of it is what runs.
        compute_target: where to run: "local", this machine; an `AmlCompute`, or its name.
        vm_size: without `compute_target`: nodes of this size are made for this run alone.
        vm_priority: "dedicated" or "lowpriority", which yields to dedicated runs on its nodes.
        entry_script: the script, relative to `source_directory`. A notebook (`.ipynb`) runs
            through papermill and is left in `outputs/` as it was executed.
        script_params: the script's arguments: option to value. A flag has the value "", a list
            is one option with several values. For a notebook: its parameters, by name.
        node_count: number of nodes; more than 1 needs an `AmlCompute` or `vm_size`.
        process_count_per_node: number of processes on each, with `distributed_backend`.
        distributed_backend: "mpi"; `distributed_training` says the same and more.
        distributed_training: `Mpi(process_count_per_node=...)`: the script runs in that many
            processes on each node, which speak MPI.
        use_gpu: True: the script uses the machine's GPU, and gets the CuPy that drives it; without
            one the run fails, or, with `RECHAIN_GPU=optional`, runs on the CPU.
        use_docker: True, if you say so: the script runs in a container of podman or docker. That
            it is the default asks for nothing.
        custom_docker_base_image: old name of `custom_docker_image`.
        custom_docker_image: the image of the container. Its own Python is used with
            `user_managed`; otherwise Rechain puts the environment into it.
        image_registry_details: a `ContainerRegistry`: where the image comes from, and a user and
            password for it. The password is recorded nowhere.
        user_managed: whether to run with a Python of yours, as it is, instead of one that
            Rechain provides with Chainer in it.
        conda_packages: packages of conda, such as `numpy=1.14`, Python among them.
        pip_packages: further requirements, such as "numpy==1.19.5".
        conda_dependencies_file_path: old name of `conda_dependencies_file`.
        pip_requirements_file_path: old name of `pip_requirements_file`.
        conda_dependencies_file: a conda environment file, relative to `source_directory`; what is
            installed is exactly what it says.
        pip_requirements_file: file with further requirements, relative to `source_directory`.
        environment_variables: variables to set for the script. Values that are a
            `rechain.job.variables.Secret`, or look like a secret by their name or as a URL with a
            password, reach the script and are never written down.
        environment_definition: an `Environment`, in place of all parameters about packages and
            images: one with `chainer==...` among its pip packages, or a Python of yours.
        inputs: data that the script finds by a variable: references into datastores, datasets.
        source_directory_data_store: a datastore that the source folder goes through: a run is
            started from what is there, and can be replayed from it; nodes of a Slurm job that do
            not see the run folder get all they need from it. The script finds the datastore by a
            variable.
        shm_size: size of `/dev/shm` in the container, such as "8g".
        resume_from: where to go on: a `DataPath` with what an earlier run left, whose place the
            script gets as `--resume-from`; or a run, a run's id, or the path of a snapshot or of
            a folder with snapshots, whose newest the script takes up as a requeued run would.
        max_run_duration_seconds: after this time the run is stopped.
        framework_version: Chainer's version, one of `get_supported_versions()`; 5.1.0 by default.
        _enable_optimized_mode: build the environment on top of the recipe's own, if that is built,
            instead of as a whole. What comes out is the same.
        _disable_validation: False checks the script when it is submitted, without ever stopping
            it: undefined names and syntax, with ruff (`rechain[lint]`), and imports of packages
            that the environment will not have. What is found is in the run's notes.
        _show_lint_warnings: whether to log the former as warnings, too.
        _show_package_warnings: whether to log the latter as warnings, too.

    Raises:
        UserErrorException: a value can never work, or (as `NotBuiltError`) not yet.
        TrainingException: the parameters do not fit together.
    """

    _MODULE = "azureml.train.dnn._chainer"
    FRAMEWORK_NAME = "Chainer"
    DEFAULT_VERSION = "5.1.0"

    def __init__(
        self,
        source_directory: str | PathLike[str],
        *,
        compute_target: Any = None,
        vm_size: str | None = None,
        vm_priority: str | None = None,
        entry_script: str | PathLike[str] | None = None,
        script_params: dict[Any, Any] | None = None,
        node_count: int = 1,
        process_count_per_node: int = 1,
        distributed_backend: str | None = None,
        distributed_training: Mpi | MpiConfiguration | None = None,
        use_gpu: bool = False,
        use_docker: bool = True,
        custom_docker_base_image: str | None = None,
        custom_docker_image: str | None = None,
        image_registry_details: Any = None,
        user_managed: bool = False,
        conda_packages: list[str] | tuple[str, ...] | None = None,
        pip_packages: list[str] | tuple[str, ...] | None = None,
        conda_dependencies_file_path: str | PathLike[str] | None = None,
        pip_requirements_file_path: str | PathLike[str] | None = None,
        conda_dependencies_file: str | PathLike[str] | None = None,
        pip_requirements_file: str | PathLike[str] | None = None,
        environment_variables: dict[str, Any] | None = None,
        environment_definition: Any = None,
        inputs: list[Any] | None = None,
        source_directory_data_store: Any = None,
        shm_size: str | None = None,
        resume_from: Any = None,
        max_run_duration_seconds: float | None = None,
        framework_version: str | None = None,
        _enable_optimized_mode: bool = False,
        _disable_validation: bool = True,
        _show_lint_warnings: bool = False,
        _show_package_warnings: bool = False,
    ) -> None:
        given = dict(locals())  # the parameters and self, nothing else being bound yet
        super().__init__({n: v for n, v in given.items() if n not in ("self", "__class__")})
