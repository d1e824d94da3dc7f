"""Objects on S3: one prefix of a bucket as a store, with a digest in the metadata of each object."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from boto3.s3.transfer import TransferConfig
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, InvalidRegionError
from botocore.loaders import Loader, create_loader

from sidlsg.runtime.deadline import CALL_S, deadline, size_deadline
from sidlsg.runtime.errors import AccessError, InputError, MissingError, StorageError
from sidlsg.storage.files import atomic_file, require_digest, sha256_bytes, sha256_file
from sidlsg.storage.s3_errors import explained, server_of
from sidlsg.storage.store import S3, ObjectState, check_name, is_hidden
from sidlsg.storage.uri import split_s3_uri

PART = 16 << 20
"""Bytes of a part in transfers of files that have at least as many."""
ATTEMPTS = 5
"""Attempts of a request, up to 8 s apart; `AWS_MAX_ATTEMPTS` or the AWS configuration replaces it."""
DIGEST = "sha256"
"""The object's metadata that holds the hex SHA-256 of its content."""
_MOST_DELETED_AT_ONCE = 1000
_CONCURRENCY = 8
"""Parts of a file that are transferred at once."""
# The other client that boto3 may choose has other retries and errors.
_TRANSFER = TransferConfig(
    multipart_threshold=PART,
    multipart_chunksize=PART,
    max_concurrency=_CONCURRENCY,
    preferred_transfer_client="classic",
)


@cache
def _models(paths: str | None) -> Loader:
    """Descriptions of AWS's services, which take most of a client's time to read; all clients share them."""
    return create_loader(paths)


def make_client(uri: str) -> Any:
    """A client with the standard AWS variables and configuration files; the URI is for messages.

    Raises:
        InputError: the address, the profile or the configuration cannot be used.
    """
    with explained(uri, "AWS"):
        core = botocore.session.Session()
        core.register_component("data_loader", _models(core.get_config_variable("data_path")))
        retries: dict[str, Any] = {"mode": "standard"}
        try:
            if not core.get_config_variable("max_attempts"):
                retries["total_max_attempts"] = ATTEMPTS
        except ValueError as error:
            raise InputError(f"{uri}: AWS_MAX_ATTEMPTS, or max_attempts of the AWS profile, is not a number") from error
        config = Config(
            signature_version="s3v4",
            # Few servers but AWS's have a host name for each bucket; for those the user configures it.
            s3={} if "addressing_style" in (core.get_config_variable("s3") or {}) else {"addressing_style": "path"},
            retries=retries,
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=16,
        )
        # Other servers than AWS's have no regions, and accept any.
        region = core.get_config_variable("region") or os.environ.get("AWS_REGION") or "us-east-1"
        session = boto3.Session(botocore_session=core)
        session.events.register("creating-client-class.s3", _time)
        try:
            client = session.client("s3", region_name=region, config=config)
        except InvalidRegionError:
            raise
        except ValueError as error:
            given = str(error).partition(": ")[2]
            raise InputError(
                f"{uri}: the S3 server's address {server_of(given)!r} is not valid; set AWS_ENDPOINT_URL, or "
                "endpoint_url in the AWS configuration file, to one such as https://s3.example.org"
            ) from error
    client.meta.events.register("before-call.s3.HeadBucket", _no_region)
    return client


