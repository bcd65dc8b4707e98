"""What all estimators share: checked parameters, ready to compile."""

from __future__ import annotations

import os
from abc import ABC

from rechain.estimator import arguments, inputs, requirements, said
from rechain.estimator.distributed import distribution
from rechain.estimator.given import tidied
from rechain.estimator.validation import (
    check,
    check_optimized,
    check_values,
    check_version,
    parameter_of,
)
from rechain.job import variables
from rechain.runconfig.plain import flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rechain.estimator.script_run_config import ScriptRunConfig
    from rechain.runconfig.conda_dependencies import CondaDependencies
    from rechain.runconfig.run_configuration import RunConfiguration

__all__ = ["MMLBaseEstimator"]


class MMLBaseEstimator(ABC):
    """The base of all estimators: checked parameters, and what they mean.

    Args:
        given: all parameters of the estimator's constructor, by name. Nothing in it is changed.
    """

    # The framework that is installed for it, in which version; neither for any other script.
    FRAMEWORK_NAME: str | None = None
    _framework_version: str | None = None
    _SUPPORTED_BACKENDS = ("mpi",)
    # The module of v1 that has the estimator, and its logger.
    _MODULE: str

    # What it stands for, if not for itself, and what its users should know of that.
    _described_as: str | None = None
    _notes: Sequence[str] = ()

    # Whether somebody said use_docker=True: that it is the default asks for nothing.
    _asks_container = False
    _docker_arguments: Sequence[str] = ()
    _image_source: dict[str, Any] | None = None  # what its image is built from

    def __new__(cls, *_: Any, use_docker: Any = None, **__: Any) -> Any:
        """Take note of what is asked for, which `__init__` cannot tell from a default."""
        made = super().__new__(cls)
        made._asks_container = flag(use_docker) is True
        return made

    def __init__(self, given: dict[str, Any]) -> None:
        given = tidied(given)
        check_values(given)
        said.before(given, self.FRAMEWORK_NAME)
        self._take(given)
        said.of_image(given)
        name = type(self).__name__
        said.log(
            "INFO", self._MODULE, f"v1 calls {name} deprecated; in place of it %s", self._newer
        )

    @classmethod
    def _of(cls, source_directory: str, **given: Any) -> Any:
        """Return an estimator that Rechain makes itself: nobody is told of old names."""
        made = object.__new__(cls)
        defaults = {"framework_version": None, "_enable_optimized_mode": False}
        defaults.update(cls.__init__.__kwdefaults__ or {})
        made._take({**defaults, "source_directory": source_directory, **given})
        made._asks_container = given.get("use_docker") is True
        return made

    def _take(self, given: dict[str, Any]) -> None:
        given = tidied(given)
        check_values(given)
        script_params = arguments.freeze(given["script_params"] or {})
        self._variables, self._secrets = variables.split(given["environment_variables"] or {})
        check(given, self._get_supported_backends(), self.FRAMEWORK_NAME)
        self._source_directory = os.fspath(given["source_directory"] or ".")
        self._given = given = {
            **given,
            "source_directory": self._source_directory,
            "entry_script": _text(given["entry_script"]),
            "script_params": inputs.resumed(script_params, given["resume_from"]),
            "inputs": list(given["inputs"] or ()),
            "environment_variables": dict(given["environment_variables"] or {}),
            "environment_definition": _copied(given["environment_definition"]),
            "conda_packages": list(given["conda_packages"] or ()),
            "pip_packages": list(given["pip_packages"] or ()),
        }
        self._pip = self._requirements()
        self._distribution = distribution(given)
        self._run_config: RunConfiguration | None = None
        if given[parameter_of(given, "conda_dependencies_file")]:
            self._build()  # which looks into the file

    @property
    def source_directory(self) -> str:
        """The folder that the training's files are taken from, as it was given."""
        return self._source_directory

    @property
    def run_config(self) -> RunConfiguration:
        """What v1 calls the run configuration: always the same object.

        What is changed in it before a submission counts; a change that Rechain does not act on
        stops the submission.
        """
        if self._run_config is None:
            self._run_config = self._build()
        return self._run_config

    @property
    def conda_dependencies(self) -> CondaDependencies:
        """The environment's conda specification, as in `run_config`."""
        return self.run_config.environment.python.conda_dependencies  # type: ignore[no-any-return]

    def to_script_run_config(self) -> ScriptRunConfig:
        """Return the same run in the form that v1 has in place of estimators.

        It submits to the same job. Which checks of the script an estimator asks for
        (`_disable_validation=False`) that form cannot say.

        Raises:
            NotBuiltError: something was changed in `run_config` that Rechain does not act on.
        """
        from rechain.estimator.as_script_run_config import as_script_run_config

        return as_script_run_config(self)

    @classmethod
    def _get_supported_backends(cls) -> list[str]:
        return list(cls._SUPPORTED_BACKENDS)

    def __repr__(self) -> str:
        version = f", framework_version={self._framework_version!r}" * bool(self.FRAMEWORK_NAME)
        return (
            f"{type(self).__name__}({self._source_directory!r}, "
            f"entry_script={self._given['entry_script']!r}{version})"
        )

    def _build(self) -> RunConfiguration:
        from rechain.estimator import run_config

        return run_config.build(
            self._given, self._pip, self.FRAMEWORK_NAME, self._framework_version
        )

    def _as_changed(self) -> tuple[MMLBaseEstimator, list[Any] | None]:
        """Return the estimator that `run_config` describes now, and its arguments.

        Raises:
            NotBuiltError: something was changed there that Rechain does not act on.
        """
        if self._run_config is None:
            return self, None
        from rechain.estimator import run_config

        found = run_config.changes(self._build(), self._run_config)
        given = dict(found)
        argv = given.pop("arguments", None)
        if "pip_packages" in found:
            given["pip_packages"] = self._given["pip_packages"] + found["pip_packages"]
        if not found:
            return self, None
        return self._with(**given), argv

    def _with(self, kind: type[MMLBaseEstimator] | None = None, **given: Any) -> MMLBaseEstimator:
        """Return a copy with other values for some parameters, of another kind if one is given."""
        changed = object.__new__(kind or type(self))
        changed._take({**self._given, **given})
        changed._described_as, changed._notes = self._described_as, self._notes
        changed._asks_container = given.get("use_docker", self._asks_container) is True
        changed._docker_arguments = self._docker_arguments
        changed._image_source = self._image_source
        return changed

    def _requirements(self) -> list[str]:
        """Return what the requirement file asks for, then what `pip_packages` asks for beyond."""
        parameter = parameter_of(self._given, "pip_requirements_file")
        found = []
        if self._given[parameter]:
            path = os.path.join(self._source_directory, os.fspath(self._given[parameter]))
            found = requirements.read(path, parameter)
        return found + [item for item in self._given["pip_packages"] if item not in found]

    def _newer(self) -> str:
        """Return what v1 has in place of estimators, for this one."""
        argv = arguments.to_argv(self._given["script_params"])
        return (
            f"ScriptRunConfig(source_directory={self._source_directory!r}, "
            f"script={self._given['entry_script']!r}, arguments={argv!r}, "
            f"compute_target={self._target_name!r})"
        )

    @property
    def _target_name(self) -> str | None:
        """The compute target's name; None if a pool is to be made for the run alone."""
        target = self._given["compute_target"] or None
        return target if isinstance(target, str) else getattr(target, "name", None)


