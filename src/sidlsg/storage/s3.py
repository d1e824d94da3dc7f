"""Objects on S3: one prefix of a bucket as a store, with digests beside the objects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from boto3.s3.transfer import TransferConfig
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, InvalidRegionError

from sidlsg.runtime.deadline import CALL_S, deadline, size_deadline
from sidlsg.runtime.errors import AccessError, ContentError, InputError, StorageError
from sidlsg.storage.files import atomic_file, require_digest, sha256_bytes, sha256_file
from sidlsg.storage.s3_errors import explained, server_of
from sidlsg.storage.store import S3, ObjectState, check_name, is_hidden
from sidlsg.storage.uri import split_place

PART = 16 << 20
"""Bytes of a part; a file of at least as many goes up and comes down in parts."""
ATTEMPTS = 5
"""Tries of a request, with waits up to 8 s between them; `AWS_MAX_ATTEMPTS` or the AWS configuration replaces it."""
DIGEST = "sha256"
"""The object's metadata that holds the hex SHA-256 of its content."""
_MOST_DELETED_AT_ONCE = 1000
_CONCURRENCY = 8
"""Parts of a file on their way at once, which share the line."""
# The other client that boto3 may choose has retries and errors of its own.
_TRANSFER = TransferConfig(
    multipart_threshold=PART,
    multipart_chunksize=PART,
    max_concurrency=_CONCURRENCY,
    preferred_transfer_client="classic",
)


def make_client(place: str) -> Any:
    """A client for the server and the credentials that the standard AWS variables or configuration files name.

    Args:
        place: what it is for, for messages.

    Raises:
        InputError: the address, the profile or the configuration cannot be used.
    """
    with explained(place, "AWS"):
        core = botocore.session.Session()
        retries: dict[str, Any] = {"mode": "standard"}
        try:
            if not core.get_config_variable("max_attempts"):
                retries["total_max_attempts"] = ATTEMPTS
        except ValueError as error:
            raise InputError(f"{place}: AWS_MAX_ATTEMPTS, or max_attempts of the AWS profile, is no number") from error
        config = Config(
            signature_version="s3v4",
            # Few servers but AWS's have a name for each bucket; for one that has, the user's configuration says so.
            s3={} if "addressing_style" in (core.get_config_variable("s3") or {}) else {"addressing_style": "path"},
            retries=retries,
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=16,
        )
        # Servers other than AWS's know no regions, and take the last one.
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
                f"{place}: the S3 server's address {server_of(given)!r} is not valid; set AWS_ENDPOINT_URL, or "
                "endpoint_url in the AWS configuration file, to one such as https://s3.example.org"
            ) from error
    client.meta.events.register("before-call.s3.HeadBucket", _no_region)
    return client


def _no_region(**_: object) -> tuple[AWSResponse, dict[str, Any]]:
    """Answer the client's own question for a bucket's region with 404.

    boto3 asks it where another answer does not name the region. It needs a right that reading an object does not, and a
    server that answers it in the same way is asked again until Python's stack is full.
    """
    nothing = {"Error": {"Code": "404"}, "ResponseMetadata": {"HTTPStatusCode": 404, "HTTPHeaders": {}}}
    return AWSResponse("", 404, {}, None), nothing


def head_object(client: Any, bucket: str, key: str) -> Any:
    """What a server says of an object without its content; needs the right to read it.

    Raises:
        ClientError: it refuses, for the reason that it gives.
    """
    try:
        return client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if not error.response["Error"]["Code"].isdecimal():
            raise
        # An answer to HEAD has no text, and the status alone can mean many things.
        client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")
        raise


def server_at(client: Any) -> str:
    """What messages call the server of a client."""
    return f"the S3 server at {server_of(client.meta.endpoint_url)}"


class _TimedBase:
    """A base of boto3's client: each of its calls ends in time, but for the body of an answer that is read later."""

    def _make_api_call(self, name: str, given: Any) -> Any:
        seconds = size_deadline(_CONCURRENCY * PART) if name in ("PutObject", "UploadPart") else CALL_S
        with deadline(seconds, server_at(self)):
            return super()._make_api_call(name, given)  # type: ignore[misc]  # boto3's


def _time(base_classes: list[type], **_: Any) -> None:
    base_classes.insert(0, _TimedBase)


