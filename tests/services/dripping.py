"""Servers that take every connection, and then hang: always, after the beginning of an answer, or while asked to."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PAUSE_S = 0.05


class Dripping:
    """`with Dripping(begins) as server:` serves on `server.address`.

    Args:
        begins: how each answer begins; after it come spaces, slowly and for ever. None for a server that hangs.
    """

    def __init__(self, begins: str | None) -> None:
        self.begins, self._over = begins, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        # Closing alone would not wake who accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            if self.begins is None:
                self._over.wait()
                return
            connection.sendall(self.begins.encode())
            while not self._over.wait(PAUSE_S):
                connection.sendall(b" ")


class Gate(Dripping):
    """Forwards connections to a server of this machine; while `hangs` is set, whatever is sent vanishes."""

    def __init__(self, server: str) -> None:
        super().__init__(None)
        parts = urlsplit(server)
        self._server = (parts.hostname or "", parts.port or 80)
        self.hangs = threading.Event()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError), socket.create_connection(self._server) as server:
            threading.Thread(target=self._forward, args=(server, connection), daemon=True).start()
            self._forward(connection, server)

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self.hangs.is_set():
                    # For good: who waits now shall not be answered late.
                    self._over.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
