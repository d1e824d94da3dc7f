"""A webhook of the tests: it keeps what it receives and answers with the codes that it is given."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """`with Receiver(503) as webhook:` answers the first request with 503 and all further ones with 200."""

    def __init__(self, *codes: int) -> None:
        self.received: list[dict[str, Any]] = []
        """The bodies of all requests, whatever was answered."""
        self.keys: list[str] = []
        left = list(codes)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.received.append(json.loads(body))
                self.keys.append(handler.headers["Idempotency-Key"])
                code = left.pop(0) if left else 200
                handler.send_response(code)
                if code == 302:
                    handler.send_header("Location", self.url)
                handler.send_header("Content-Length", "0")
                handler.end_headers()

            def log_message(handler, *_: Any) -> None:  # noqa: N805
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/secret-path"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
