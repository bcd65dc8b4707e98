"""How datastores get their names."""

from __future__ import annotations

import os
import re

from rechain.exceptions import UserErrorException
from rechain.planned import unbuilt
from rechain.record import jsonl
from rechain.record.paths import WorkspacePaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Path = str | os.PathLike[str]

__all__ = ["DEFAULT", "OWN", "Registering"]

DEFAULT = "workspaceblobstore"  # v1's name of every workspace's first datastore
OWN = (DEFAULT, "workspacefilestore")  # v1's names again: each is a folder of the workspace
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,254}")


@unbuilt(
    "Use register(workspace, name, url) with a folder, or one of az://, s3://, gs://, sftp://, "
    "https://.",
    "register_azure_data_lake", "register_azure_data_lake_gen2", "register_azure_my_sql",
    "register_azure_postgre_sql", "register_azure_sql_database", "register_dbfs", "register_hdfs",
)  # fmt: skip
class Registering:
    """The part of `Datastore` that registers."""

    _at: Any
    _names: Any
    _named: Any

    @classmethod
    def register(
        cls,
        workspace: Any,
        datastore_name: str,
        url: Path,
        *,
        options: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        anonymous: bool = False,
        overwrite: bool = False,
        create_if_not_exists: bool = False,
        skip_validation: bool = False,
    ) -> Any:
        """Give a folder or an address a name.

        Args:
            workspace: the workspace.
            datastore_name: letters, digits and underscores.
            url: a folder, or `az://CONTAINER/PATH`, `s3://BUCKET/PATH`, `gs://BUCKET/PATH`,
                `sftp://USER@HOST/PATH`, `https://HOST/PATH`.
            options: how it is reached; docs/data.md lists them by kind. They are written down.
            secrets: its secrets. They go to the system's keyring, if there is one, else they
                are kept by this process only; they are written to no file.
            anonymous: whether it is reached without any.
            overwrite: whether it may take the name of another.
            create_if_not_exists: whether to make it, if it is not there.
            skip_validation: whether to go without looking if it is there.

        Raises:
            UserErrorException: it cannot be reached, or there is one of that name.
        """
        from rechain.data import credentials
        from rechain.data.storage import kind_of

        name = _checked(cls._names(workspace), datastore_name, overwrite)
        url = os.fspath(url)
        kind = kind_of(url)
        given = {key: value for key, value in (options or {}).items() if value is not None}
        hidden = {key: value for key, value in (secrets or {}).items() if value}
        if kind is None:
            if given or hidden or anonymous:
                raise UserErrorException(f"{url} is a folder of this machine; it has no settings.")
            url = os.path.abspath(os.path.expanduser(url))
            if create_if_not_exists:
                _make_folder(url)
            if not (skip_validation or os.path.isdir(url)):
                raise UserErrorException(f"{url!r} is no folder of this machine.")
        else:
            for key in given:
                if key not in kind.options:
                    raise UserErrorException(
                        f"{key} is no setting of {kind.type}; it has {', '.join(kind.options)}."
                    )
            for key in hidden:
                if key not in kind.secrets:
                    raise UserErrorException(
                        f"{key} is no secret of {kind.type}; it has {', '.join(kind.secrets)}."
                    )
            if kind.type == "AzureBlob" and not given.get("account_name"):
                raise UserErrorException(f"account_name is missing: whose container is {url}?")
        document = {
            "name": name,
            "type": "Local" if kind is None else kind.type,
            "url": url,
            "options": given,
            "anonymous": bool(anonymous),
        }
        if hidden:
            credentials.give(name, hidden)
        made = cls._at(document)
        if not made.folder:
            if create_if_not_exists:
                made.storage.make()
            if not skip_validation:
                made.storage.check()
        if hidden and not credentials.keep(url.rstrip("/"), hidden):
            import warnings

            names = ", ".join(credentials.variable(name, key) for key in hidden)
            warnings.warn(
                f"there is no keyring here: this process alone knows the secrets of {name}; "
                f"others find them in {names}",
                stacklevel=3,
            )
        workspace._make()
        paths = WorkspacePaths(workspace.path)
        os.makedirs(paths.datastores, exist_ok=True)
        jsonl.write_atomic(paths.datastore(name), {"schema": 1, "datastore": document})
        return cls._named(workspace, name)

    @classmethod
    def register_azure_blob_container(
        cls,
        workspace: Any,
        datastore_name: str,
        container_name: str,
        account_name: str,
        sas_token: str | None = None,
        account_key: str | None = None,
        protocol: str | None = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        create_if_not_exists: bool = False,
        skip_validation: bool = False,
        blob_cache_timeout: int | None = None,
        grant_workspace_access: bool = False,
        subscription_id: str | None = None,
        resource_group: str | None = None,
    ) -> Any:
        """Give a container of Azure's blobs a name.

        Args:
            workspace: the workspace.
            datastore_name: letters, digits and underscores.
            container_name: the container.
            account_name: whose.
            sas_token: opens it.
            account_key: opens it. Without either, `RECHAIN_DATASTORE_<NAME>_ACCOUNT_KEY` and
                `..._SAS_TOKEN` are looked for, then what Azure's own libraries find.
            protocol: `https`, unless said otherwise.
            endpoint: `core.windows.net`, unless said otherwise; or `host:port` of a server.
            overwrite: see `register`.
            create_if_not_exists: see `register`.
            skip_validation: see `register`.
            blob_cache_timeout: accepted for v1's sake, like all that follows.
            grant_workspace_access: see `blob_cache_timeout`.
            subscription_id: see `blob_cache_timeout`.
            resource_group: see `blob_cache_timeout`.

        Raises:
            UserErrorException: see `register`.
        """
        return cls.register(
            workspace,
            datastore_name,
            f"az://{container_name}",
            options={"account_name": account_name, "protocol": protocol, "endpoint": endpoint},
            secrets={"sas_token": sas_token or "", "account_key": account_key or ""},
            overwrite=overwrite,
            create_if_not_exists=create_if_not_exists,
            skip_validation=skip_validation,
        )

    @staticmethod
    def register_azure_file_share(
        workspace: Any,
        datastore_name: str,
        file_share_name: str,
        account_name: str,
        sas_token: str | None = None,
        account_key: str | None = None,
        protocol: str | None = None,
        endpoint: str | None = None,
        overwrite: bool = False,
        create_if_not_exists: bool = False,
        skip_validation: bool = False,
    ) -> Any:
        """Say how a file share comes in: mounted by the system, as a folder.

        Raises:
            UserErrorException: always.
        """
        raise UserErrorException(
            f"a file share speaks SMB, which systems mount: mount {file_share_name} of "
            f"{account_name}, then Datastore.register(workspace, {datastore_name!r}, FOLDER)."
        )


def _checked(names: list[str], name: object, overwrite: bool) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserErrorException(
            f"datastore_name is {name!r}; it must be letters, digits and underscores."
        )
    if name in OWN:
        raise UserErrorException(f"{name} is a folder of the workspace; take another name.")
    if not overwrite and name in names:
        raise UserErrorException(
            f"there is a datastore {name!r} already; overwrite=True replaces it."
        )
    return name


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UserErrorException(f"{path} cannot be made: {error.strerror}.", error) from error
