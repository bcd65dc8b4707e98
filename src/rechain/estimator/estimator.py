"""The estimator for a script of any framework."""

from __future__ import annotations

from rechain.estimator.base import MMLBaseEstimator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike
    from typing import Any

    from rechain.estimator.distributed import Mpi
    from rechain.runconfig import MpiConfiguration

__all__ = ["Estimator"]


class Estimator(MMLBaseEstimator):
    """A training with whatever its packages bring: which script, with which arguments, where.

    The parameters are those of `Chainer` with the same meaning, without those about a framework.
    The environment is a Python with the packages that are asked for, and nothing else.

    Args:
        source_directory: folder with the training's files; a snapshot of it is what runs.
        compute_target: see `Chainer`, like all that follows.
        vm_size: see `Chainer`.
        vm_priority: see `Chainer`.
        entry_script: see `Chainer`.
        script_params: see `Chainer`.
        node_count: see `Chainer`.
        process_count_per_node: see `Chainer`.
        distributed_backend: see `Chainer`.
        distributed_training: see `Chainer`. `Gloo`, `Nccl` and `ParameterServer` are accepted and
            cannot be run yet.
        use_gpu: see `Chainer`.
        use_docker: see `Chainer`.
        custom_docker_base_image: see `Chainer`.
        custom_docker_image: see `Chainer`.
        image_registry_details: see `Chainer`.
        user_managed: see `Chainer`.
        conda_packages: see `Chainer`.
        pip_packages: see `Chainer`.
        conda_dependencies_file_path: see `Chainer`.
        pip_requirements_file_path: see `Chainer`.
        conda_dependencies_file: see `Chainer`.
        pip_requirements_file: see `Chainer`.
        environment_variables: see `Chainer`.
        environment_definition: see `Chainer`.
        inputs: see `Chainer`.
        source_directory_data_store: see `Chainer`.
        shm_size: see `Chainer`.
        resume_from: see `Chainer`.
        max_run_duration_seconds: see `Chainer`.
        _disable_validation: see `Chainer`.
        _show_lint_warnings: see `Chainer`.
        _show_package_warnings: see `Chainer`.

    Raises:
        UserErrorException: a value can never work, or (as `NotBuiltError`) not yet.
        TrainingException: the parameters do not fit together.
    """

    _MODULE = "azureml.train.estimator._estimator"

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
        _disable_validation: bool = True,
        _show_lint_warnings: bool = False,
        _show_package_warnings: bool = False,
    ) -> None:
        given = dict(locals())  # the parameters and self, nothing else being bound yet
        given = {name: v for name, v in given.items() if name not in ("self", "__class__")}
        # What is said and checked of all estimators.
        super().__init__({**given, "framework_version": None, "_enable_optimized_mode": False})
