"""Databricks settings, as v1's files have them. Rechain does not run on Databricks."""

from __future__ import annotations

from rechain.runconfig.section import Field, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "DatabricksCluster",
    "DatabricksSection",
    "EggLibrary",
    "JarLibrary",
    "MavenLibrary",
    "PyPiLibrary",
    "RCranLibrary",
]


class MavenLibrary(Section):
    """A library from Maven: `coordinates`, `repo`, and `exclusions` among its dependencies."""

    coordinates = Field(str, "")
    repo = Field(str, "")
    exclusions = Field(list, list)

    def __init__(
        self,
        coordinates: str = "",
        repo: str = "",
        exclusions: list[str] | None = None,
    ) -> None:
        super().__init__(coordinates=coordinates, repo=repo, exclusions=exclusions or [])


class PyPiLibrary(Section):
    """A Python package: `package`, and the `repo` it comes from."""

    package = Field(str, "")
    repo = Field(str, "")

    def __init__(self, package: str = "", repo: str = "") -> None:
        super().__init__(package=package, repo=repo)


class RCranLibrary(Section):
    """An R package: `package`, and the `repo` it comes from."""

    package = Field(str, "")
    repo = Field(str, "")

    def __init__(self, package: str = "", repo: str = "") -> None:
        super().__init__(package=package, repo=repo)


class JarLibrary(Section):
    """A Java archive: `library` is its address."""

    library = Field(str, "")

    def __init__(self, library: str = "") -> None:
        super().__init__(library=library)


class EggLibrary(Section):
    """A Python egg: `library` is its address."""

    library = Field(str, "")

    def __init__(self, library: str = "") -> None:
        super().__init__(library=library)


class DatabricksCluster(Section):
    """A Databricks cluster: an existing one by its id, or what a new one is made of."""

    existing_cluster_id = Field(str)
    spark_version = Field(str)
    node_type = Field(str)
    instance_pool_id = Field(str)
    num_workers = Field(int)
    min_workers = Field(int)
    max_workers = Field(int)
    spark_env_variables = Field(dict)
    spark_conf = Field(dict)
    init_scripts = Field(list)
    cluster_log_dbfs_path = Field(str)
    permit_cluster_restart = Field(bool)

    def __init__(self, existing_cluster_id: str | None = None, **values: Any) -> None:
        super().__init__(existing_cluster_id=existing_cluster_id, **values)


class DatabricksSection(Section):
    """What Databricks finds in an environment: lists of libraries, and the `cluster`."""

    maven_libraries = Field([MavenLibrary], list)
    pypi_libraries = Field([PyPiLibrary], list)
    rcran_libraries = Field([RCranLibrary], list)
    jar_libraries = Field([JarLibrary], list)
    egg_libraries = Field([EggLibrary], list)
    cluster = Field(DatabricksCluster, omit_none=True)
