"""Storage elsewhere: what a datastore's address means, listed, read and written through fsspec."""

from __future__ import annotations

import os
import posixpath
import re

from rechain.data import credentials, parts
from rechain.data.paths import root_of
from rechain.exceptions import UserErrorException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

__all__ = ["KINDS", "Entry", "Kind", "Storage", "check_name", "check_writable", "kind_of"]

_WORKERS = 8  # transfers at a time
_GLOB = re.compile(r"[*?\[]")
# What tells one state of a file from another, the best first; the names are the stores' own.
_VERSIONS = ("etag", "ETag", "version_id", "VersionId", "generation", "md5Hash", "ContentMD5")
_TIMES = ("last_modified", "LastModified", "Last-Modified", "updated", "mtime")


class Kind:
    """What is needed for addresses of one scheme.

    Attributes:
        type: what v1, or we, call such datastores.
        extra: the extra of Rechain that brings its packages.
        secrets: the fields that are secret.
        options: the fields that are not.
        workers: how many transfers at a time it bears.
    """

    def __init__(
        self, type: str, extra: str, secrets: tuple[str, ...], options: tuple[str, ...],
        workers: int = _WORKERS,
    ) -> None:  # fmt: skip
        self.type = type
        self.extra = extra
        self.secrets = secrets
        self.options = options
        self.workers = workers


_WEB = Kind("HTTP", "http", ("password", "token"), ("username",))
KINDS: dict[str, Kind] = {
    "az": Kind(
        "AzureBlob", "azure", ("account_key", "sas_token"),
        ("account_name", "protocol", "endpoint"),
    ),
    "s3": Kind("S3", "s3", ("key", "secret", "token"), ("endpoint_url", "region")),
    "gs": Kind("GCS", "gcs", ("token",), ("project", "endpoint_url")),
    "sftp": Kind(
        "SFTP", "sftp", ("password", "private_key", "passphrase"),
        ("username", "port", "key_filename", "known_hosts"), 1,
    ),
    "http": _WEB,
    "https": _WEB,
}  # fmt: skip


def check_writable(name: str, url: str) -> None:
    """See whether a datastore is of a kind that can be written to, without asking it.

    Raises:
        UserErrorException: it is a web server.
    """
    if url.partition("://")[0] in ("http", "https"):
        raise UserErrorException(
            f"the datastore {name} ({url.rstrip('/')}) is a web server, and read only; take "
            "another datastore to write to."
        )