def _no_region(**_: object) -> tuple[AWSResponse, dict[str, Any]]:
    """Answer boto3's own HeadBucket request, which looks for the bucket's region, with 404.

    It needs a right that reading an object does not, and some servers' answers make boto3 repeat it until Python's
    stack is full.
    """
    nothing = {"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404, "HTTPHeaders": {}}}
    return AWSResponse("", 404, {}, None), nothing


def head_object(client: Any, bucket: str, key: str) -> Any:
    """An object's metadata; a ClientError names the server's reason."""
    try:
        return client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if not error.response["Error"]["Code"].isdecimal():
            raise
        # An answer to HEAD has no text; that to GET names the reason.
        client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")
        raise


def server_at(client: Any) -> str:
    """The name of a client's server in messages."""
    return f"the S3 server at {server_of(client.meta.endpoint_url)}"


class _TimedBase:
    """A base class of boto3's client that gives each call a deadline; a body is read after the call."""

    def _make_api_call(self, name: str, given: Any) -> Any:
        seconds = size_deadline(_CONCURRENCY * PART) if name in ("PutObject", "UploadPart") else CALL_S
        with deadline(seconds, server_at(self)):
            return super()._make_api_call(name, given)  # type: ignore[misc]  # boto3's


def _time(base_classes: list[type], **_: Any) -> None:
    base_classes.insert(0, _TimedBase)


class S3Store:
    """A store under a prefix of a bucket.

    The server checks each part's SHA-256. For one that cannot, set `AWS_REQUEST_CHECKSUM_CALCULATION=when_required`:
    then only the object's size and its digest in the metadata are checked after the upload.
    """

    def __init__(self, uri: str, create: bool = True, check: bool = True) -> None:
        self.uri = uri
        self.bucket, key = split_s3_uri(uri)
        self._prefix = f"{key}/" if key else ""
        self._client = make_client(uri)
        self._endpoint = self._client.meta.endpoint_url
        calculation = self._client.meta.config.request_checksum_calculation
        self._checks = {} if calculation == "when_required" else {"ChecksumAlgorithm": "SHA256"}
        if not check:
            return
        # Some servers create a missing bucket on the first write, a mistyped one too.
        with explained(uri, self._endpoint):
            found = self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._prefix, MaxKeys=1)
        if not create and not found.get("Contents"):
            raise InputError(f"there is nothing under {uri}; give a prefix that objects start with")

    def put(self, name: str, file: Path, sha256: str) -> None:
        """See `Store`."""
        key = self._key(name)
        before = _version(file)
        require_digest(str(file), sha256_file(file), sha256)
        extra = {"Metadata": {DIGEST: sha256}, **self._checks}
        with explained(self._address(key), self._endpoint):
            self._abort_remains([key])
            self._client.upload_file(str(file), self.bucket, key, ExtraArgs=extra, Config=_TRANSFER)
            there = self._client.head_object(Bucket=self.bucket, Key=key)
            size, _ = before
            good = there["ContentLength"] == size and there["Metadata"].get(DIGEST) == sha256
            changed = _version(file) != before
            if changed or not good:
                self._client.delete_object(Bucket=self.bucket, Key=key)
        if changed:
            raise InputError(f"{file} was changed during its upload to {self._address(key)}; write and store it again")
        if not good:
            raise StorageError(
                f"{self._address(key)} is not what was sent (of {there['ContentLength']:,} bytes, not {size:,}, or "
                "without its digest) and was deleted; see the server's log, and run the same command again"
            )

    def get(self, name: str, target: Path, sha256: str = "") -> None:
        """See `Store`."""
        key = self._key(name)
        with atomic_file(target) as file:
            with explained(self._address(key), self._endpoint):
                there = head_object(self._client, self.bucket, key)
                with deadline(size_deadline(there["ContentLength"]), server_at(self._client), all_threads=True):
                    self._client.download_fileobj(self.bucket, key, file, Config=_TRANSFER)
            expected = sha256 or there["Metadata"].get(DIGEST, "")
            if expected:
                file.flush()
                require_digest(self._address(key), sha256_file(Path(file.name)), expected)

    def write(self, name: str, data: bytes) -> None:
        """See `Store`."""
        key = self._key(name)
        metadata = {DIGEST: sha256_bytes(data)}
        with explained(self._address(key), self._endpoint):
            self._client.put_object(Bucket=self.bucket, Key=key, Body=data, Metadata=metadata, **self._checks)

    def read(self, name: str) -> bytes:
        """See `Store`."""
        key = self._key(name)
        with explained(self._address(key), self._endpoint), deadline(CALL_S, server_at(self._client)):
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            data: bytes = answer["Body"].read()
        require_digest(self._address(key), sha256_bytes(data), answer["Metadata"].get(DIGEST, ""))
        return data

    def part(self, name: str, start: int, length: int) -> bytes:
        """See `Store`."""
        key = self._key(name)
        wanted = f"bytes={start}-{start + length - 1}" if start >= 0 else f"bytes={start}"
        with explained(self._address(key), self._endpoint), deadline(size_deadline(length), server_at(self._client)):
            answer = self._client.get_object(Bucket=self.bucket, Key=key, Range=wanted)
            data: bytes = answer["Body"].read(length)
        return data

    def names(self, prefix: str = "") -> list[str]:
        """See `Store`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._prefix + prefix)
        with explained(self.uri, self._endpoint):
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        names = (key.removeprefix(self._prefix) for key in keys)
        # Some tools mark a folder by a key that ends in a slash.
        return sorted(name for name in names if name and not name.endswith("/") and not is_hidden(name))

    def delete(self, names: Iterable[str]) -> None:
        """See `Store`."""
        keys = [self._key(name) for name in names]
        for start in range(0, len(keys), _MOST_DELETED_AT_ONCE):
            some = keys[start : start + _MOST_DELETED_AT_ONCE]
            with explained(self.uri, self._endpoint):
                self._abort_remains(some)
                answer = self._client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in some], "Quiet": True}
                )
            if failed := answer.get("Errors"):
                raise StorageError(
                    f"{self._address(failed[0]['Key'])} and {len(failed) - 1} more could not be deleted "
                    f"({failed[0].get('Code', 'unknown')}); give credentials that may, or delete them by hand"
                )

    def _abort_remains(self, keys: list[str]) -> None:
        """Abort killed uploads to these keys, whose parts take space and are in no listing of objects."""
        prefix = os.path.commonprefix(keys)  # noqa: RUF071 - S3's prefixes go by characters
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
        try:
            for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
                if upload["Key"] in keys:
                    self._client.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
        except ClientError as error:
            # Another writer ended it, or this user or this server cannot; the upload itself does not need it.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (403, 404, 405, 501):
                raise

    def _key(self, name: str) -> str:
        return self._prefix + check_name(name)

    def _address(self, key: str) -> str:
        return f"{S3}{self.bucket}/{key}"


def _version(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def contents(uri: str) -> tuple[ObjectState | None, list[tuple[str, ObjectState]]]:
    """The state of the object at a URI, if any; without one, or with an empty one, keys and states of all under it.

    The object comes first, because its reader may have no right to list. An empty one may be what a server answers for
    a folder.

    Raises:
        InputError: the URI is invalid, or the access is refused.
        StorageError: the server failed.
    """
    bucket, key = split_s3_uri(uri)
    client = make_client(uri)
    state, refused = None, None
    if key and not uri.endswith("/"):
        try:
            with explained(uri, client.meta.endpoint_url):
                state = _state(head_object(client, bucket, key), "ContentLength")
        except AccessError as error:
            refused = error  # without the right to list, the answer for a missing object
        except MissingError:
            pass
    if state and state.size:
        return state, []
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key}/" if key else "")
    try:
        with explained(uri, client.meta.endpoint_url):
            found = [(str(entry["Key"]), _state(entry, "Size")) for page in pages for entry in page.get("Contents", [])]
    except AccessError as error:
        if state is None:
            raise refused or error from error
        found = []
    # Some tools mark a folder by a key that ends in a slash.
    found = [(name, inner) for name, inner in found if not name.endswith("/")]
    if refused and not found:
        raise refused
    return state, found


def _state(entry: Mapping[str, Any], size: str) -> ObjectState:
    return ObjectState(size=int(entry[size]), version=str(entry["ETag"]).strip('"'))
