"""What the smoke evaluation says of a server's answers, over real HTTP; a real predictor is asked in tests/services."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sidlsg.runtime.errors import StorageError
from sidlsg.serving.smoke import COUNT, PROMPTS, smoke

Answers = dict[str, tuple[int, Any]]


def png(value: int, side: int = 8) -> str:
    """An image of one grey."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def answers(images: list[list[str | None]]) -> Answers:
    """Of a server that answers these images by both protocols, and whose reference is grey 100."""
    flat = [image or "" for each in images for image in each]
    return {
        "/v2/models/m": (200, {"versions": ["d"]}),
        "/v1/models/m:predict": (200, {"predictions": images}),
        "/v2/models/m/infer": (200, {"outputs": [{"name": "image", "data": flat}]}),
        "/smoke/m": (200, {"predictions": [[png(100)] * COUNT for _ in PROMPTS]}),
    }


def grey(value: int, side: int = 8) -> list[list[str | None]]:
    return [[png(value, side) for _ in range(COUNT)] for _ in PROMPTS]


@pytest.fixture
def server() -> Iterator[tuple[str, Answers]]:
    """A server's address, and what it answers, to be changed."""
    given: Answers = answers(grey(100))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = given[self.path]
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}", given
        found.shutdown()
        thread.join()


def test_the_same_bytes_and_what_other_arithmetic_makes_of_them_are_good(server: tuple[str, Answers]) -> None:
    url, given = server
    assert smoke(url, "m", "d") == ""
    given.update(answers(grey(102)))
    assert smoke(url, "m", "d") == ""


def change(path: str, status: int, content: Any) -> Callable[[Answers], None]:
    return lambda given: given.update({path: (status, content)})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change("/v2/models/m", 200, {"versions": ["e"]}), "it serves ['e'], not the copy with digest d"),
        (change("/v2/models/m/infer", 200, {"outputs": [{"data": []}]}), "protocols v1 and v2 differ"),
        (change("/v2/models/m/infer", 200, {"outputs": []}), "not of KServe's protocols (IndexError"),
        (change("/v1/models/m:predict", 200, {"instances": []}), "not of KServe's protocols (KeyError"),
        (change("/v1/models/m:predict", 200, []), "answers no JSON object"),
        (change("/v1/models/m:predict", 500, {"error": "out of memory"}), 'answers 500: {"error": "out of memory"}'),
        (change("/smoke/m", 404, {"detail": "no"}), "/smoke/m answers 404"),
        (lambda given: given.update(answers(grey(103))), "differs from `sidlsg generate` by 3.0 of 255; allowed: 2"),
        (lambda given: given.update(answers(grey(100, side=16))), "has shape (16, 16, 3), not (8, 8, 3)"),
        (lambda given: given.update(answers([[None] * COUNT for _ in PROMPTS])), "is flagged by the safety checker"),
        (lambda given: given.update(answers([[png(100)] for _ in PROMPTS])), "it answers [1, 1] images, not [2, 2]"),
    ],
)
def test_a_server_that_must_not_serve_is_named(
    server: tuple[str, Answers], spoil: Callable[[Answers], None], said: str
) -> None:
    url, given = server
    spoil(given)
    assert said in smoke(url, "m", "d")


def test_a_server_that_does_not_answer_yet_is_worth_another_try(server: tuple[str, Answers]) -> None:
    url, given = server
    for status, content in ((503, b"queue is full"), (200, b"<html>")):
        given["/v1/models/m:predict"] = (status, content)
        with pytest.raises(StorageError, match="models/m:predict"):
            smoke(url, "m", "d")
    with pytest.raises(StorageError, match="does not answer"):
        smoke("http://127.0.0.1:9", "m", "d")
