"""A proxy before a server of this machine that, now and then, does to a request what bad networks do."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

STALL_S = 3.0
"""Longer than its clients wait."""
KINDS = ("reset", "lost answer", "stall", "500", "truncated")


class FaultyProxy:
    """Forwards requests; to a share of them something happens first.

    `reset` before the server sees the request, `lost answer` after it was carried out, `stall` one or the other with
    silence instead, `500` instead of the server, `truncated` in the middle of the answer's body.
    """

    def __init__(self, server: str, share: float, seed: int) -> None:
        self.server, self.share = urlsplit(server), share
        self.faults: Counter[str] = Counter()
        self._chance, self._lock = random.Random(seed), threading.Lock()
        self._proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._proxy.daemon_threads = True
        threading.Thread(target=self._proxy.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._proxy.server_port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()

    def fault(self) -> str:
        """What happens to the next request; empty for nothing."""
        with self._lock:
            kind = self._chance.choice(KINDS) if self._chance.random() < self.share else ""
            if kind:
                self.faults[kind] += 1
            return kind

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(_Handler):
            fault = staticmethod(proxy.fault)
            server_address = (proxy.server.hostname or "", proxy.server.port or 80)

        return Handler


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request a connection, so that each has the same chance."""

    fault: Callable[[], str]
    server_address: tuple[str, int]

    def log_message(self, *_: Any) -> None: ...

    def handle_request(self) -> None:
        self.close_connection = True
        body = self._body()
        kind = self.fault()
        if kind == "stall":
            # By the clock's last digit, so that both happen.
            if time.monotonic_ns() % 2:
                self._forward(body)
            time.sleep(STALL_S)
        if kind in ("reset", "stall"):
            self._reset()
        elif kind == "500":
            self._answer(500, [("Content-Type", "application/json")], b'{"error_code": "INTERNAL_ERROR"}')
        else:
            status, headers, data = self._forward(body)
            if kind == "lost answer" or (kind == "truncated" and len(data) < 2):
                self._reset()
            elif kind == "truncated":
                self._answer(status, headers, data[: len(data) // 2], len(data))
                self._reset()
            else:
                self._answer(status, headers, data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.handle_request
        raise AttributeError(name)

    def _body(self) -> bytes:
        if self.headers.get("expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.server_address, timeout=60)
        try:
            # The host is a part of what S3's signatures are of.
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "expect"):
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
            # To HEAD the length is an answer.
            own = _HOP_BY_HOP - ({"content-length"} if self.command == "HEAD" else set())
            return answer.status, [(n, v) for n, v in answer.getheaders() if n.lower() not in own], data
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(data) if length is None else length))
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # the client waited no longer
            self.wfile.write(data)

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


_HOP_BY_HOP = {"transfer-encoding", "content-length", "connection", "keep-alive", "date", "server"}
