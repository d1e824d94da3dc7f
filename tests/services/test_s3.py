"""S3 as it fails: wrong keys, missing buckets, damage, servers and writers that die. Each on a real server."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from forked import Program
from services.seaweedfs import SeaweedFS
from sidlsg.prompts.source.files import find_inputs
from sidlsg.runtime.errors import AccessError, ContentError, InputError, SidlsgError, StorageError
from sidlsg.storage.s3 import PART, S3Store
from sidlsg.storage.uri import open_store, resolve, split_s3_uri

PARTS = 5
FEW = 3


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_file(path: Path, seed: int, parts: int = FEW) -> str:
    """A file of so many parts, each another and the last one short; its digest."""
    data = b"".join(bytes([16 * seed + part]) * PART for part in range(parts - 1)) + b"end"
    path.write_bytes(data)
    return sha256(data)


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """A server of this test alone, which may be killed."""
    with SeaweedFS(tmp_path / "server") as server:
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        yield server


def uploads(server: SeaweedFS, bucket: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return found


def on(store: S3Store, event: str, action: Any) -> None:
    """Let an action run right before the store's client sends a request of a kind."""

    def before(**_: object) -> None:
        # What a handler returns would be taken for the answer.
        action()

    store._client.meta.events.register(f"before-call.s3.{event}", before)


def test_a_large_file_goes_up_in_parts_with_its_digest(s3_server: SeaweedFS, s3_place: str, tmp_path: Path) -> None:
    digest = make_file(tmp_path / "big", 0, PARTS)
    assert (tmp_path / "big").stat().st_size > 64 << 20
    store = open_store(f"{s3_place}/run")
    store.put("state/big.bin", tmp_path / "big", digest)
    bucket, _ = split_s3_uri(s3_place)
    there = s3_server.client().head_object(Bucket=bucket, Key="run/state/big.bin", ChecksumMode="ENABLED")
    assert there["Metadata"] == {"sha256": digest}
    assert there["ContentLength"] == (tmp_path / "big").stat().st_size
    assert there["ETag"].endswith(f'-{PARTS}"')
    # The server has checked each part by the same kind of digest.
    assert there["ChecksumSHA256"].endswith(f"-{PARTS}")
    store.get("state/big.bin", tmp_path / "back", digest)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "big").read_bytes()
    assert uploads(s3_server, bucket) == []


def test_a_server_without_checksums_is_asked_for_none(
    s3_server: SeaweedFS, s3_place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    (tmp_path / "x").write_bytes(b"x")
    store = open_store(s3_place)
    store.put("x", tmp_path / "x", sha256(b"x"))
    there = s3_server.client().head_object(Bucket=split_s3_uri(s3_place)[0], Key="x", ChecksumMode="ENABLED")
    assert not [name for name in there if name.startswith("Checksum")]
    assert store.read("x") == b"x"


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("AWS_SECRET_ACCESS_KEY", "not-the-secret", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "nobody-known", "InvalidAccessKeyId"),
        ("AWS_ACCESS_KEY_ID", None, "no credentials"),
        ("AWS_PROFILE", "nobody-known", "ProfileNotFound"),
        ("AWS_ENDPOINT_URL", "http://", "address 'http://' is not valid"),
    ],
)
def test_wrong_access_is_refused_without_showing_it(
    s3_server: SeaweedFS, s3_place: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None, told: str
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=told) as caught:
        open_store(f"{s3_place}/run")
    assert f"{s3_place}/run" in str(caught.value)
    for hidden in ("not-the-secret", "nobody-known", s3_server.state["secret_key"], s3_server.state["access_key"]):
        assert hidden not in str(caught.value)


def test_a_missing_bucket_is_named_and_not_made(s3_server: SeaweedFS, s3_place: str) -> None:
    with pytest.raises(InputError, match=f"{s3_place}-x/run: there is no such bucket at {s3_server.endpoint}"):
        open_store(f"{s3_place}-x/run")
    buckets = [bucket["Name"] for bucket in s3_server.client().list_buckets()["Buckets"]]
    assert split_s3_uri(s3_place)[0] in buckets
    assert split_s3_uri(f"{s3_place}-x")[0] not in buckets


