"""boto3's errors as the project's: what happened at which URI, and what to do. No message holds a credential."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error, RetriesExceededError, S3UploadFailedError
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from sidlsg.runtime.errors import AccessError, InputError, MissingError, SidlsgError, StorageError

_MISSING = {"NoSuchKey", "404", "NotFound"}
_NEW = "get new credentials, all three: access key, secret key and session token"
_REFUSED = {
    "SignatureDoesNotMatch": "the secret key is wrong; set AWS_SECRET_ACCESS_KEY to the one of the access key",
    "InvalidAccessKeyId": "the access key is not known there; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": f"the session token has expired; {_NEW}",
    "InvalidToken": f"the session token is not one of this access key; {_NEW}",
    "TokenRefreshRequired": f"the session token must be refreshed; {_NEW}",
    "RequestTimeTooSkewed": "this machine's clock differs from the server's; set the clock",
}
_AWAY = (
    boto.EndpointConnectionError,
    boto.ConnectionClosedError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    RetriesExceededError,
)
_LOGIN = (boto.CredentialRetrievalError, boto.TokenRetrievalError, boto.UnauthorizedSSOTokenError)
_SETTING = (
    boto.ConfigParseError,
    boto.InvalidRegionError,
    boto.InvalidRetryConfigurationError,
    boto.InvalidS3AddressingStyleError,
    boto.UnsupportedS3ConfigurationError,
)
"""Errors whose text names a setting or a file, and no credential."""
_STYLE = {"SecondLevelDomainForbidden", "PathStyleDomainForbidden", "InvalidPathAccess"}
"""Codes of servers that want the bucket in the host's name."""
_ELSEWHERE = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "IncorrectEndpoint",
    "InvalidRegion",
}
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
_REGION = re.compile(r"[a-z0-9-]{1,63}")
_RIGHTS = {
    "HeadObject": "read it",
    "GetObject": "read it",
    "ListObjectsV2": "list there",
    "ListMultipartUploads": "list there",
    "DeleteObject": "delete it",
    "DeleteObjects": "delete there",
}
"""The right that a request needs; all others write."""
_BUSY = {429, 500, 502, 503, 504}
_AGAIN = "and run the same command again"


@contextlib.contextmanager
def explained(uri: str, endpoint: str) -> Iterator[None]:
    """Turn what boto3 raises in the block into the project's errors.

    Raises:
        MissingError: there is no such object.
        AccessError: the server refuses the access.
        InputError: credentials, bucket or address cannot be used.
        StorageError: the server is away, busy or broken.
    """
    try:
        yield
    except S3UploadFailedError as error:
        # The server's answer is its context.
        cause = error.__context__
        raise meaning(cause if isinstance(cause, Exception) else error, uri, endpoint) from error
    except (boto.BotoCoreError, Boto3Error, ClientError, ResponseParserError, RecursionError) as error:
        raise meaning(error, uri, endpoint) from error


def meaning(error: Exception, uri: str, endpoint: str) -> SidlsgError:
    """The project's error for one of boto3's."""
    server = server_of(endpoint)
    if isinstance(error, ClientError):
        return _refusal(error, uri, server)
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return InputError(
            f"{uri}: there are no credentials, or a part of them is missing; "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, _LOGIN):
        return InputError(
            f"{uri}: the profile's credentials could not be obtained or have expired ({type(error).__name__}); "
            "sign in again, for example by `aws sso login`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, ResponseParserError):
        return InputError(
            f"{uri}: what answers at {server} is not an S3 server, or not its S3 port; "
            "set AWS_ENDPOINT_URL to the address of the S3 API"
        )
    if isinstance(error, RecursionError):
        return InputError(f"{uri}: {server} redirects in a loop; {_where({})}")
    if isinstance(error, boto.FlexibleChecksumError):
        return StorageError(f"{uri}: what arrived from {server} does not match its checksum; run the command again")
    if isinstance(error, _AWAY):
        return StorageError(
            f"{uri}: the S3 server at {server} does not answer or broke off ({type(error).__name__}); "
            f"check that it runs and that AWS_ENDPOINT_URL names it, {_AGAIN}"
        )
    what = str(error).partition("\n")[0] if isinstance(error, _SETTING) else type(error).__name__
    return InputError(
        f"{uri}: the S3 client cannot be used as it is configured ({what}); "
        "check the AWS_* variables and the AWS configuration file"
    )


def server_of(endpoint: str) -> str:
    """An address without credentials and path, for messages."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else endpoint.rpartition("@")[2]


def _refusal(error: ClientError, uri: str, server: str) -> SidlsgError:
    # Only the code: a server's text may repeat what was sent.
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    answer = error.response.get("ResponseMetadata", {})
    status, headers = answer.get("HTTPStatusCode", 0), answer.get("HTTPHeaders", {})
    if code == "NoSuchBucket":
        return InputError(f"{uri}: there is no such bucket at {server}; create it, or give another")
    if _is_elsewhere(code, status):
        return InputError(f"{uri}: {server} does not serve it and redirects ({code}); {_where(error.response)}")
    if code in _STYLE:
        return InputError(
            f"{uri}: {server} wants the bucket's name in the host's ({code}); set addressing_style = virtual in the "
            "section s3 of the AWS configuration file (`aws configure set s3.addressing_style virtual`)"
        )
    if code in _MISSING:
        return MissingError(f"there is no {uri} at {server}; give an existing object, or write it again")
    if code in _REFUSED:
        return AccessError(f"{uri}: {server} refuses the access ({code}): {_REFUSED[code]}")
    if status in (401, 403):
        right = _RIGHTS.get(error.operation_name, "write there")
        hint = "; without the right to list, a missing object is refused in the same way" if right == "read it" else ""
        return AccessError(f"{uri}: {server} refuses the access ({code}); give credentials that may {right}{hint}")
    if str(headers.get("content-type", "")).startswith("text/html"):
        return StorageError(
            f"{uri}: {server} answers with a web page, as a proxy or a console does; "
            f"check that AWS_ENDPOINT_URL names the S3 API, {_AGAIN}"
        )
    if status in _BUSY:
        return StorageError(f"{uri}: the S3 server at {server} is busy or broken ({code}); wait, {_AGAIN}")
    return StorageError(f"{uri}: the S3 server at {server} did not do it ({code}); see its log, {_AGAIN}")


def _is_elsewhere(code: str, status: int) -> bool:
    return code in _ELSEWHERE or 300 <= status < 400 or (code.isdecimal() and 300 <= int(code) < 400)


def _where(answer: Any) -> str:
    """The setting that a redirection asks for, from the address or region that it names."""
    error, headers = answer.get("Error", {}), answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(headers.get("x-amz-bucket-region") or error.get("Region") or "")
    to = server_of(str(headers.get("location", "")))
    host = str(error.get("Endpoint", ""))
    if _REGION.fullmatch(region):
        return f"the bucket is in the region {region}: set AWS_DEFAULT_REGION={region}"
    if to.startswith(("http://", "https://")) and _HOST.fullmatch(urlsplit(to).netloc):
        return f"set AWS_ENDPOINT_URL={to}, where it points to"
    if _HOST.fullmatch(host):
        return f"it names {host}: set AWS_ENDPOINT_URL to that server's address without the bucket, or its region"
    return (
        "set AWS_DEFAULT_REGION to the bucket's region, and AWS_ENDPOINT_URL to the address of the S3 server itself, "
        "not of a proxy or page before it"
    )
