"""The page's server: who may see it, which requests it answers, and where a browser may send any."""

from __future__ import annotations

import base64
import hmac
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sidlsg.runtime.errors import InputError
from sidlsg.runtime.secrets import read_secrets

# Read when Gradio is imported: it would report to its authors, and ask for newer versions.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

VARIABLE = "SIDLSG_STUDIO_TOKEN"
"""The environment variable with the token."""
_PAGE = re.compile(
    r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/[\w./@+-]+"
    r"|/gradio_api/(startup-events|info|queue/(join|data)|heartbeat/\w+|cancel|reset)"
)
"""Paths that the page needs; files, uploads, proxies and the other parts of Gradio are not served."""
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval'; img-src 'self' data:; font-src 'self' data:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""Keeps the browser from any request to another host."""
LOCAL = "127.0.0.1"
_ONLY_HERE = ("localhost", LOCAL, "::1")
"""Addresses that no other machine reaches."""
_NAMES_HERE = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
"""How a browser on this machine names them, with a port."""
_EVERY = ("0.0.0.0", "::")
_SIGN_IN = {"WWW-Authenticate": 'Basic realm="sidlsg studio: any name, and the token as password", charset="UTF-8"'}


def access_tokens(address: str, file: Path | None) -> list[str]:
    """The tokens that open the page; none on this machine's own address, unless there is a file or a variable.

    Raises:
        InputError: there is none, and other machines reach the address; or `read_secrets` raises it.
    """
    if file is None and VARIABLE not in os.environ and address in _ONLY_HERE:
        return []
    return read_secrets(file, VARIABLE, f"token for the studio on {address}")


class Guard:
    """ASGI middleware in front of the page."""

    def __init__(self, app: ASGIApp, tokens: Sequence[str]) -> None:
        """Args:
        app: the page.
        tokens: any of them opens the page; without any, it answers requests to this machine's own names alone, so
            that no other site reaches it by a name that it points to this machine.
        """
        self._app, self._tokens = app, [token.encode() for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._tokens and not self._opens(headers.get("authorization", "")):
            await PlainTextResponse("the token is missing or wrong", 401, _SIGN_IN)(scope, receive, send)
        elif not self._tokens and not _NAMES_HERE.fullmatch(headers.get("host", "")):
            await PlainTextResponse("unknown host; open the address that the studio printed", 400)(scope, receive, send)
        elif (origin := headers.get("origin")) and origin.partition("://")[2] != headers.get("host"):
            # Gradio lets every site read what a signed-in browser is answered.
            await PlainTextResponse("requests of other sites are refused", 403)(scope, receive, send)
        elif not _PAGE.fullmatch(scope["path"]) or ".." in scope["path"]:
            await PlainTextResponse("not found", 404)(scope, receive, send)
        else:
            await self._app(scope, receive, _with_policy(send))

    def _opens(self, authorization: str) -> bool:
        """Whether a request has one of the tokens as its password."""
        kind, _, text = authorization.partition(" ")
        try:
            given = base64.b64decode(text, validate=True).partition(b":")[2] if kind.lower() == "basic" else b""
        except ValueError:
            return False
        # All are compared, so that the time does not depend on which token it is.
        return sum(hmac.compare_digest(token, given) for token in self._tokens) > 0


def _with_policy(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = _POLICY
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
        await send(message)

    return sending


def page_url(address: str, port: int) -> str:
    """What a browser opens; of all addresses, the one by this machine's name."""
    host = socket.gethostname() if address in _EVERY else f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}"


def listening(address: str, port: int) -> socket.socket:
    """A socket that listens; raises InputError where the address or the port cannot be used."""
    try:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        raise InputError(
            f"port {port} of {address} cannot be listened on ({error.strerror or error}); give another --port, or an "
            "address of this machine"
        ) from error


def application(blocks: Any, tokens: Sequence[str], **look: Any) -> ASGIApp:
    """The web application of a page; `look` has its theme and CSS."""
    import gradio
    from fastapi import FastAPI

    mounted = gradio.mount_gradio_app(
        FastAPI(openapi_url=None, docs_url=None, redoc_url=None),
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=0,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        **look,
    )
    return Guard(mounted, tokens)


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until the process is asked to stop."""
    config = uvicorn.Config(
        app, ws="none", access_log=False, server_header=False, log_level="warning", timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listener])