def test_a_server_that_is_away_is_named(s3_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hidden@127.0.0.1:9")
    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:9 does not answer .*run the same command") as caught:
        open_store(s3_place)
    assert "hidden" not in str(caught.value)


def test_every_name_of_a_long_list_is_found_and_deleted(s3_server: SeaweedFS, s3_place: str) -> None:
    bucket, _ = split_s3_uri(s3_place)
    client = s3_server.client()
    expected = [f"{i // 100}/{i:04d}" for i in range(1050)]
    keys = [f"run/{name}" for name in expected] + ["run2/x", "run/.hidden", "run/folder/"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=b""), keys))
    store = open_store(f"{s3_place}/run/")
    assert store.names() == sorted(expected)
    assert len(store.names("10/")) == 50
    store.delete(expected)
    assert store.names() == []
    client.head_object(Bucket=bucket, Key="run2/x")


def test_damage_in_the_bucket_is_noticed_without_a_digest(s3_server: SeaweedFS, s3_place: str, tmp_path: Path) -> None:
    metadata = {"sha256": sha256(b"good")}
    s3_server.client().put_object(Bucket=split_s3_uri(s3_place)[0], Key="x", Body=b"evil", Metadata=metadata)
    store = open_store(s3_place)
    with pytest.raises(ContentError, match=f"{s3_place}/x has SHA-256 {sha256(b'evil')}"):
        store.read("x")
    with pytest.raises(ContentError, match=f"{s3_place}/x has SHA-256 {sha256(b'evil')}"):
        store.get("x", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_another_writers_objects_without_a_digest_are_read(s3_server: SeaweedFS, s3_place: str, tmp_path: Path) -> None:
    s3_server.client().put_object(Bucket=split_s3_uri(s3_place)[0], Key="x", Body=b"text")
    store = open_store(s3_place)
    store.get("x", tmp_path / "x")
    assert store.read("x") == (tmp_path / "x").read_bytes() == b"text"


def test_what_did_not_arrive_as_it_was_sent_is_deleted(s3_server: SeaweedFS, s3_place: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"sent")
    store = S3Store(s3_place)
    bucket, _ = split_s3_uri(s3_place)
    on(store, "HeadObject", lambda: s3_server.client().put_object(Bucket=bucket, Key="x", Body=b"arrived"))
    with pytest.raises(StorageError, match=f"{s3_place}/x is not what was sent .*deleted"):
        store.put("x", tmp_path / "x", sha256(b"sent"))
    assert store.names() == []


def test_a_file_that_changes_on_the_way_is_not_stored(s3_place: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"sent")
    store = S3Store(s3_place)
    on(store, "HeadObject", lambda: (tmp_path / "x").write_bytes(b"SENT"))
    with pytest.raises(InputError, match="was changed during its upload"):
        store.put("x", tmp_path / "x", sha256(b"sent"))
    assert store.names() == []


@pytest.mark.parametrize("earlier", [False, True])
def test_a_server_that_dies_during_an_upload_loses_nothing(mortal: SeaweedFS, tmp_path: Path, earlier: bool) -> None:
    old, new = make_file(tmp_path / "old", 1), make_file(tmp_path / "new", 2)
    bucket = mortal.make_bucket()
    store = S3Store(f"s3://{bucket}/run")
    if earlier:
        store.put("big.bin", tmp_path / "old", old)
    parts = iter(range(FEW))
    on(store, "UploadPart", lambda: mortal.kill() if next(parts, 0) == 1 else None)
    with pytest.raises(StorageError, match="does not answer or broke off") as caught:
        store.put("big.bin", tmp_path / "new", new)
    for said in (f"s3://{bucket}/run/big.bin", mortal.endpoint, "run the same command again"):
        assert said in str(caught.value)
    assert mortal.state["secret_key"] not in str(caught.value)

    mortal.start()
    again = open_store(f"s3://{bucket}/run")
    assert again.names() == (["big.bin"] if earlier else [])
    if earlier:
        again.get("big.bin", tmp_path / "back", old)
    assert len(uploads(mortal, bucket)) == 1
    again.put("big.bin", tmp_path / "new", new)
    again.get("big.bin", tmp_path / "back", new)
    assert uploads(mortal, bucket) == []


def test_a_server_that_dies_during_a_download_leaves_the_target(mortal: SeaweedFS, tmp_path: Path) -> None:
    digest = make_file(tmp_path / "big", 3)
    store = S3Store(f"s3://{mortal.make_bucket()}")
    store.put("big.bin", tmp_path / "big", digest)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "target").write_bytes(b"old")
    gets = iter(range(FEW))
    on(store, "GetObject", lambda: mortal.kill() if next(gets, 0) == 1 else None)
    with pytest.raises(StorageError, match="does not answer or broke off"):
        store.get("big.bin", tmp_path / "out" / "target", digest)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["target"]
    assert (tmp_path / "out" / "target").read_bytes() == b"old"
    mortal.start()
    open_store(store.uri).get("big.bin", tmp_path / "out" / "target", digest)
    assert (tmp_path / "out" / "target").read_bytes() == (tmp_path / "big").read_bytes()


