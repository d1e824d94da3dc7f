"""What a Pushgateway is to whoever pushes: it takes groups by address, and may be away."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Gateway:
    """`with Gateway() as gateway:` keeps what is pushed, by path; `away` makes it answer 503."""

    def __init__(self) -> None:
        self.away = False
        self.groups: dict[str, str] = {}
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                outer.asked += 1
                if not outer.away:
                    outer.groups[self.path] = body
                self.send_response(503 if outer.away else 200)
                self.send_header("content-length", "0")
                self.end_headers()

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Gateway:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
