"""S3 as users have it: their configuration counts, odd answers are explained, and a right to read is enough to read.

What needs a real server is in tests/services."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from odd_s3 import BUCKET, Asked, OddS3, Refusal, odd_s3
from sidlsg.prompts.source.files import find_inputs
from sidlsg.runtime.errors import AccessError, ContentError, InputError, MissingError, StorageError
from sidlsg.storage.s3 import ATTEMPTS, make_client
from sidlsg.storage.uri import open_store, resolve, uri_digest

DATA = b"a caption\n"
DIGEST = hashlib.sha256(DATA).hexdigest()
OBJECTS = {"run/a.txt": DATA}
PLACE = f"s3://{BUCKET}/run/a.txt"
Configure = Callable[[str], None]


@pytest.fixture(autouse=True)
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Writes the user's configuration file; by default there is none, and no variable but the keys."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    given = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_EC2_METADATA_DISABLED": "true"}
    given |= {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    for name, value in (given | {"SIDLSG_CACHE": str(tmp_path / "cache"), "NO_PROXY": "*"}).items():
        monkeypatch.setenv(name, value)
    return lambda text: (tmp_path / "config").write_text(text) and None


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., OddS3]]:
    """Starts a server that AWS_ENDPOINT_URL names."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def serve(refuse: Callable[[Asked], Refusal | None] = lambda _: None, objects: Any = OBJECTS) -> OddS3:
            server = stack.enter_context(odd_s3(dict(objects), refuse))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
            return server

        yield serve


@pytest.fixture
def host_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name below `s3.test` is this machine's."""
    real = socket.getaddrinfo

    def found(host: Any, *given: Any, **named: Any) -> Any:
        return real("127.0.0.1" if str(host).endswith("s3.test") else host, *given, **named)

    monkeypatch.setattr(socket, "getaddrinfo", found)


def wants_host_names(asked: Asked) -> Refusal | None:
    return None if asked.host.startswith(f"{BUCKET}.") else Refusal(403, "SecondLevelDomainForbidden")


@pytest.mark.usefixtures("host_names")
def test_the_configured_addressing_style_counts(
    served: Callable[..., OddS3], configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(wants_host_names)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://s3.test:{server.port}")
    for attempt in (lambda: uri_digest(PLACE), lambda: open_store(f"s3://{BUCKET}/run")):
        with pytest.raises(InputError, match=r"the bucket's name in the host's \(Second.* s3.addressing_style virtual"):
            attempt()
    assert {asked.path.split("/")[1] for asked in server.asked} == {BUCKET}
    configure("[default]\ns3 =\n  addressing_style = virtual\n")
    assert uri_digest(PLACE) == DIGEST
    assert resolve(PLACE, DIGEST).read_bytes() == DATA


def test_the_configured_endpoint_and_region_count(
    served: Callable[..., OddS3], configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served()
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    address = f"endpoint_url = http://127.0.0.1:{server.port}"
    configure(f"[default]\nregion = eu-central-7\nservices = mine\n[services mine]\ns3 =\n  {address}\n")
    assert uri_digest(PLACE) == DIGEST
    assert all("/eu-central-7/s3/" in asked.headers["Authorization"] for asked in server.asked)
    configure(f"[default]\n{address}\n")
    monkeypatch.setenv("AWS_REGION", "eu-west-9")
    assert uri_digest(PLACE) == DIGEST
    assert "/eu-west-9/s3/" in server.asked[-1].headers["Authorization"]


def test_a_session_token_is_sent(served: Callable[..., OddS3], monkeypatch: pytest.MonkeyPatch) -> None:
    server = served()
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
    assert uri_digest(PLACE) == DIGEST
    assert {asked.headers["X-Amz-Security-Token"] for asked in server.asked} == {"a-token"}


def test_the_configured_number_of_tries_counts(configure: Configure) -> None:
    assert make_client(PLACE).meta.config.retries["total_max_attempts"] == ATTEMPTS
    configure("[default]\nmax_attempts = 2\n")
    assert make_client(PLACE).meta.config.retries["total_max_attempts"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[default]\nendpoint_url = htp//server\n", "address 'htp//server' is not valid"),
        ("[default]\ns3 =\n  addressing_style = virtua\n", "Valid options are: 'auto', 'virtual', and 'path'"),
        ("[default]\nregion = not one\n", "region_name 'not one'"),
        ("[default\n", "Unable to parse config file"),
    ],
)
def test_an_unusable_configuration_is_reported(configure: Configure, text: str, message: str) -> None:
    configure(text)
    for attempt in (lambda: uri_digest(PLACE), lambda: open_store(f"s3://{BUCKET}/run")):
        with pytest.raises(InputError, match="AWS configuration file") as caught:
            attempt()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


ENDPOINT = "<Endpoint>eu.s3.example.org</Endpoint>"
NO_REASON = "set AWS_DEFAULT_REGION to the bucket's region, and AWS_ENDPOINT_URL to the address"


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (Refusal(301, "PermanentRedirect"), NO_REASON),
        (Refusal(301, "PermanentRedirect", ENDPOINT), "it names eu.s3.example.org: set AWS_ENDPOINT_URL"),
        (Refusal(301, "PermanentRedirect", "<Endpoint>bad\x1b[0m host</Endpoint>"), "S3"),
        (
            Refusal(
                301, "", headers={"Location": "https://s3.example.org/bucket?x=hidden"}, body=b"<html>moved</html>"
            ),
            "set AWS_ENDPOINT_URL=https://s3.example.org, where it points to",
        ),
        (Refusal(307, "TemporaryRedirect"), NO_REASON),
        (Refusal(308, "", body=b""), NO_REASON),
        (
            Refusal(400, "AuthorizationHeaderMalformed", "<Region>eu-north-3</Region>"),
            "the bucket is in the region eu-north-3: set AWS_DEFAULT_REGION=eu-north-3",
        ),
        (
            Refusal(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-north-3"}),
            "the bucket is in the region eu-north-3: set AWS_DEFAULT_REGION=eu-north-3",
        ),
    ],
    ids=lambda value: f"{value.status}-{value.code}" if isinstance(value, Refusal) else None,
)
def test_a_redirection_says_which_address_or_region_to_set(
    served: Callable[..., OddS3], refusal: Refusal, message: str
) -> None:
    server = served(lambda _: refusal)
    for attempt in (
        lambda: uri_digest(PLACE),
        lambda: open_store(f"s3://{BUCKET}/run"),
        lambda: open_store(f"s3://{BUCKET}/run", check=False).write("a", b""),
        lambda: find_inputs([PLACE]),
    ):
        with pytest.raises(InputError) as caught:
            attempt()
        assert message in str(caught.value)
        for hidden in ("hidden", "\n", "\x1b"):
            assert hidden not in str(caught.value)
    # Nobody asked the same thing again and again.
    assert len(server.asked) <= 16