def test_a_writer_that_is_killed_during_an_upload_leaves_no_object(
    s3_server: SeaweedFS, s3_place: str, tmp_path: Path
) -> None:
    digest = make_file(tmp_path / "big", 4)
    bucket, _ = split_s3_uri(s3_place)
    # The last request never comes, so that there is time to kill the writer before it.
    code = """
import sys, time
from pathlib import Path
from sidlsg.storage.s3 import S3Store
store = S3Store(sys.argv[1])
store._client.meta.events.register("before-call.s3.CompleteMultipartUpload", lambda **_: time.sleep(600))
store.put("big.bin", Path(sys.argv[2]), sys.argv[3])
"""
    writer = Program([s3_place, str(tmp_path / "big"), digest], code=code)
    try:
        client, until = s3_server.client(), time.monotonic() + 30
        while (
            not (begun := uploads(s3_server, bucket))
            or len(client.list_parts(Bucket=bucket, Key="big.bin", UploadId=begun[0]["UploadId"]).get("Parts", []))
            < FEW - 1
        ):
            assert time.monotonic() < until and writer.poll() is None
            time.sleep(0.05)
    finally:
        writer.kill()
        writer.wait()
    store = open_store(s3_place)
    assert store.names() == []
    with pytest.raises(ClientError):
        client.head_object(Bucket=bucket, Key="big.bin")
    assert len(uploads(s3_server, bucket)) == 1
    # Deleting the name takes the remains along; writing it does so as well.
    store.delete(["other"])
    assert len(uploads(s3_server, bucket)) == 1
    store.delete(["big.bin"])
    assert uploads(s3_server, bucket) == []


def test_a_user_who_may_only_read_is_told(s3_server: SeaweedFS, s3_place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(s3_place)
    store.write("x", b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.state["reader_access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.state["reader_secret_key"])
    readers = open_store(s3_place)
    assert readers.read("x") == b"x"
    for attempt in (lambda: readers.write("x", b"y"), lambda: readers.delete(["x"])):
        with pytest.raises(SidlsgError, match="AccessDenied") as caught:
            attempt()
        assert "give credentials that may" in str(caught.value)
    assert store.read("x") == b"x"


class Restricted(SeaweedFS):
    """A server whose second user may read what is under one prefix, and neither list nor write."""

    def prepare(self) -> None:
        super().prepare()
        file = self.folder / "s3.json"
        identities = json.loads(file.read_text())["identities"]
        identities[1]["actions"] = ["Read:bucket/run/*"]
        file.write_text(json.dumps({"identities": identities}))


def test_who_may_read_under_a_prefix_alone_reads_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDLSG_CACHE", str(tmp_path / "cache"))
    with Restricted(tmp_path / "server") as server:
        server.require_bucket("bucket")
        for key in ("run/a.txt", "other.txt"):
            server.client().put_object(Bucket="bucket", Key=key, Body=b"x")
        for name, value in server.client_environment().items():
            monkeypatch.setenv(name, value)
        for name in ("access_key", "secret_key"):
            variable = "AWS_ACCESS_KEY_ID" if name == "access_key" else "AWS_SECRET_ACCESS_KEY"
            monkeypatch.setenv(variable, server.state[f"reader_{name}"])
        assert resolve("s3://bucket/run/a.txt", sha256(b"x")).read_bytes() == b"x"
        assert [file.size for file in find_inputs(["s3://bucket/run/a.txt"])] == [1]
        with pytest.raises(AccessError, match="may read it"):
            resolve("s3://bucket/other.txt", sha256(b"x"))
        with pytest.raises(AccessError, match="may write there"):
            open_store("s3://bucket/run", check=False).write("a.txt", b"y")
