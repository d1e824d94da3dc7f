"""What boto3's errors mean to a user: what happened at which place, and what to do. No credential is in a message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error, RetriesExceededError, S3UploadFailedError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)

from sidlsg.errors import ContentError, InputError, SidlsgError, StorageError

_MISSING = {"NoSuchKey", "404", "NotFound"}
_REFUSED = {
    "SignatureDoesNotMatch": "the secret key is wrong; set AWS_SECRET_ACCESS_KEY to the one of the access key",
    "InvalidAccessKeyId": "the access key is not known there; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the session token has expired; get new credentials",
    "RequestTimeTooSkewed": "this machine's clock differs from the server's; set the clock",
}
_AWAY = (
    EndpointConnectionError,
    ConnectionClosedError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    RetriesExceededError,
)
_BUSY = {429, 500, 502, 503, 504}
_AGAIN = "and run the same command again"


@contextlib.contextmanager
def explained(place: str, endpoint: str) -> Iterator[None]:
    """Turn what boto3 raises in the block into the project's errors.

    Args:
        place: the `s3://` place of the object or prefix that is worked on.
        endpoint: the server's address; only its host and port are shown.

    Raises:
        ContentError: there is no such object.
        InputError: credentials, bucket or address cannot be used.
        StorageError: the server is away, busy or broken.
    """
    try:
        yield
    except S3UploadFailedError as error:
        # boto3 wraps the answer of the server in a text; the answer itself is its context.
        cause = error.__context__
        raise meaning(cause if isinstance(cause, Exception) else error, place, endpoint) from error
    except (BotoCoreError, Boto3Error, ClientError) as error:
        raise meaning(error, place, endpoint) from error


def meaning(error: Exception, place: str, endpoint: str) -> SidlsgError:
    """The project's error for one of boto3's."""
    server = server_of(endpoint)
    if isinstance(error, ClientError):
        return _refusal(error, place, server)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return InputError(
            f"{place}: there are no credentials, or a part of them is missing; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, FlexibleChecksumError):
        return StorageError(f"{place}: what arrived from {server} does not match its checksum; run the command again")
    if isinstance(error, _AWAY):
        return StorageError(
            f"{place}: the S3 server at {server} does not answer or broke off ({type(error).__name__}); "
            f"check that it runs and that AWS_ENDPOINT_URL names it, {_AGAIN}"
        )
    return InputError(
        f"{place}: the S3 client cannot be used as it is configured ({type(error).__name__}); check the AWS_* variables"
    )


def server_of(endpoint: str) -> str:
    """An address without credentials and path, for messages."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else endpoint.rpartition("@")[2]


def _refusal(error: ClientError, place: str, server: str) -> SidlsgError:
    # Only the code is shown: a server's own text may repeat what was sent.
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "NoSuchBucket":
        return InputError(f"{place}: there is no such bucket at {server}; create it, or give another")
    if code in _MISSING:
        return ContentError(f"there is no {place} at {server}; give an object that is there, or write it again")
    if code in _REFUSED:
        return InputError(f"{place}: {server} refuses the access ({code}): {_REFUSED[code]}")
    if status in (401, 403):
        return InputError(
            f"{place}: {server} refuses the access ({code}); "
            "give credentials that may list, read, write and delete there"
        )
    if status in _BUSY:
        return StorageError(f"{place}: the S3 server at {server} is busy or broken ({code}); wait, {_AGAIN}")
    return StorageError(f"{place}: the S3 server at {server} did not do it ({code}); see its log, {_AGAIN}")
