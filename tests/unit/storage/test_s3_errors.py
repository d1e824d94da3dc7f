"""Each of the client's errors has a meaning for users, on one line and without credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from boto3.exceptions import RetriesExceededError
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    FlexibleChecksumError,
    NoCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError

from services.dripping import Dripping
from sidlsg.runtime.errors import AccessError, InputError, MissingError, SidlsgError, StorageError
from sidlsg.storage import s3
from sidlsg.storage.s3 import S3Store
from sidlsg.storage.s3_errors import explained, meaning, server_of

PLACE = "s3://bucket/a.bin"
ENDPOINT = "https://user:hidden@s3.example.org:9000/path?key=hidden"


def refused(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "hidden\nhidden"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (refused("NoSuchBucket", 404), InputError, "no such bucket at https://s3.example.org:9000; create it"),
        (refused("NoSuchKey", 404), MissingError, "there is no s3://bucket/a.bin"),
        (refused("404", 404), MissingError, "there is no s3://bucket/a.bin"),
        (refused("SignatureDoesNotMatch", 403), AccessError, "the secret key is wrong"),
        (refused("InvalidAccessKeyId", 403), AccessError, "the access key is not known"),
        (refused("ExpiredToken", 400), AccessError, "get new credentials"),
        (refused("RequestTimeTooSkewed", 403), AccessError, "set the clock"),
        (refused("AccessDenied", 403), AccessError, "give credentials that may"),
        (refused("403", 403), AccessError, "give credentials that may"),
        (refused("SlowDown", 503), StorageError, "is busy or broken (SlowDown); wait"),
        (refused("InternalError", 500), StorageError, "is busy or broken (InternalError); wait"),
        (refused("BadDigest", 400), StorageError, "did not do it (BadDigest); see its log"),
        (refused("InvalidToken", 400), AccessError, "the session token is not one of this access key"),
        (refused("PathStyleDomainForbidden", 403), InputError, "addressing_style = virtual"),
        (NoCredentialsError(), InputError, "set AWS_ACCESS_KEY_ID"),
        (UnauthorizedSSOTokenError(), InputError, "sign in again"),
        (ResponseParserError("hidden"), InputError, "is not an S3 server"),
        (RecursionError("hidden"), InputError, "set AWS_DEFAULT_REGION"),
        (ProfileNotFound(profile="hidden"), InputError, "check the AWS_* variables"),
        (EndpointConnectionError(endpoint_url=ENDPOINT), StorageError, "check that it runs"),
        (ReadTimeoutError(endpoint_url=ENDPOINT), StorageError, "check that it runs"),
        (RetriesExceededError(OSError("hidden")), StorageError, "check that it runs"),
        (FlexibleChecksumError(error_msg="hidden"), StorageError, "does not match its checksum"),
    ],
    ids=lambda value: value.response["Error"]["Code"] if isinstance(value, ClientError) else type(value).__name__,
)
def test_an_error_says_what_happened_where_and_what_to_do(
    error: Exception, kind: type[SidlsgError], message: str
) -> None:
    with pytest.raises(SidlsgError) as caught, explained(PLACE, ENDPOINT):
        raise error
    assert type(caught.value) is kind
    for said in (message, PLACE):
        assert said in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_a_retry_is_offered_where_it_may_help() -> None:
    assert "run the same command again" in str(meaning(refused("SlowDown", 503), PLACE, ENDPOINT))
    assert "run the same command again" not in str(meaning(refused("AccessDenied", 403), PLACE, ENDPOINT))


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), explained(PLACE, ENDPOINT):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        (ENDPOINT, "https://s3.example.org:9000"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("user:hidden@host:1", "host:1"),
        ("host", "host"),
    ],
)
def test_an_address_is_shown_without_credentials(endpoint: str, shown: str) -> None:
    assert server_of(endpoint) == shown


LIST = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'


@pytest.mark.parametrize("kind", ["names", "read", "part", "get"])
def test_an_answer_that_drips_ends_in_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    with Dripping(f"HTTP/1.1 200 OK\r\nContent-Length: {len(LIST)}\r\n\r\n{LIST.decode()}") as server:
        access = {"AWS_ENDPOINT_URL": server.address, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        for name, value in access.items():
            monkeypatch.setenv(name, value)
        store = S3Store("s3://bucket/key")
        server.begins = "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n"
        monkeypatch.setattr(s3, "CALL_S", 0.5)
        monkeypatch.setattr(s3, "size_deadline", lambda _: 0.5)
        given: tuple[Any, ...] = {"part": ("name", 0, 9), "get": ("name", tmp_path / "file")}.get(kind, ("name",))
        with pytest.raises(StorageError, match=r"the S3 server at http://.* did not answer in full within"):
            getattr(store, kind)(*given)
    assert list(tmp_path.iterdir()) == []
