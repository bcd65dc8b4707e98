"""Spark settings, as v1's files have them. Rechain runs no Spark."""

from __future__ import annotations

from rechain.runconfig.section import Field, Section

__all__ = ["SparkConfiguration", "SparkPackage", "SparkSection"]


class SparkPackage(Section):
    """A Maven package for Spark.

    Args:
        group: its group.
        artifact: its artifact.
        version: its version.
    """

    group = Field(str)
    artifact = Field(str)
    version = Field(str)

    def __init__(
        self, group: str | None = None, artifact: str | None = None, version: str | None = None
    ) -> None:
        super().__init__(group=group, artifact=artifact, version=version)


class SparkSection(Section):
    """What Spark finds in an environment.

    Attributes:
        repositories: addresses of Maven repositories.
        packages: a list of `SparkPackage`.
        precache_packages: whether they are fetched when the environment is built.
    """

    repositories = Field(list, list)
    packages = Field([SparkPackage], list)
    precache_packages = Field(bool, True)


class SparkConfiguration(Section):
    """How Spark is set up for a run.

    Attributes:
        configuration: Spark's properties by name.
    """

    configuration = Field(
        dict,
        lambda: {"spark.app.name": "Azure ML Experiment", "spark.yarn.maxAppAttempts": 1},
    )
