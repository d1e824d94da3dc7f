"""Objects on S3 as sources need them: which ones lie at a place, of what sizes, and how one begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidlsg.prompts.source.files import State
from sidlsg.runtime.deadline import deadline, size_deadline
from sidlsg.runtime.errors import ContentError
from sidlsg.storage.s3 import head_object, make_client, server_at, split_place
from sidlsg.storage.s3_errors import explained


def list_objects(place: str) -> list[tuple[str, State]]:
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


def object_state(place: str) -> State | None:
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


def _state(entry: Mapping[str, Any], size: str) -> State:
    return State(size=int(entry[size]), version=str(entry["ETag"]).strip('"'))
