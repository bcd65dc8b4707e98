"""The small sections of a run configuration."""

from __future__ import annotations

from rechain.runconfig.section import Field, Section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "AmbientAuthenticationConfiguration",
    "AmlComputeConfiguration",
    "ApplicationEndpointConfiguration",
    "HdiConfiguration",
    "HistoryConfiguration",
    "KubernetesComputeConfiguration",
]


class AmbientAuthenticationConfiguration(Section):
    """How a run logs in to Azure; read and written, never used here."""

    method = Field(str)
    app_id = Field(str)
    secret = Field(str)
    tenant = Field(str)
    delete_secret_after_run = Field(bool, False)

    def __repr__(self) -> str:
        return f"AmbientAuthenticationConfiguration(method={self.method!r})"


class HistoryConfiguration(Section):
    """What is kept of a run. Rechain keeps all of it.

    Attributes:
        output_collection: whether outputs, logs and metrics are kept.
        snapshot_project: whether the source folder is.
        directories_to_watch: folders whose files are kept while the run goes on.
    """

    output_collection = Field(bool, True)
    snapshot_project = Field(bool, True)
    directories_to_watch = Field(list, lambda: ["logs"])
    _ambient_authentication = Field(AmbientAuthenticationConfiguration, omit_none=True)


class HdiConfiguration(Section):
    """HDInsight settings, as v1's files have them.

    Attributes:
        yarn_deploy_mode: `cluster` or `client`.
    """

    yarn_deploy_mode = Field(str, "cluster")


class AmlComputeConfiguration(Section):
    """Nodes that are made for one run alone.

    Attributes:
        vm_size: the nodes' size.
        vm_priority: `dedicated`, or `lowpriority`.
    """

    vm_size = Field(str)
    vm_priority = Field(str)
    _retain_cluster = Field(bool, False)
    _name = Field(str)
    _cluster_max_node_count = Field(int)


class KubernetesComputeConfiguration(Section):
    """Kubernetes settings, as v1's files have them.

    Attributes:
        instance_type: the kind of node.
    """

    instance_type = Field(str)


class ApplicationEndpointConfiguration(Section):
    """A service to reach inside a run, such as SSH. Rechain starts none.

    Args:
        type: which service.
        port: its port.
        properties: further settings.
    """

    type = Field(str)
    port = Field(int)
    properties = Field(dict)

    def __init__(
        self,
        type: str | None = None,
        port: int | None = None,
        properties: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(type=type, port=port, properties=properties)
