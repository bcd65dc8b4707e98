"""What a conda environment needs: Python, conda packages, pip packages, channels."""

from __future__ import annotations

import os
import re

from rechain.exceptions import UserErrorException
from rechain.runconfig import packages, yaml
from rechain.runconfig.packages import base_name, identity, is_option, is_python, option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["CondaDependencies"]

_KEYS = ("name", "channels", "dependencies", "prefix", "variables")
_CORES = ("cpu", "gpu")
_FILE = os.path.join(".azureml", "auto_conda_dependencies.yml")  # where v1 saves by default

# What v1 offered by name; the versions are v1's.
_TENSORFLOW, _CNTK = "2.2.0", "2.7"


class CondaDependencies:
    """A conda environment specification, as in the YAML file that conda reads.

    Args:
        conda_dependencies_file_path: the file to read; without one, v1's default specification:
            Python 3.8.13 and `azureml-defaults`, from the channels `anaconda` and `conda-forge`.

    Raises:
        FileNotFoundError: there is no such file.
        UserErrorException: it is not a conda environment specification.
    """

    DEFAULT_NUMBER_OF_CONDA_PACKAGES = 0
    DEFAULT_NUMBER_OF_PIP_PACKAGES = 0

    def __init__(
        self,
        conda_dependencies_file_path: str | os.PathLike[str] | None = None,
        _underlying_structure: Any = None,
    ) -> None:
        where = "the conda specification"
        if conda_dependencies_file_path:
            where = os.fspath(conda_dependencies_file_path)
            try:
                _underlying_structure = yaml.read(where)
            except FileNotFoundError:
                raise FileNotFoundError(f"{where}: there is no such file") from None
            if _underlying_structure is None:
                _underlying_structure = []  # an empty file is no specification
        if _underlying_structure is None:
            _underlying_structure = {
                "name": "project_environment",
                "dependencies": ["python=3.8.13", {"pip": ["azureml-defaults"]}],
                "channels": ["anaconda", "conda-forge"],
            }
        self._conda_dependencies = _checked(_underlying_structure, where)

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] | None = None,
        conda_packages: Iterable[str] | None = None,
        python_version: str = "3.10.18",
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """Return a specification made from lists of packages.

        Args:
            pip_indexurl: where pip should look too. v1 wrote a public index of its own choice
                into every specification; here nothing is added: the job's packages come from the
                index that pip or uv is set up with on the machine.
            pip_packages: pip requirements, in place of `azureml-defaults`.
            conda_packages: conda requirements; one for `python` sets its version.
            python_version: the version of Python.
            pin_sdk_version: without an effect: Rechain itself is what v1's packages are.

        Raises:
            UserErrorException: an element is no package.
        """
        made = CondaDependencies()
        made.set_python_version(python_version)
        if pip_packages is not None:
            made.remove_pip_package("azureml-defaults")
        if pip_indexurl:
            made.set_pip_option(f"--find-links {pip_indexurl}")
        for package in _several("conda_packages", conda_packages):
            made.add_conda_package(package)
        for package in _several("pip_packages", pip_packages):
            made.add_pip_package(package)
        return made

    @staticmethod
    def merge_requirements(requirements: Iterable[str]) -> list[str]:
        """Return pip requirements with those for one package in one: `b>1`, `b<2` is `b>1,<2`.

        The name, extras and marker of the first one stay. Comments and blank lines are left out,
        equal constraints come once.
        """
        return packages.merge(requirements)

    @property
    def conda_channels(self) -> Iterator[str]:
        """The channels, first choice first."""
        return iter(list(self._conda_dependencies.get("channels") or ()))

    @property
    def conda_packages(self) -> Iterator[str]:
        """The conda requirements, Python among them."""
        return iter([item for item in self._dependencies() if isinstance(item, str)])

    @property
    def pip_packages(self) -> Iterator[str]:
        """The pip requirements."""
        return iter([item for item in self._pip() if not is_option(item)])

    @property
    def pip_options(self) -> Iterator[str]:
        """The options for pip, such as `--pre`."""
        return iter([item for item in self._pip() if is_option(item)])

    def add_channel(self, channel: str) -> None:
        """Add a channel, unless it is there."""
        channels = self._list("channels")
        if _text("channel", channel) not in channels:
            channels.append(channel)

    def remove_channel(self, channel: str) -> None:
        """Remove a channel, if it is there."""
        _discard(self._conda_dependencies.get("channels"), channel)

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda requirement, unless it is there. One for `python` replaces its version."""
        package = _text("conda_package", conda_package)
        if base_name(package.rpartition("::")[2]) == "python":
            version = re.sub(r"^[^0-9]*", "", package.rpartition("::")[2])
            if not version:
                raise UserErrorException(
                    f"conda_package is {package!r}, which has no version; write 'python=3.6'."
                )
            self.set_python_version(version)
        elif package not in self._dependencies():
            self._list("dependencies").append(package)

    def remove_conda_package(self, conda_package: str) -> None:
        """Remove a conda requirement that is written exactly so, if it is there."""
        _discard(self._conda_dependencies.get("dependencies"), conda_package)

    def add_pip_package(self, pip_package: str) -> None:
        """Add a pip requirement, in place of one for the same package.

        Raises:
            UserErrorException: it is an option; `set_pip_option` takes these.
        """
        package = _text("pip_package", pip_package)
        if is_option(package):
            raise UserErrorException(
                f"pip_package is {option(package)!r}, an option and no package; use "
                "set_pip_option."
            )
        items = self._list("pip")
        for item in list(items):
            # Another marker is another requirement: one for Python 2, one for Python 3.
            if not is_option(item) and identity(item) == identity(package):
                _discard(items, item)
        items.append(package)

    def remove_pip_package(self, pip_package: str) -> None:
        """Remove what is required of a package, whatever version was asked for."""
        name = base_name(_text("pip_package", pip_package))
        for item in self._pip():
            if not is_option(item) and base_name(item) == name:
                _discard(self._list("pip"), item)

    def set_pip_option(self, pip_option: str) -> None:
        """Set an option for pip, in place of the same option with another value.

        Raises:
            UserErrorException: it does not start with a dash.
        """
        if not is_option(_text("pip_option", pip_option)):
            raise UserErrorException(
                f"pip_option is {pip_option!r}; an option starts with a dash, such as '--pre'."
            )
        items = self._list("pip")
        same = [at for at, item in enumerate(items) if _is_same_option(item, pip_option)]
        if same:
            items[same[0]] = pip_option
        else:
            items.append(pip_option)

    def set_pip_index_url(self, index_url: str) -> None:
        """Set the option that names pip's index, such as `--index-url https://...`."""
        self.set_pip_option(index_url)

    def remove_pip_option(self, pip_option: str) -> None:
        """Remove an option for pip, whatever its value."""
        _text("pip_option", pip_option)
        for item in self._pip():
            if _is_same_option(item, pip_option):
                _discard(self._list("pip"), item)

    def set_pip_requirements(self, pip_requirements: Iterable[str]) -> None:
        """Replace all pip requirements and options by these lines of a requirement file."""
        lines = list(_several("pip_requirements", pip_requirements))
        self._list("pip")[:] = lines

    def set_python_version(self, version: str) -> None:
        """Set the version of Python, such as `3.6.15`."""
        requirement = f"python={_text('version', version)}"
        dependencies = self._list("dependencies")
        for at, item in enumerate(dependencies):
            if is_python(item):
                dependencies[at] = requirement
                return
        dependencies.append(requirement)

    def get_python_version(self) -> str | None:
        """Return the version of Python that is asked for; None if none is."""
        for item in self._dependencies():
            if is_python(item):
                return re.sub(r"^[^0-9]*", "", item.rpartition("::")[2]) or None
        return None

    def add_tensorflow_pip_package(
        self, core_type: str = "cpu", version: str | None = None
    ) -> None:
        """Require TensorFlow from pip, for `core_type` "cpu" or "gpu", in place of the other."""
        for core in map(_core, _CORES):
            self.remove_pip_package(f"tensorflow{core}")
        self.add_pip_package(f"tensorflow{_core(core_type)}=={version or _TENSORFLOW}")

    def add_tensorflow_conda_package(
        self, core_type: str = "cpu", version: str | None = None
    ) -> None:
        """Require TensorFlow from conda, for `core_type` "cpu" or "gpu", in place of the other."""
        names = [f"tensorflow{core}" for core in map(_core, _CORES)]
        for item in self.conda_packages:
            if base_name(item.rpartition("::")[2]) in names:
                self.remove_conda_package(item)
        self.add_conda_package(f"tensorflow{_core(core_type)}={version or _TENSORFLOW}")

    def add_cntk_package(self, core_type: str = "cpu") -> None:
        """Require CNTK from pip, for `core_type` "cpu" or "gpu", in place of the other."""
        for core in map(_core, _CORES):
            self.remove_pip_package(f"cntk{core}")
        self.add_pip_package(f"cntk{_core(core_type)}=={_CNTK}")

    def get_default_number_of_packages(self) -> tuple[int, int]:
        """Return how many conda and pip packages v1's default specification has."""
        return 1, 1

    def as_dict(self) -> dict[str, Any]:
        """Return the specification as plain values, a copy."""
        return _plain(self._conda_dependencies)  # type: ignore[no-any-return]

    def serialize_to_string(self) -> str:
        """Return the specification as YAML."""
        return yaml.dumps(self._conda_dependencies)

    def save(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write the specification to a file.

        Args:
            path: the file, or a folder; `.azureml/auto_conda_dependencies.yml` if left out.

        Returns:
            The file's path.

        Raises:
            UserErrorException: the file's folder is not there.
        """
        path = _FILE if path is None else os.fspath(path)
        if os.path.isdir(path):
            path = os.path.join(path, os.path.basename(_FILE))
        try:
            yaml.write(path, self._conda_dependencies)
        except FileNotFoundError as error:
            raise UserErrorException(
                f"path is {path!r}, and its folder is not there; make it first.", error
            ) from error
        return path

    def save_to_file(
        self,
        base_directory: str | os.PathLike[str],
        conda_file_path: str | os.PathLike[str] | None = None,
    ) -> str:
        """Write the specification to a file in a project.

        Args:
            base_directory: the project's folder.
            conda_file_path: the file, relative to it; `.azureml/auto_conda_dependencies.yml` if
                left out.

        Returns:
            The file's path relative to `base_directory`.

        Raises:
            UserErrorException: the file's folder is not there and cannot be made.
        """
        relative = _FILE if conda_file_path is None else os.fspath(conda_file_path)
        whole = os.path.join(os.fspath(base_directory), relative)
        try:
            os.makedirs(os.path.dirname(whole) or ".", exist_ok=True)
        except OSError as error:
            raise UserErrorException(
                f"{os.path.dirname(whole)} cannot be made: {error.strerror}.", error
            ) from error
        yaml.write(whole, self._conda_dependencies)
        return relative

    def __repr__(self) -> str:
        return f"CondaDependencies({self.as_dict()!r})"

    def to_document(self) -> dict[str, Any]:
        """Return the specification as plain values, as `as_dict` does."""
        return self.as_dict()

    @classmethod
    def from_document(cls, document: Any, where: str = "") -> CondaDependencies:
        """Return the specification that a document holds.

        Raises:
            UserErrorException: it is not a conda environment specification.
        """
        return cls(_underlying_structure=_checked(document, where or "the conda specification"))

    def _dependencies(self) -> list[Any]:
        return list(self._conda_dependencies.get("dependencies") or ())

    def _pip(self) -> list[str]:
        for item in self._dependencies():
            if hasattr(item, "keys"):
                return list(item.get("pip") or ())
        return []

    def _list(self, what: str) -> Any:
        """Return a list of the specification itself, to be changed; it is made if missing."""
        holder = self._conda_dependencies
        if what == "pip":
            dependencies = self._list("dependencies")
            holder = next((item for item in dependencies if hasattr(item, "keys")), None)
            if holder is None:
                holder = {}
                dependencies.append(holder)
        if holder.get(what) is None:
            holder[what] = []
        return holder[what]


def _checked(structure: Any, where: str) -> Any:
    if not hasattr(structure, "keys"):
        raise UserErrorException(
            f"{where} is no conda environment specification: it must be a mapping with keys such "
            "as name, channels and dependencies."
        )
    for key in structure:
        if key not in _KEYS:
            raise UserErrorException(
                f"{where} has the key {key!r}, which a conda environment specification does not "
                f"have; it has {', '.join(_KEYS)}."
            )
    for key in ("channels", "dependencies"):
        if not isinstance(structure.get(key) or [], list):
            raise UserErrorException(f"{where}: {key} is {structure[key]!r}; it must be a list.")
    for item in structure.get("dependencies") or ():
        if isinstance(item, str) or (hasattr(item, "keys") and _is_pip(item)):
            continue
        raise UserErrorException(
            f"{where}: dependencies has the element {_plain(item)!r}; each is a package such as "
            "'numpy=1.15', or {pip: [...]} with pip requirements."
        )
    return structure


def _is_pip(item: Any) -> bool:
    packages = item.get("pip") or []
    return (
        set(item) == {"pip"}
        and isinstance(packages, list)
        and all(isinstance(one, str) for one in packages)
    )


def _plain(value: Any) -> Any:
    if hasattr(value, "keys"):
        return {str(key): _plain(value[key]) for key in value}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _several(parameter: str, values: Iterable[str] | None) -> Iterator[str]:
    if isinstance(values, (str, bytes)):
        raise UserErrorException(
            f"{parameter} is {values!r}, a {type(values).__name__}; it must be a list: "
            f"{parameter}=[{values!r}]."
        )
    return (_text(f"an element of {parameter}", value) for value in values or ())


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise UserErrorException(
            f"{what} is {value!r}, a {type(value).__name__}; it must be a str."
        )
    return value


def _discard(items: Any, item: object) -> None:
    """Remove an element. The comments of a YAML list lie by position, so `remove` keeps them."""
    if items and item in items:
        items.remove(item)


def _is_same_option(item: str, pip_option: str) -> bool:
    return is_option(item) and option(item) == option(pip_option)


def _core(core_type: str) -> str:
    if core_type not in _CORES:
        raise UserErrorException(f"core_type is {core_type!r}; it must be 'cpu' or 'gpu'.")
    return "-gpu" if core_type == "gpu" else ""