class _FrameworkBaseEstimator(MMLBaseEstimator):
    """An estimator for one framework, in the versions that there are recipes for.

    Args:
        given: all parameters of the estimator's constructor, by name. Nothing in it is changed.
    """

    FRAMEWORK_NAME: str
    DEFAULT_VERSION: str
    _framework_version: str

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__(given)
        said.of_replaced(self._given, self.FRAMEWORK_NAME, self._framework_version)
        if said.needs_version(given):
            said.log(
                "WARNING", said.OF_FRAMEWORKS, "framework_version is not given: %s is taken.",
                lambda: self.DEFAULT_VERSION,
            )  # fmt: skip

    def _take(self, given: dict[str, Any]) -> None:
        self._framework_version = given["framework_version"] or self.DEFAULT_VERSION
        super()._take(given)
        versions = [] if given["framework_version"] is None else self.get_supported_versions()
        check_version(given["framework_version"], self.FRAMEWORK_NAME, versions)
        check_optimized(given)

    @property
    def framework_version(self) -> str:
        """The framework's version that the training runs with."""
        return self._framework_version

    @classmethod
    def get_supported_versions(cls) -> list[str]:
        """Return the framework's versions that there are recipes for, oldest first."""
        from rechain import recipes

        prefix = f"{cls.FRAMEWORK_NAME.lower()}-"
        return [name.removeprefix(prefix) for name in recipes.names() if name.startswith(prefix)]


def _copied(environment: Any) -> Any:
    if environment is None:
        return None
    import copy

    return copy.deepcopy(environment)


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)
