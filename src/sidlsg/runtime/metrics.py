"""Training metrics for Prometheus: served on a port, pushed to a Pushgateway, or both; off by default."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidlsg.runtime.errors import InputError, first_line
from sidlsg.runtime.parsing import http_address

if TYPE_CHECKING:  # an extra brings it
    from prometheus_client import CollectorRegistry

PORT_VARIABLE = "SIDLSG_METRICS_PORT"
PUSH_VARIABLE = "SIDLSG_PUSHGATEWAY"
JOB = "sidlsg-training"
"""The job's name on a Pushgateway."""
EVERY = 15.0
"""Seconds between two pushes."""
PATIENCE = 10.0
"""Timeout of a push in seconds."""
MISSING = "prometheus-client is not installed, which {} needs; pip install 'sidlsg[metrics]', or unset it"


@dataclass(frozen=True, kw_only=True)
class Destinations:
    """The port to serve metrics on, at every address, and the URL of a Pushgateway."""

    port: int | None = None
    gateway: str = ""


def destinations(environ: Mapping[str, str] = os.environ) -> Destinations:
    """Read the environment; raises InputError for a bad value, or where prometheus-client is missing."""
    port, gateway = environ.get(PORT_VARIABLE, "").strip(), environ.get(PUSH_VARIABLE, "").strip()
    if not port and not gateway:
        return Destinations()
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 2**16):
        raise InputError(
            f"{PORT_VARIABLE} is {port!r}, not a port; give a whole number from 1 to 65535, such as 9464, or unset it"
        )
    if gateway:
        _check(gateway)
    try:
        import prometheus_client  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(MISSING.format(PORT_VARIABLE if port else PUSH_VARIABLE)) from error
    return Destinations(port=int(port) if port else None, gateway=gateway.rstrip("/"))


@contextlib.contextmanager
def served(registry: CollectorRegistry, port: int | None) -> Iterator[None]:
    """Serve a registry during the block; raises InputError where the port is not free."""
    if port is None:
        yield
        return
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr="0.0.0.0", registry=registry)
    except OSError as error:
        raise InputError(
            f"{PORT_VARIABLE} is {port}, which cannot be listened on: {error.strerror}; give a free port, or unset it"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Pusher:
    """Pushes a registry from a thread; failures are reported once and stop nothing."""

    def __init__(
        self,
        registry: CollectorRegistry,
        gateway: str,
        group: Mapping[str, str],
        report: Callable[[str], None],
        every: float = EVERY,
    ) -> None:
        """Args:
        registry: whose current values are pushed.
        gateway: URL of the Pushgateway.
        group: labels of the series that a push replaces.
        report: receives a line when pushes begin to fail, and when they work again.
        every: seconds between two pushes.
        """
        self._registry, self._gateway, self._group = registry, gateway, dict(group)
        self._report, self._every = report, every
        self._fails = False
        self._closing = threading.Event()
        # A daemon, so that a gateway that never answers does not block the process's end.
        self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Push a last time, and stop."""
        self._closing.set()
        self._thread.join(2 * PATIENCE)

    def _work(self) -> None:
        ended = False
        while not ended:
            ended = self._closing.is_set()
            self._push()
            if not ended:
                self._closing.wait(self._every)

    def _push(self) -> None:
        from prometheus_client import push_to_gateway

        try:
            push_to_gateway(self._gateway, JOB, self._registry, self._group, timeout=PATIENCE)
        except Exception as error:  # no failure to push metrics may stop the training
            if not self._fails:
                reason = first_line(error)
                self._report(
                    f"the Pushgateway at {self._gateway} takes no metrics now ({reason}); training continues, and so "
                    "do the pushes"
                )
            self._fails = True
            return
        if self._fails:
            self._report("the Pushgateway takes metrics again")
        self._fails = False


def _check(gateway: str) -> None:
    parts = http_address(gateway)
    if parts is None or parts.query or parts.fragment:
        # The value may hold a password, so it is not shown.
        raise InputError(
            f"{PUSH_VARIABLE} is not an address of a Pushgateway; give one such as http://pushgateway:9091, or unset it"
        )
    if "@" in parts.netloc:
        raise InputError(f"{PUSH_VARIABLE} holds a user or a password, which logs would show; give an address alone")
