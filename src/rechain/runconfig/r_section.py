"""R settings, as v1's files have them. Rechain runs no R."""

from __future__ import annotations

from rechain.runconfig.section import Field, Section

__all__ = ["RCranPackage", "RGitHubPackage", "RSection"]


class RCranPackage(Section):
    """An R package from CRAN: `name`, `version`, `repository`."""

    name = Field(str)
    version = Field(str)
    repository = Field(str)


class RGitHubPackage(Section):
    """An R package from GitHub: `repository`, and an `auth_token` for a private one."""

    repository = Field(str)
    auth_token = Field(str)

    def __repr__(self) -> str:
        return f"RGitHubPackage(repository={self.repository!r})"


class RSection(Section):
    """The R of an environment.

    Attributes:
        r_version: R's version.
        user_managed: whether R is used as it is, with nothing installed.
        rscript_path: that R's `Rscript`.
        snapshot_date: the date as of which packages are taken.
        cran_packages: a list of `RCranPackage`.
        github_packages: a list of `RGitHubPackage`.
        custom_url_packages: addresses of packages.
        bioconductor_packages: names of packages.
    """

    r_version = Field(str)
    user_managed = Field(bool, False)
    rscript_path = Field(str)
    snapshot_date = Field(str)
    cran_packages = Field([RCranPackage])
    github_packages = Field([RGitHubPackage])
    custom_url_packages = Field(list)
    bioconductor_packages = Field(list)
