"""The Python of an environment."""

from __future__ import annotations

from rechain.runconfig.conda_dependencies import CondaDependencies
from rechain.runconfig.section import Field, Section

__all__ = ["PythonSection"]


class PythonSection(Section):
    """The Python of an environment.

    Attributes:
        user_managed_dependencies: whether the Python is used as it is, with nothing installed.
        interpreter_path: that Python; a path or a command.
        conda_dependencies_file: file with the dependencies; deprecated in v1,
            `Environment.from_conda_specification` reads it.
        conda_dependencies: a `CondaDependencies`.
    """

    user_managed_dependencies = Field(bool, False)
    interpreter_path = Field(str, "python")
    conda_dependencies_file = Field(str, old="use Environment.from_conda_specification")
    _base_conda_environment = Field(str)
    conda_dependencies = Field(CondaDependencies, CondaDependencies, absent=None, omit_none=True)
