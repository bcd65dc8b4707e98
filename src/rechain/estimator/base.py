"""What all estimators share: checked parameters, ready to compile."""

from __future__ import annotations

import os
import sys
from abc import ABC

from rechain.estimator import arguments, inputs, requirements
from rechain.estimator.distributed import distribution
from rechain.estimator.validation import (
    check,
    check_optimized,
    check_values,
    check_version,
    parameter_of,
)
from rechain.job import variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from rechain.runconfig.conda_dependencies import CondaDependencies
    from rechain.runconfig.run_configuration import RunConfiguration

__all__ = ["MMLBaseEstimator"]


class MMLBaseEstimator(ABC):
    """The base of all estimators."""

    _source_directory: str

    @property
    def source_directory(self) -> str:
        """The folder that the training's files are taken from, as it was given."""
        return self._source_directory


class _FrameworkBaseEstimator(MMLBaseEstimator):
    """An estimator for one framework, in the versions that there are recipes for.

    Args:
        given: all parameters of the estimator's constructor, by name. Nothing in it is changed.
    """

    FRAMEWORK_NAME: str
    DEFAULT_VERSION: str
    _SUPPORTED_BACKENDS = ("mpi",)

    # What it stands for, if not for itself, and what its users should know of that.
    _described_as: str | None = None
    _notes: Sequence[str] = ()

    def __init__(self, given: dict[str, Any]) -> None:
        self._take(given)
        version, user_managed = given["framework_version"], given["user_managed"]
        if version is None and not user_managed and given["environment_definition"] is None:
            _log("WARNING", f"framework_version is not given: {self.DEFAULT_VERSION} is taken.")
        if given["pip_requirements_file_path"]:
            parameter = parameter_of(given, "pip_requirements_file")
            _log("INFO", f"pip_requirements_file_path is an old name; {parameter} is read")
        _log("INFO", f"v1 calls {type(self).__name__} deprecated; in place of it {self._newer()}")

    def _take(self, given: dict[str, Any]) -> None:
        # An empty text is what a form or an unset variable leaves: it names nothing.
        given = {
            name: None if isinstance(value, str) and not value else value
            for name, value in given.items()
        }
        check_values(given)
        script_params = arguments.freeze(given["script_params"] or {})
        self._variables, self._secrets = variables.split(given["environment_variables"] or {})
        check(given, self._get_supported_backends())
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
        self._framework_version: str = given["framework_version"] or self.DEFAULT_VERSION
        if given[parameter_of(given, "conda_dependencies_file")]:
            self._build()  # which looks into the file
        versions = [] if given["framework_version"] is None else self.get_supported_versions()
        check_version(given["framework_version"], self.FRAMEWORK_NAME, versions)
        check_optimized(given)

    @property
    def framework_version(self) -> str:
        """The framework's version that the training runs with."""
        return self._framework_version

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

    @classmethod
    def get_supported_versions(cls) -> list[str]:
        """Return the framework's versions that there are recipes for, oldest first."""
        from rechain import recipes

        prefix = f"{cls.FRAMEWORK_NAME.lower()}-"
        return [name.removeprefix(prefix) for name in recipes.names() if name.startswith(prefix)]

    @classmethod
    def _get_supported_backends(cls) -> list[str]:
        return list(cls._SUPPORTED_BACKENDS)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self._source_directory!r}, "
            f"entry_script={self._given['entry_script']!r}, "
            f"framework_version={self._framework_version!r})"
        )

    def _build(self) -> RunConfiguration:
        from rechain.estimator import run_config

        return run_config.build(
            self._given, self._pip, self.FRAMEWORK_NAME, self._framework_version
        )

    def _as_changed(self) -> tuple[_FrameworkBaseEstimator, list[Any] | None]:
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

    def _with(self, **given: Any) -> _FrameworkBaseEstimator:
        """Return a copy with other values for some parameters."""
        changed = object.__new__(type(self))
        changed._take({**self._given, **given})
        changed._described_as, changed._notes = self._described_as, self._notes
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


def _copied(environment: Any) -> Any:
    if environment is None:
        return None
    import copy

    return copy.deepcopy(environment)


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _log(level: str, text: str) -> None:
    # Before anybody has imported logging nobody can have asked for INFO, and importing it costs
    # as much as all the rest of making an estimator.
    if level == "INFO" and "logging" not in sys.modules:
        return
    import logging

    logging.getLogger("rechain.estimator").log(logging.getLevelName(level), "%s", text)
