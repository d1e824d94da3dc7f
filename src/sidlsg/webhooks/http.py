"""The web server: how long a connection has for a request, and how many connections there may be."""

from __future__ import annotations

import asyncio
import resource

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

EXCHANGE_S = 20.0
"""Seconds that a connection has for a request: from its start, or from the answer before, to the end of the answer."""
CONNECTIONS = 256
"""Most connections at once; where the process may open few files, half of those."""
BACKLOG = 64
"""Most connections that are accepted at once."""


def web_server(app: ASGIApp, address: str, port: int) -> uvicorn.Server:
    """A server of an application that idle, slow and odd senders do not keep from others."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=address,
            port=port,
            http=TimedProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a sender names itself otherwise
            backlog=BACKLOG,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=10,
        )
    )


class TimedProtocol(H11Protocol):
    """uvicorn's protocol with a deadline for each request, and a limit of connections.

    Beyond the limit, the connection whose sender has been waited for the longest is closed for a new one: idle or slow
    senders never keep others out.
    """

    _timer: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the first request's time, and make room."""
        super().connection_made(transport)
        self._start_time()
        open_ = [one for one in self.connections if isinstance(one, TimedProtocol) and not one.transport.is_closing()]
        if len(open_) > most_connections():
            waiting = [one for one in open_ if one._waits_for_sender]
            # The others' answers are being made, which ends by itself.
            if waiting:
                min(waiting, key=lambda one: one._since).transport.abort()

    def on_response_complete(self) -> None:
        """Start the next request's time."""
        super().on_response_complete()
        self._start_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def _start_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._since = self.loop.time()
        # Not `close`, which would wait for a receiver that reads nothing.
        self._timer = self.loop.call_later(EXCHANGE_S, self.transport.abort)

    @property
    def _waits_for_sender(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body


def most_connections() -> int:
    """The limit of connections in this process."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files == resource.RLIM_INFINITY else min(CONNECTIONS, files // 2)