def kind_of(url: str) -> Kind | None:
    """Return the kind of an address; None for a folder of this machine.

    Raises:
        UserErrorException: there is no such kind, or it holds a secret.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        return None
    if scheme not in KINDS:
        raise UserErrorException(
            f"{url!r}: there are no datastores at {scheme}://; there are folders, and "
            f"{', '.join(f'{name}://' for name in KINDS)}."
        )
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if "?" in rest or (at and ":" in user):
        raise UserErrorException(
            "the datastore's address holds a password or a signature, and would be written down; "
            "give it apart."
        )
    if not rest.strip("/"):
        raise UserErrorException(f"{url!r} names no place; it must be like {scheme}://NAME/PATH.")
    return KINDS[scheme]


def check_name(name: str, where: str) -> str:
    """Return the relative path of a file.

    Raises:
        UserErrorException: it would lie outside of the folder that it is relative to.
    """
    parts = name.split("/")
    if not name or name.startswith("/") or "\0" in name or {"", ".", ".."} & {*parts}:
        raise UserErrorException(f"{where} has a file {name!r}, which is no path below a folder.")
    return name


class Entry:
    """A file of a store.

    Attributes:
        path: its path, relative to what was listed; or another one that it is fetched to.
        shown: the former, for people.
        key: what the store calls it.
        size: bytes; None where the store does not tell.
        version: what changes with its contents.
        ranges: whether parts of it can be read.
    """

    __slots__ = ("key", "path", "ranges", "shown", "size", "version")

    def __init__(self, path: str, key: str, info: dict[str, Any]) -> None:
        self.path = self.shown = path
        self.key = key
        self.size: int | None = info.get("size")
        self.version = _version(info)
        self.ranges = info.get("partial", True) is not False and self.size is not None


def _version(info: dict[str, Any]) -> str:
    for name in _VERSIONS:
        if info.get(name):
            return str(info[name]).strip('"')
    for name in _TIMES:
        if info.get(name):
            return str(info[name])
    return ""


class Storage:
    """A place that fsspec opens.

    Args:
        document: `name`, `url`, `options` and `anonymous` of a datastore.

    Raises:
        UserErrorException: a package is missing.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.name: str = document["name"]
        self.url: str = document["url"].rstrip("/")
        kind = kind_of(self.url)
        assert kind is not None, "folders need no storage"
        self._kind = kind
        self._scheme = self.url.partition("://")[0]
        self._secrets: dict[str, str] = {}
        if not document.get("anonymous"):
            self._secrets = credentials.find(self.name, self.url, kind.secrets)
        anonymous = bool(document.get("anonymous"))
        options = dict(document.get("options") or {})
        self._fs = self._open(options, anonymous)
        self.identity = repr([self.url, *sorted(options.items())])  # what tells it from others
        self.workers = kind.workers

    def _open(self, options: dict[str, Any], anonymous: bool) -> Any:
        import fsspec

        scheme = self._scheme
        try:
            made: Any = fsspec.get_filesystem_class(scheme)
            if scheme == "sftp":
                from rechain.data.sftp import Sftp

                made = Sftp
        except ImportError as error:
            raise UserErrorException(
                f"the datastore {self.name} needs packages that are not installed: "
                f"pip install 'rechain[{self._kind.extra}]'",
                error,
            ) from error
        try:
            settings = getattr(self, f"_{scheme.replace('https', 'http')}")(options, anonymous)
            return made(skip_instance_cache=True, use_listings_cache=False, **settings)
        except Exception as error:
            self._fail(error, "be opened")

    def _az(self, options: dict[str, Any], anonymous: bool) -> dict[str, Any]:
        account = options["account_name"]
        key, sas = self._secrets.get("account_key"), self._secrets.get("sas_token")
        if not (key or sas or anonymous):
            return {"account_name": account, "anon": False}  # what adlfs finds by itself
        protocol = options.get("protocol") or "https"
        endpoint = options.get("endpoint") or "core.windows.net"
        if ":" in endpoint:  # a server of one's own, such as Azurite
            place = f"{protocol}://{endpoint}/{account}"
        else:
            place = f"{protocol}://{account}.blob.{endpoint}"
        parts = [f"DefaultEndpointsProtocol={protocol}", f"BlobEndpoint={place}"]
        if key:
            parts += [f"AccountName={account}", f"AccountKey={key}"]
        elif sas:
            parts.append(f"SharedAccessSignature={sas.lstrip('?')}")
        return {"account_name": account, "connection_string": ";".join(parts)}

    def _s3(self, options: dict[str, Any], anonymous: bool) -> dict[str, Any]:
        client = {"region_name": options["region"]} if options.get("region") else {}
        found: dict[str, Any] = {"anon": anonymous, "client_kwargs": client, **self._secrets}
        if options.get("endpoint_url"):
            found["endpoint_url"] = options["endpoint_url"]
        return found

    def _gs(self, options: dict[str, Any], anonymous: bool) -> dict[str, Any]:
        token = "anon" if anonymous else self._secrets.get("token")
        return {**options, **({"token": token} if token else {})}

    def _sftp(self, options: dict[str, Any], anonymous: bool) -> dict[str, Any]:
        user, _, host = self.url.partition("://")[2].partition("/")[0].rpartition("@")
        host, _, port = host.partition(":")
        found = {**options, **self._secrets, "host": host}
        if text := found.pop("private_key", None):
            from rechain.data.sftp import key_of

            found["pkey"] = key_of(text, found.get("passphrase"))
        if user:
            found["username"] = user
        if port or "port" in found:
            found["port"] = int(port or found["port"])
        return found

    def _http(self, options: dict[str, Any], anonymous: bool) -> dict[str, Any]:
        headers = {}
        if "token" in self._secrets:
            headers["Authorization"] = f"Bearer {self._secrets['token']}"
        elif "password" in self._secrets:
            import base64

            pair = f"{options.get('username', '')}:{self._secrets['password']}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return {"client_kwargs": {"headers": headers}} if headers else {}

    def key(self, path: str) -> str:
        """Return what the store calls a path."""
        if self._scheme in ("http", "https"):
            from urllib.parse import quote

            return f"{self.url}/{quote(path)}" if path else self.url
        place = self.url.partition("://")[2]
        if self._scheme == "sftp":
            place = f"/{place.partition('/')[2]}"
        return posixpath.join(place, path) if path else place

    def listing(self, path: str) -> tuple[list[Entry], bool]:
        """Return the files below a path, or that a pattern means, by path.

        Args:
            path: in the store, normal; may have wildcards.

        Returns:
            The files, and whether `path` is itself the only one.

        Raises:
            UserErrorException: it cannot be read, or has a file whose name cannot be one here.
        """
        key, top = self.key(path), root_of(path)
        of_web, pattern = self._scheme in ("http", "https"), _GLOB.search(path)
        try:
            if pattern and not of_web:
                found, root = self._fs.glob(key, detail=True), self.key(top)
            elif pattern:
                root = self.key(top)
                found = self._find(root)
            else:
                info = self._info(key) if path else {"type": "directory"}
                if info["type"] == "file":
                    return [Entry(posixpath.basename(path), key, info)], True
                found, root = self._find(key), key
            if not found and of_web:
                # To fsspec a server that does not answer is one that has nothing: ask once more.
                self._fs.info(f"{root}/")
        except FileNotFoundError as error:
            self._check_answer(error, path)
            return [], False
        except Exception as error:
            self._fail(error, f"be read: {path or 'all of it'}")
        entries = list(self._entries(found, root))
        if pattern and of_web:  # fsspec's pattern would have neither sizes nor versions
            from fsspec.utils import glob_translate

            wanted = re.compile(glob_translate(path[len(top) :].lstrip("/")))
            entries = [entry for entry in entries if wanted.match(entry.path)]
        entries.sort(key=lambda entry: entry.path)
        _check_nesting(entries, self.name)
        return entries, False

    def _check_answer(self, error: FileNotFoundError, path: str) -> None:
        """Refuse what fsspec calls not found, and is a web server that did not say so."""
        cause = error.__cause__
        if self._scheme not in ("http", "https") or not isinstance(cause, Exception):
            return
        status = getattr(cause, "status", None)
        if status is None and not isinstance(cause, FileNotFoundError):
            self._fail(cause, "be reached")
        if status not in (None, 404, 410):  # such as 403
            self._fail(cause, f"be read: {path or 'all of it'}")

    def _info(self, key: str) -> dict[str, Any]:
        info: dict[str, Any] = self._fs.info(key)
        if str(info.get("url") or "").endswith("/"):  # a web server's page of a folder
            return {"type": "directory"}
        return info

    def _find(self, key: str) -> dict[str, dict[str, Any]]:
        if self._scheme not in ("http", "https"):
            return self._fs.find(key, detail=True)  # type: ignore[no-any-return]
        from concurrent.futures import ThreadPoolExecutor

        inside = f"{key}/"
        # The pages of folders also link to other orders of themselves, and to what is above.
        keys = [one for one in self._fs.find(inside) if one.startswith(inside) and "?" not in one]
        with ThreadPoolExecutor(self.workers) as pool:
            return dict(zip(keys, pool.map(self._fs.info, keys), strict=True))

    def _entries(self, found: dict[str, dict[str, Any]], root: str) -> Iterator[Entry]:
        for key, info in found.items():
            if info.get("type") != "file" or key.endswith("/"):
                continue  # a mark that some stores have for a folder
            name = key[len(root) :].lstrip("/") if root else key
            if self._scheme in ("http", "https"):
                from urllib.parse import unquote

                name = unquote(name)
            yield Entry(check_name(name, f"the datastore {self.name}"), key, info)

    def read(self, entry: Entry, start: int | None = None, end: int | None = None) -> bytes:
        """Return a part of a file, or all of it; what goes wrong is fsspec's or the client's."""
        data: bytes = self._fs.cat_file(entry.key, start=start, end=end)
        return data

    def get(self, entry: Entry, path: str) -> None:
        """Copy a file to a path of this machine."""
        self._fs.get_file(entry.key, path)

    def put(self, path: str, target: str) -> None:
        """Copy a file of this machine to a path of the store."""
        key = self.key(target)
        by_parts = {"az": parts.put_azure, "s3": parts.put_s3, "sftp": parts.put_sftp}
        put = by_parts.get(self._scheme)
        if put is None or (self._scheme != "sftp" and os.stat(path).st_size <= parts.PART):
            self._fs.put_file(path, key)
        else:
            put(self._fs, path, key)

    def check_writable(self) -> None:
        """See whether it is of a kind that can be written to, without asking it.

        Raises:
            UserErrorException: it is a web server.
        """
        check_writable(self.name, self.url)

    def make(self) -> None:
        """Make the container or folder that it is, unless it is there."""
        try:
            if self._scheme == "sftp":
                self._fs.makedirs(self.key(""), exist_ok=True)
            elif not self._fs.exists(place := self.key("").partition("/")[0]):
                self._fs.mkdir(place)
        except Exception as error:
            self._fail(error, "be made")

    def check(self) -> None:
        """See whether it can be reached.

        Raises:
            UserErrorException: it cannot.
        """
        if self._scheme in ("http", "https"):
            return  # a server need not have a page there
        place = self.key("")
        if self._scheme != "sftp":
            place = place.partition("/")[0]  # a path in a container is there with its first file
        try:
            self._fs.ls(place)
        except FileNotFoundError as error:
            if not self._fs.exists(place):  # else it is empty
                self._fail(error, "be reached")
        except Exception as error:
            self._fail(error, "be reached")

    def failure(self, error: BaseException, what: str) -> UserErrorException:
        """Return what to say of an error, without its secrets."""
        words = str(error).strip().splitlines()
        text = words[0] if words else ""
        for secret in self._secrets.values():
            text = text.replace(secret, "...")
        text = re.sub(r"(?i)(sig|signature|token)=[^&\s]+", r"\1=...", text)
        return UserErrorException(
            f"the datastore {self.name} ({self.url}) cannot {what} "
            f"({type(error).__name__}{': ' if text else ''}{text[:300]})."
        )

    def _fail(self, error: Exception, what: str) -> NoReturn:
        raise self.failure(error, what) from None


def _check_nesting(entries: list[Entry], name: str) -> None:
    files = {entry.path for entry in entries}
    for path in files:
        folder = os.path.dirname(path)
        while folder:
            if folder in files:
                raise UserErrorException(
                    f"the datastore {name} has a file {folder!r}, and files below it; no folder "
                    "of this machine can have both."
                )
            folder = os.path.dirname(folder)