class S3Store:
    """A store under a prefix of a bucket.

    Large files go up in parts, which become an object in one step at the end. The server checks each part's SHA-256
    as it arrives; where a server cannot, set `AWS_REQUEST_CHECKSUM_CALCULATION=when_required`, and only the size and
    the digest beside the object are checked after the upload.
    """

    def __init__(self, place: str, create: bool = True, check: bool = True) -> None:
        self.place = place
        self.bucket, key = split_place(place)
        self._prefix = f"{key}/" if key else ""
        self._client = make_client(place)
        self._endpoint = self._client.meta.endpoint_url
        calculation = self._client.meta.config.request_checksum_calculation
        self._checks = {} if calculation == "when_required" else {"ChecksumAlgorithm": "SHA256"}
        if not check:
            return
        # Some servers create a missing bucket on the first write; a mistyped name must not get that far.
        with explained(place, self._endpoint):
            found = self._client.list_objects_v2(Bucket=self.bucket, Prefix=self._prefix, MaxKeys=1)
        if not create and not found.get("Contents"):
            raise InputError(f"there is nothing under {place}; give a prefix that objects start with")

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
            raise InputError(f"{file} was changed while it went to {self._address(key)}; write it again, then store it")
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
        with explained(self.place, self._endpoint):
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        names = (key.removeprefix(self._prefix) for key in keys)
        # A key that ends with a slash is how some tools mark a folder.
        return sorted(name for name in names if name and not name.endswith("/") and not is_hidden(name))

    def delete(self, names: Iterable[str]) -> None:
        """See `Store`."""
        keys = [self._key(name) for name in names]
        for start in range(0, len(keys), _MOST_DELETED_AT_ONCE):
            some = keys[start : start + _MOST_DELETED_AT_ONCE]
            with explained(self.place, self._endpoint):
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
        """End what killed uploads to these keys left; their parts take space and are in no listing of objects."""
        prefix = os.path.commonprefix(keys)  # noqa: RUF071 - S3's prefixes go by characters
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
        try:
            for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
                if upload["Key"] in keys:
                    self._client.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
        except ClientError as error:
            # Another writer ended it, or this user may not, or the server cannot. The object itself needs none of it.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (403, 404, 405, 501):
                raise

    def _key(self, name: str) -> str:
        return self._prefix + check_name(name)

    def _address(self, key: str) -> str:
        return f"{S3}{self.bucket}/{key}"


def _version(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def list_objects(place: str) -> list[tuple[str, ObjectState]]:
    """Keys and states of all objects under a prefix and a slash, of the whole bucket where there is no prefix.

    Raises:
        InputError: the place is none, or the access is refused.
        StorageError: the server did not answer.
    """
    bucket, key = split_place(place)
    client = make_client(place)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key}/" if key else "")
    with explained(place, client.meta.endpoint_url):
        found = [(str(entry["Key"]), _state(entry, "Size")) for page in pages for entry in page.get("Contents", [])]
    # A key that ends with a slash is how some tools mark a folder.
    return [(name, state) for name, state in found if not name.endswith("/")]


def object_state(place: str) -> ObjectState | None:
    """The state of the object at a place, None where there is none of exactly that key.

    Raises:
        InputError: the place is none, or the access is refused.
        StorageError: the server did not answer.
    """
    bucket, key = split_place(place)
    if not key:
        return None
    client = make_client(place)
    try:
        with explained(place, client.meta.endpoint_url):
            return _state(head_object(client, bucket, key), "ContentLength")
    except ContentError:
        return None


def first_bytes(place: str, count: int) -> bytes:
    """So many bytes from the beginning of an object that is not empty, fewer where it is shorter.

    Raises:
        ContentError: there is no such object.
        InputError: the place is none, or the access is refused.
        StorageError: the server did not answer.
    """
    bucket, key = split_place(place)
    client = make_client(place)
    with explained(place, client.meta.endpoint_url), deadline(size_deadline(count), server_at(client)):
        answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{count - 1}")
        data: bytes = answer["Body"].read(count)
    return data


def _state(entry: Mapping[str, Any], size: str) -> ObjectState:
    return ObjectState(size=int(entry[size]), version=str(entry["ETag"]).strip('"'))


def contents(place: str) -> tuple[ObjectState | None, list[tuple[str, ObjectState]]]:
    """The state of the object at a place, if there is one, and keys and states of what lies under it otherwise.

    Raises:
        InputError: the place is none, or the access is refused.
        StorageError: the server did not answer.
    """
    state, refused = None, None
    try:
        state = None if place.endswith("/") else object_state(place)
    except AccessError as error:
        refused = error  # to who may not list the bucket, what is not there is refused
    try:
        objects = list_objects(place) if not state or not state.size else []
    except AccessError as error:
        raise refused or error from error
    return state, objects