def test_an_answer_of_another_server_is_reported(served: Callable[..., OddS3], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    page = {"Content-Type": "text/html; charset=utf-8"}
    served(lambda _: Refusal(200, "", headers=page, body=b"<html><body><br>a console</body></html>"))
    with pytest.raises(StorageError, match=r"web page.* check that AWS_ENDPOINT_URL names the S3 API") as caught:
        open_store(f"s3://{BUCKET}/run")
    assert "\n" not in str(caught.value)


def only_reads_one(asked: Asked) -> Refusal | None:
    """The policy of credentials that may get one object, and nothing else."""
    if asked.method in ("GET", "HEAD") and asked.path == f"/{BUCKET}/run/a.txt":
        return None
    return Refusal(403, "AccessDenied")


def test_who_may_read_one_object_reads_it(served: Callable[..., OddS3], tmp_path: Path) -> None:
    server = served(only_reads_one)
    assert uri_digest(PLACE) == DIGEST
    assert resolve(f"{PLACE}@sha256:{DIGEST}").read_bytes() == DATA
    (found,) = find_inputs([PLACE])
    assert found.size == len(DATA)
    store = open_store(f"s3://{BUCKET}/run", check=False)
    assert store.read("a.txt") == DATA
    assert store.part("a.txt", 2, 7) == b"caption"
    store.get("a.txt", tmp_path / "copy", DIGEST)
    assert (tmp_path / "copy").read_bytes() == DATA
    assert {(asked.method, asked.path, asked.query.partition("x-id")[0]) for asked in server.asked} <= {
        ("GET", f"/{BUCKET}/run/a.txt", ""),
        ("HEAD", f"/{BUCKET}/run/a.txt", ""),
    }


@pytest.mark.parametrize(
    ("attempt", "right"),
    [
        (lambda: uri_digest(f"s3://{BUCKET}/run/b.txt"), "may read it; without the right to list, a missing object"),
        (lambda: find_inputs([f"s3://{BUCKET}/run/b.txt"]), "may read it"),
        (lambda: uri_digest(f"s3://{BUCKET}/run/"), "may list there"),
        (lambda: open_store(f"s3://{BUCKET}/run"), "may list there"),
        (lambda: open_store(f"s3://{BUCKET}/run", check=False).write("a.txt", b""), "may write there"),
        (lambda: open_store(f"s3://{BUCKET}/run", check=False).delete(["a.txt"]), "may delete there"),
    ],
)
def test_a_refused_access_says_which_right_is_missing(
    served: Callable[..., OddS3], attempt: Callable[[], object], right: str
) -> None:
    served(only_reads_one)
    with pytest.raises(AccessError, match=right):
        attempt()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ExpiredToken", "session token has expired"),
        ("InvalidAccessKeyId", "key is not known"),
        ("NoSuchBucket", "bucket"),
    ],
)
def test_why_a_question_without_text_was_refused_is_asked_for(
    served: Callable[..., OddS3], code: str, message: str
) -> None:
    served(lambda _: Refusal(404 if code == "NoSuchBucket" else 403, code))
    with pytest.raises(InputError, match=message) as caught:
        open_store(f"s3://{BUCKET}/run", check=False).get("a.txt", Path("unused"))
    assert not isinstance(caught.value, ContentError)


def test_a_missing_object_is_distinguished_from_a_damaged_one(served: Callable[..., OddS3], tmp_path: Path) -> None:
    served()
    store = open_store(f"s3://{BUCKET}/run", check=False)
    with pytest.raises(MissingError, match=r"there is no s3://bucket/run/b\.txt"):
        store.get("b.txt", tmp_path / "copy")
    with pytest.raises(ContentError) as caught:
        store.get("a.txt", tmp_path / "copy", "0" * 64)
    assert not isinstance(caught.value, MissingError)
    assert list(tmp_path.glob("copy*")) == []
