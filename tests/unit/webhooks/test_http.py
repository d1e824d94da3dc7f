"""Connections of every odd kind to a really listening server: each one ends, and none keeps others out."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp

from sidlsg.registry.server.process import free_port
from sidlsg.webhooks import receiver as http
from sidlsg.webhooks.ledger import Ledger
from sidlsg.webhooks.receiver import PATH, Limits, Receiver, application, most_connections, signature_of, web_server
from sidlsg.webhooks.service import Readiness
from sidlsg.webhooks.telemetry import WebhookMetrics, log_libraries

SECRET = "a secret of the tests"
BODY = json.dumps({"entity": "model_version", "action": "created", "data": {"name": "m", "version": "1"}}).encode()
EXCHANGE_S, MOST = 1.5, 20
POST = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode()
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def port(tmp_path, monkeypatch) -> Iterator[int]:
    monkeypatch.setattr(http, "EXCHANGE_S", EXCHANGE_S)
    monkeypatch.setattr(http, "CONNECTIONS", MOST)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    log_libraries()
    metrics = WebhookMetrics()
    receiver = Receiver(
        Ledger(tmp_path / "ledger.db"), [SECRET], metrics, Limits(per_minute=1000, per_sender=3), lambda: None
    )
    with served(application(receiver, metrics, Readiness({}).missing)) as server:
        yield server.config.port


@contextmanager
def served(app: ASGIApp) -> Iterator[uvicorn.Server]:
    """A server in a thread."""
    server = web_server(app, "127.0.0.1", free_port())
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join()


def status(port: int, path: str = "/healthz", body: bytes | None = None, **headers: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    try:
        return int(urllib.request.urlopen(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        return error.code


def deliver(port: int, delivery: str, **more: str) -> int:
    stamp = str(int(time.time()))
    headers = {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": stamp}
    headers["X-MLflow-Signature"] = signature_of(SECRET, delivery, stamp, BODY)
    return status(port, PATH, BODY, **headers, **more)


def opened(port: int, first: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(first)
    return connection


def ends(connection: socket.socket) -> bool:
    """Whether the server closes it in time; what it answers before that does not matter."""
    until = time.monotonic() + 3 * EXCHANGE_S
    with suppress(ConnectionError):
        while time.monotonic() < until:
            if not connection.recv(1 << 20):
                return True
        return False
    return True


@pytest.mark.parametrize("first", [b"", b"GET /healthz HT", POST + b"Content-Length: 99\r\n\r\n{"])
def test_more_connections_than_the_limit_that_send_nothing_or_a_part_keep_nobody_out(port, first):
    with ExitStack() as stack:
        idle = [stack.enter_context(opened(port, first)) for _ in range(4 * MOST)]
        assert status(port) == 200
        assert status(port, "/metrics") == 200
        assert deliver(port, "d1") == 202
        assert all(ends(connection) for connection in idle)


def drip(connection: socket.socket, byte: bytes) -> None:
    """Send a byte now and then until the server closes."""
    until = time.monotonic() + 3 * EXCHANGE_S
    with suppress(ConnectionError):
        while time.monotonic() < until:
            connection.sendall(byte)
            time.sleep(EXCHANGE_S / 20)
        pytest.fail("the server waits for ever")


@pytest.mark.parametrize(
    ("first", "byte"),
    [(b"", b"G"), (POST, b"a"), (POST + b"Content-Length: 9999\r\n\r\n", b" "), (GET, b"G")],
    ids=["request line", "headers", "body", "second request"],
)
def test_a_request_that_arrives_slowly_ends_at_the_deadline(port, first, byte):
    with opened(port, first) as connection:
        drip(connection, byte)
    assert status(port) == 200


def test_whoever_reads_no_answer_is_closed(monkeypatch):
    monkeypatch.setattr(http, "EXCHANGE_S", EXCHANGE_S)
    # More than the system keeps for a receiver that reads nothing.
    with served(Response(b" " * (32 << 20))) as server, opened(server.config.port, GET):
        connections = server.server_state.connections
        for waited_for in (lambda: connections, lambda: not connections):
            until = time.monotonic() + 30
            while not waited_for():
                assert time.monotonic() < until
                time.sleep(0.01)


def hello(port: int) -> None:
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLError), opened(port) as connection:
        context.wrap_socket(connection, server_hostname="localhost")


def huge(port: int) -> None:
    with opened(port) as connection:
        with suppress(ConnectionError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"a" * (1 << 20))
        assert ends(connection)


def half_closed(port: int) -> None:
    for first in (b"", POST, POST + b"Content-Length: 99\r\n\r\n{"):
        with opened(port, first) as connection:
            connection.shutdown(socket.SHUT_WR)
            assert ends(connection)


def aborted(port: int) -> None:
    for _ in range(20):
        connection = opened(port, POST + b"Content-Length: 99\r\n\r\n{")
        time.sleep(0.02)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def upgraded(port: int) -> None:
    with opened(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n") as one:
        assert ends(one)


@pytest.mark.parametrize("odd", [hello, huge, half_closed, aborted, upgraded])
def test_an_odd_sender_ends_alone_and_the_log_stays_json(port, odd: Callable[[int], None], capfd):
    odd(port)
    assert status(port) == 200
    assert deliver(port, "d1") == 202
    captured = capfd.readouterr()
    assert captured.err == ""
    assert all(set(json.loads(line)) >= {"time", "event"} for line in captured.out.splitlines())
    assert "Traceback" not in captured.out


def test_a_sender_cannot_name_itself(port):
    answers = [
        deliver(port, f"d{i}", **{"X-Forwarded-For": f"10.0.0.{i}", "Forwarded": f"for=10.0.0.{i}"}) for i in range(5)
    ]
    assert answers == [202, 202, 202, 429, 429]


def test_where_few_files_may_be_opened_there_are_fewer_connections(monkeypatch):
    for files, most in ((64, 32), (1 << 20, http.CONNECTIONS), (http.resource.RLIM_INFINITY, http.CONNECTIONS)):
        monkeypatch.setattr(http.resource, "getrlimit", lambda _, files=files: (files, files))
        assert most_connections() == most
