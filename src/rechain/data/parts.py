"""Large files on their way to a store by parts: one that was cut off goes on where it stopped.

The store itself keeps the parts of a file that is not whole yet: Azure as uncommitted blocks (for
a week), S3 as a multipart upload, SFTP as a file of another name. They are recognised by the size
and the time of the file that they are of; S3's, in addition, by their MD5.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import Any

__all__ = ["PART", "put_azure", "put_s3", "put_sftp"]

PART = 16 << 20  # bytes
_MOST = 9000  # parts of a file: S3 takes 10 000, Azure 50 000
_AT_A_TIME = 4


def put_azure(fs: Any, path: str, key: str) -> None:
    """Copy a file to a blob, through adlfs."""
    _sync(fs, _put_azure, path, key)


def put_s3(fs: Any, path: str, key: str) -> None:
    """Copy a file to an object, through s3fs."""
    _sync(fs, _put_s3, path, key)


def put_sftp(fs: Any, path: str, key: str) -> None:
    """Copy a file to one of an SFTP server, which is there whole or not at all."""
    fs.makedirs(posixpath.dirname(key), exist_ok=True)
    there = f"{key}.{_mark(path)}~"
    start = fs.info(there)["size"] if fs.exists(there) else 0
    size = os.stat(path).st_size
    if not size:
        fs.touch(there)
    for first in range(start, size, PART):
        # Closed after each part: only then has the server answered to all of it.
        with fs.ftp.open(there, "a") as target:
            target.set_pipelined(True)
            target.write(_read(path, first, min(PART, size - first)))
    if (found := fs.info(there)["size"]) != size:
        fs.rm(there)
        raise OSError(f"{found} bytes arrived in place of {size}")
    fs.mv(there, key)


def _sync(fs: Any, put: Callable[..., Awaitable[None]], path: str, key: str) -> None:
    from fsspec.asyn import sync

    sync(fs.loop, put, fs, path, key)


def _mark(path: str) -> str:
    """Return what tells this state of a file from another."""
    found = os.stat(path)
    return hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:16]


def _parts(path: str) -> Iterator[tuple[int, int, int]]:
    """Yield each part's number, from 0 on, its first byte and how many it has."""
    size = os.stat(path).st_size
    part = max(PART, -(-size // _MOST))
    for number, start in enumerate(range(0, size, part)):
        yield number, start, min(part, size - start)


def _read(path: str, start: int, count: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        data = os.pread(file.fileno(), count, start)
    if len(data) != count:
        raise OSError(f"{path} became shorter while it was sent")
    return data


async def _all(path: str, one: Callable[[int, int, int], Awaitable[Any]]) -> list[Any]:
    gate = asyncio.Semaphore(_AT_A_TIME)

    async def guarded(number: int, start: int, count: int) -> Any:
        async with gate:
            return await one(number, start, count)

    tasks = [asyncio.ensure_future(guarded(*part)) for part in _parts(path)]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _put_azure(fs: Any, path: str, key: str) -> None:
    from azure.core.exceptions import ResourceNotFoundError
    from azure.storage.blob import BlobBlock

    container, _, name = key.partition("/")
    mark = _mark(path)
    async with fs.service_client.get_blob_client(container, name) as client:
        try:
            _, found = await client.get_block_list("uncommitted")
        except ResourceNotFoundError:
            found = []
        there = {block.id: block.size for block in found}

        async def one(number: int, start: int, count: int) -> Any:
            block = f"{mark}{number:08d}"
            if there.get(block) != count:
                await client.stage_block(block, _read(path, start, count), length=count)
            return BlobBlock(block_id=block)

        await client.commit_block_list(await _all(path, one))


async def _put_s3(fs: Any, path: str, key: str) -> None:
    bucket, _, name = key.partition("/")
    place = {"Bucket": bucket, "Key": name}
    upload, there = await _begun_s3(fs, bucket, name)
    if not upload:
        upload = (await fs._call_s3("create_multipart_upload", **place))["UploadId"]

    async def one(number: int, start: int, count: int) -> dict[str, Any]:
        data = _read(path, start, count)
        known = there.get(number + 1)
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if known is None or known.strip('"') != digest:
            said = await fs._call_s3(
                "upload_part", **place, UploadId=upload, PartNumber=number + 1, Body=data
            )
            known = said["ETag"]
        return {"PartNumber": number + 1, "ETag": known}

    parts = {"Parts": await _all(path, one)}
    await fs._call_s3("complete_multipart_upload", **place, UploadId=upload, MultipartUpload=parts)


async def _begun_s3(fs: Any, bucket: str, name: str) -> tuple[str, dict[int, str]]:
    """Return the newest upload of an object that is not whole, and its parts' ETags."""
    try:
        said = await fs._call_s3("list_multipart_uploads", Bucket=bucket, Prefix=name)
        begun = [one for one in said.get("Uploads") or () if one["Key"] == name]
        if not begun:
            return "", {}
        upload = str(max(begun, key=lambda one: one["Initiated"])["UploadId"])
        found: dict[int, str] = {}
        more: dict[str, Any] = {}
        while True:
            said = await fs._call_s3(
                "list_parts", Bucket=bucket, Key=name, UploadId=upload, **more
            )
            found.update((one["PartNumber"], one["ETag"]) for one in said.get("Parts") or ())
            if not said.get("IsTruncated"):
                return upload, found
            more = {"PartNumberMarker": said["NextPartNumberMarker"]}
    except (OSError, NotImplementedError):
        return "", {}  # not every server, nor every right, lets one look
