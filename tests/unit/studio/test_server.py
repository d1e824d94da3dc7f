"""Who may see the page, and which requests its server answers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from sidlsg.runtime.errors import InputError
from sidlsg.studio.server import LOCAL, VARIABLE, Guard, access_tokens, listening, page_url

TOKEN = "0123456789abcdef"
HOME = "http://localhost:7860"


def answer(_: Request) -> Response:
    return PlainTextResponse("page")


def client(*tokens: str, base_url: str = HOME) -> TestClient:
    page = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    return TestClient(Guard(page, tokens), base_url=base_url)


def test_another_address_needs_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for address in (LOCAL, "::1", "localhost"):
        assert access_tokens(address, None) == []
    with pytest.raises(InputError, match=f"no token for the studio on 0.0.0.0.*--secret-file, or set {VARIABLE}"):
        access_tokens("0.0.0.0", None)
    file = tmp_path / "tokens"
    file.write_text(f"{TOKEN}\n{TOKEN}2\n")
    assert access_tokens("0.0.0.0", file) == access_tokens(LOCAL, file) == [TOKEN, f"{TOKEN}2"]
    monkeypatch.setenv(VARIABLE, "short")
    for address in (LOCAL, "0.0.0.0"):
        with pytest.raises(InputError, match="fewer than 16 characters"):
            access_tokens(address, None)


def test_a_token_opens_the_page_at_any_name_of_the_host() -> None:
    guarded = client("f" * 16, TOKEN, base_url="http://studio.example:7860")
    for auth in (None, ("ada", ""), ("ada", "wrong"), (TOKEN, "")):
        refused = guarded.get("/", auth=auth)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
    for header in (b"Basic", b"Basic ?", b"Basic \xe9", b"Bearer " + TOKEN.encode()):
        assert guarded.get("/", headers={"Authorization": header}).status_code == 401
    assert guarded.get("/", auth=("ada", TOKEN)).text == "page"
    assert guarded.get("/gradio_api/queue/data", auth=("", TOKEN)).text == "page"


def test_without_a_token_other_names_are_refused() -> None:
    assert client().get("/").text == "page"
    assert client(base_url="http://127.0.0.1:7860").get("/").text == "page"
    assert client(base_url="http://localhost").get("/").text == "page"  # port 80
    for host in ("[::1]:7860", "[::1]"):
        assert client().get("/", headers={"Host": host}).text == "page"
    # A site may let its own name point here.
    for host in ("evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example:80", "[::1]evil:80", ""):
        assert client().get("/", headers={"Host": host}).status_code == 400


def test_other_sites_may_not_read_answers() -> None:
    own = "http://studio.example:7860"
    guarded = client(TOKEN, base_url=own)
    assert guarded.get("/config", auth=("ada", TOKEN), headers={"Origin": own}).text == "page"
    for origin in ("http://evil.example", "null", "http://[", "http://studio.example:80"):
        assert guarded.get("/config", auth=("ada", TOKEN), headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/proxy=http://example.com/",
        "/gradio_api/call/student",
        "/gradio_api/run/predict",
        "/gradio_api/component_server",
        "/gradio_api/vibe-code",
        "/monitoring",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/login",
    ],
)
def test_what_the_page_does_not_need_is_not_served(path: str) -> None:
    assert client().get(path).status_code == 404
    assert client().post(path).status_code == 404


def test_a_browser_is_kept_from_other_hosts() -> None:
    policy = client().get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy


def test_a_used_port_is_named() -> None:
    with listening(LOCAL, 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of {LOCAL} cannot be listened on.*another --port"):
            listening(LOCAL, port)


@pytest.mark.parametrize(
    ("address", "host"),
    [(LOCAL, LOCAL), ("::1", "[::1]"), ("0.0.0.0", socket.gethostname()), ("::", socket.gethostname())],
)
def test_the_printed_address_opens_in_a_browser(address: str, host: str) -> None:
    assert page_url(address, 7860) == f"http://{host}:7860"
