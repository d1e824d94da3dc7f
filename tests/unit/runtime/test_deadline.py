"""Deadlines: each client's requests end in time, at whatever point of an answer the server begins to drip."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
import requests
from botocore.config import Config

from services.dripping import Dripping
from sidlsg.runtime.deadline import deadline
from sidlsg.runtime.errors import StorageError

SOON_S = 0.4
BEGINNINGS = {
    "status": "",
    "headers": "HTTP/1.1 200 OK\r\n",
    "body": "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n",
    "body without a length": "HTTP/1.1 200 OK\r\n\r\n",
    "nothing": None,
}
CLIENTS: dict[str, Callable[[str], object]] = {
    "urllib": lambda address: urllib.request.urlopen(address).read(),
    "requests": requests.get,
    "boto3": lambda address: (
        boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=Config(s3={"addressing_style": "path"}),
        )
        .get_object(Bucket="bucket", Key="key")["Body"]
        .read()
    ),
}


@pytest.fixture(params=BEGINNINGS.values(), ids=BEGINNINGS.keys())
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a server whose answers begin so, and then drip."""
    with Dripping(request.param) as server:
        yield server.address


@pytest.mark.parametrize("get", CLIENTS.values(), ids=CLIENTS.keys())
def test_a_request_ends_in_time_whatever_its_client(address: str, get: Callable[[str], object]) -> None:
    began = time.monotonic()
    with (
        pytest.raises(StorageError, match=r"the server did not answer in full within 0\.4 s; look at"),
        deadline(SOON_S, "the server"),
    ):
        get(address)
    # botocore repeats what broke off; each further attempt ends at once.
    assert time.monotonic() - began < 10


def test_requests_of_a_clients_own_threads_end_in_time() -> None:
    with (
        Dripping(BEGINNINGS["body"]) as server,
        ThreadPoolExecutor(1) as threads,
        pytest.raises(StorageError, match="did not answer in full"),
        deadline(SOON_S, "it", all_threads=True),
    ):
        threads.submit(requests.get, server.address).result()


def test_requests_of_other_threads_are_left_alone() -> None:
    with Dripping(BEGINNINGS["body"]) as server:
        other = threading.Thread(target=silently, args=(server.address,), daemon=True)
        with suppress(StorageError), deadline(SOON_S, "it"):
            other.start()
            time.sleep(2 * SOON_S)
        assert other.is_alive()


@pytest.mark.parametrize(("outer", "inner", "named"), [(SOON_S, 60, "the outer one"), (60, SOON_S, "the inner one")])
def test_the_earlier_of_two_deadlines_ends_the_block(outer: float, inner: float, named: str) -> None:
    with (
        Dripping(BEGINNINGS["body"]) as server,
        pytest.raises(StorageError, match=named),
        deadline(outer, "the outer one"),
        deadline(inner, "the inner one"),
    ):
        requests.get(server.address)


def silently(address: str) -> None:
    with suppress(requests.RequestException):
        requests.get(address)


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None: ...


def test_what_answers_in_time_is_not_touched_and_its_connection_serves_on() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server, requests.Session() as session:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        used: set[int] = set()
        for _ in range(3):
            with deadline(SOON_S, "it"):
                assert session.get(f"http://127.0.0.1:{server.server_port}").text == "ok"
            (pool,) = session.adapters["http://"].poolmanager.pools._container.values()
            used.add(id(pool.pool.queue[-1].sock))
        time.sleep(1.5 * SOON_S)
        with deadline(SOON_S, "it"):
            assert session.get(f"http://127.0.0.1:{server.server_port}").text == "ok"
        server.shutdown()
    assert len(used) == 1


def test_an_error_that_came_in_time_stays_what_it_is() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(requests.ConnectionError), deadline(60, "it"):
            requests.get(f"http://127.0.0.1:{taken.getsockname()[1]}")
