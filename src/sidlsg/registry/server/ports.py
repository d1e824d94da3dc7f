"""Ports of this machine that are free to listen on."""

from __future__ import annotations

import secrets
import socket

HOST = "127.0.0.1"
"""The loopback address: nothing outside this machine reaches the servers."""
# Below the range from which the system takes ports for outgoing connections.
_RANGE = range(10_000, 22_000)


def free_port(*, above: int = 0) -> int:
    """A port that is free now, and so is the one `above` higher where that is given.

    Another process may take it before a server does; the server then ends at once, and another one is tried.
    """
    while True:
        port = secrets.choice(_RANGE)
        if is_free(port) and (not above or is_free(port + above)):
            return port


def is_free(port: int) -> bool:
    """Whether a server can listen there now."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier one that linger are not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
