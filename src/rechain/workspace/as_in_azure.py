"""What v1's workspaces have beyond experiments and runs: made, listed and described as there."""

from __future__ import annotations

import os

from rechain.exceptions import UserErrorException, WorkspaceException
from rechain.record import jsonl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rechain.workspace.keyvault import Keyvault
    from rechain.workspace.workspace import Workspace

    Workspaces = list["Workspace"]  # inside of the class `list` is v1's method

__all__ = ["AZURE_FILES", "AZURE_FOLDERS", "FOLDER", "AsInAzure", "check_name"]

FOLDER = ".rechain"
# Where the Azure ML SDK v1 looks for its own configuration file, in this order.
AZURE_FOLDERS = (".azureml", "aml_config", "")
AZURE_FILES = ("config.json", "project.json")


def check_name(name: object) -> None:
    """Check that a workspace can be called so, as v1 does.

    Raises:
        UserErrorException: it cannot.
    """
    import re

    if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z0-9][\w-]{2,32}", name):
        raise UserErrorException(
            f"name is {name!r}; a workspace's name has 3 to 33 letters, digits, '-' and '_', of "
            "which the first is a letter or digit."
        )


class AsInAzure:
    """The part of `Workspace` that is there for v1's sake."""

    path: str
    _settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The workspace's name."""
        raise NotImplementedError

    def _change(self, values: dict[str, Any]) -> None:
        raise NotImplementedError

    @property
    def subscription_id(self) -> str:
        """The Azure subscription of the configuration file; `local` without one."""
        return str(self._settings.get("subscription_id", "local"))

    @property
    def resource_group(self) -> str:
        """The Azure resource group of the configuration file; `local` without one."""
        return str(self._settings.get("resource_group", "local"))

    @property
    def location(self) -> str:
        """Where the workspace is: this machine."""
        return "local"

    @staticmethod
    def create(
        name: str,
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: str | None = None,
        create_resource_group: bool = True,
        sku: str = "basic",
        tags: dict[str, str] | None = None,
        friendly_name: str | None = None,
        storage_account: str | None = None,
        key_vault: str | None = None,
        app_insights: str | None = None,
        container_registry: str | None = None,
        adb_workspace: object = None,
        primary_user_assigned_identity: str | None = None,
        cmk_keyvault: str | None = None,
        resource_cmk_uri: str | None = None,
        hbi_workspace: bool = False,
        default_cpu_compute_target: object = None,
        default_gpu_compute_target: object = None,
        private_endpoint_config: object = None,
        private_endpoint_auto_approval: bool = True,
        exist_ok: bool = False,
        show_output: bool = True,
        user_assigned_identity_for_cmk_encryption: str | None = None,
        system_datastores_auth_mode: str = "accessKey",
        v1_legacy_mode: bool | None = None,
    ) -> Workspace:
        """Make a workspace in the current folder, or where `RECHAIN_HOME` says.

        Args:
            name: what it is called.
            auth: accepted for v1's sake, like all that is not named here.
            subscription_id: recorded.
            resource_group: recorded.
            location: see `auth`.
            create_resource_group: see `auth`.
            sku: see `auth`.
            tags: recorded.
            friendly_name: see `auth`.
            storage_account: see `auth`.
            key_vault: see `auth`.
            app_insights: see `auth`.
            container_registry: see `auth`.
            adb_workspace: see `auth`.
            primary_user_assigned_identity: see `auth`.
            cmk_keyvault: see `auth`.
            resource_cmk_uri: see `auth`.
            hbi_workspace: see `auth`.
            default_cpu_compute_target: see `auth`.
            default_gpu_compute_target: see `auth`.
            private_endpoint_config: see `auth`.
            private_endpoint_auto_approval: see `auth`.
            exist_ok: whether one that is there already is returned.
            show_output: whether to print where it is.
            user_assigned_identity_for_cmk_encryption: see `auth`.
            system_datastores_auth_mode: see `auth`.
            v1_legacy_mode: see `auth`.

        Raises:
            UserErrorException: the name cannot be one, or the folder cannot be made.
            WorkspaceException: there is a workspace already, and `exist_ok` is false.
        """
        from rechain.workspace.workspace import Workspace

        check_name(name)
        home = os.environ.get("RECHAIN_HOME")
        made = Workspace.at(home or os.path.join(os.getcwd(), FOLDER))
        if os.path.exists(made._paths.settings) and not exist_ok:
            raise WorkspaceException(
                f"name={name!r}: the workspace {made.path} is there already, named {made.name!r}. "
                "exist_ok=True returns it; or work in another folder."
            )
        made._name_as(name, subscription_id, resource_group)
        made._make({"tags": {str(k): str(v) for k, v in (tags or {}).items()}})
        if show_output:
            print(f"the workspace {name} is {made.path}", flush=True)
        return made

    @staticmethod
    def list(
        subscription_id: str, auth: object = None, resource_group: str | None = None
    ) -> dict[str, Workspaces]:
        """Return the workspaces there are, by name: the one of the current folder.

        Args:
            subscription_id: accepted for v1's sake, like the others.
            auth: see `subscription_id`.
            resource_group: see `subscription_id`.
        """
        from rechain.workspace.workspace import Workspace

        here = Workspace.local()
        return {here.name: [here]} if os.path.exists(here._paths.settings) else {}

    @staticmethod
    def setup() -> None:
        """Do nothing: there is nothing to log in to."""

    def write_config(self, path: str | None = None, file_name: str | None = None) -> None:
        """Write Azure ML's `config.json`, which `from_config` finds.

        Args:
            path: the folder for `.azureml`; the current folder if left out.
            file_name: another name of the file.

        Raises:
            UserErrorException: it cannot be written.
        """
        folder = os.path.join(path or os.getcwd(), AZURE_FOLDERS[0])
        document = {
            "subscription_id": self.subscription_id,
            "resource_group": self.resource_group,
            "workspace_name": self.name,
        }
        try:
            os.makedirs(folder, exist_ok=True)
            jsonl.write_atomic(os.path.join(folder, file_name or AZURE_FILES[0]), document)
        except OSError as error:
            raise UserErrorException(f"{folder} cannot be written: {error}", error) from error

    def delete(self, delete_dependent_resources: bool = False, no_wait: bool = False) -> None:
        """Refuse: a workspace is a folder, with every run in it.

        Raises:
            UserErrorException: always.
        """
        raise UserErrorException(f"delete the folder {self.path} yourself, if that is meant.")

    def update(
        self,
        friendly_name: str | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        image_build_compute: str | None = None,
        service_managed_resources_settings: object = None,
        primary_user_assigned_identity: str | None = None,
        allow_public_access_when_behind_vnet: bool | None = None,
        v1_legacy_mode: bool | None = None,
    ) -> None:
        """Change what is recorded of the workspace.

        Args:
            friendly_name: recorded, like the next two.
            description: recorded.
            tags: recorded.
            image_build_compute: accepted for v1's sake, like all that follows.
            service_managed_resources_settings: see `image_build_compute`.
            primary_user_assigned_identity: see `image_build_compute`.
            allow_public_access_when_behind_vnet: see `image_build_compute`.
            v1_legacy_mode: see `image_build_compute`.
        """
        given = {"friendly_name": friendly_name, "description": description, "tags": tags}
        self._change({name: value for name, value in given.items() if value is not None})

    @property
    def tags(self) -> dict[str, str]:
        """What the workspace is labelled with."""
        return dict(self._settings.get("tags", {}))

    @property
    def sku(self) -> str:
        """v1's price class."""
        return "basic"

    @property
    def discovery_url(self) -> str:
        """Where v1 finds its services: here there is a folder."""
        return f"file://{self.path}"

    @property
    def images(self) -> dict[str, Any]:
        """v1's images of services: none."""
        return {}

    @property
    def webservices(self) -> dict[str, Any]:
        """The services there are: none."""
        return {}

    @property
    def linked_services(self) -> dict[str, Any]:
        """Azure's services that are linked: none."""
        return {}

    @property
    def private_endpoints(self) -> dict[str, Any]:
        """Azure's endpoints: none."""
        return {}

    @property
    def service_context(self) -> None:
        """v1's connection to Azure: none."""
        return

    def get_details(self) -> dict[str, Any]:
        """Return what there is to know about the workspace."""
        from rechain.data.datastore import Datastore

        return {
            "id": self._settings.get("id"),
            "name": self.name,
            "location": self.location,
            "type": "Microsoft.MachineLearningServices/workspaces",
            "tags": self.tags,
            "sku": self.sku,
            "workspaceid": self._settings.get("id"),
            "description": self._settings.get("description", ""),
            "friendlyName": self._settings.get("friendly_name", self.name),
            "storageAccount": Datastore.get_default(self).folder,
        }

    def get_mlflow_tracking_uri(self, _with_auth: bool = False) -> str:
        """Return a folder for MLflow beside the runs; what is logged with it stays there."""
        return f"file://{self.path}/mlruns"

    def get_default_keyvault(self) -> Keyvault:
        """Return where v1 keeps secrets."""
        from rechain.workspace.keyvault import Keyvault

        return Keyvault(self)
