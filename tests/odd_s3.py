"""An S3 server of the loopback address with the habits of services that are not AWS, and a list of what was asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

BUCKET = "bucket"


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    host: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Refusal:
    """An answer instead of the object."""

    status: int
    code: str
    more: str = ""
    """XML in the error's text."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """In place of the error's text."""


@dataclass
class OddS3:
    """A running server."""

    port: int
    objects: dict[str, bytes]
    refuse: Callable[[Asked], Refusal | None]
    asked: list[Asked] = field(default_factory=list)

    def object_of(self, asked: Asked) -> bytes | None:
        """The object at a path, with or without the bucket in front: in a host's name, it is there already."""
        key = unquote(asked.path).lstrip("/")
        return self.objects.get(key if asked.host.startswith(f"{BUCKET}.") else key.removeprefix(f"{BUCKET}/"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_: OddS3

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        host = self.headers["Host"].partition(":")[0]
        asked = Asked(self.command, host, url.path, url.query, dict(self.headers.items()))
        self.server_.asked.append(asked)
        refusal, found = self.server_.refuse(asked), self.server_.object_of(asked)
        if refusal is None and found is None:
            refusal = Refusal(404, "NoSuchKey")
        if refusal is not None:
            text = f"<Error><Code>{refusal.code}</Code><Message>hidden</Message>{refusal.more}</Error>".encode()
            self._answer(refusal.status, text if refusal.body is None else refusal.body, refusal.headers)
        elif found is not None:
            first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            part = found[int(first or 0) : int(last or len(found)) + 1]
            more = {"Content-Range": f"bytes {first}-{last}/{len(found)}"} if first else {}
            digest = hashlib.md5(found, usedforsecurity=False).hexdigest()
            self._answer(206 if first else 200, part, {"ETag": f'"{digest}"', **more})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 - the library's names


@contextmanager
def odd_s3(objects: dict[str, bytes], refuse: Callable[[Asked], Refusal | None]) -> Iterator[OddS3]:
    """Serve objects of one bucket; `refuse` says to which requests the answer is another."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        odd = OddS3(server.server_port, objects, refuse)
        handler.server_ = odd
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield odd
        finally:
            server.shutdown()
            thread.join()
