"""The champion served by MLflow's own server, asked as docs/serve.md says, and drawn without a server."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from sidlsg.cli.app import app
from sidlsg.registry.registration import register
from sidlsg.registry.server.process import free_port
from sidlsg.registry.server.stack import Stack

PROMPT = "a small red circle on a blue background"
PAGE = Path(__file__).parents[2] / "docs" / "serve.md"
URI = "models:/served@champion"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def surroundings(servers: Stack, tiny_student: Path) -> dict[str, str]:
    """A champion in the registry, and what a process needs to find it."""
    version = register(tiny_student, servers.mlflow.address, "served")
    MlflowClient(servers.mlflow.address).set_registered_model_alias("served", "champion", str(version.version))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | {"MLFLOW_TRACKING_URI": servers.mlflow.address, "PATH": path}


@pytest.fixture(scope="module")
def port(surroundings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a scoring server that answers."""
    number = free_port()
    log = tmp_path_factory.mktemp("serving") / "log"
    words = ["mlflow", "models", "serve", "-m", URI, "--env-manager", "local", "--port", str(number)]
    with log.open("w") as said:
        server = subprocess.Popen(
            [*words, "--host", "127.0.0.1"],
            env=surroundings | {"SERVING_MODEL_CONFIG": '{"max_images": 5}'},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while not answers(number):
            assert server.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
            time.sleep(0.3)
        yield number
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def generated(student: Path, folder: Path) -> bytes:
    """The picture of seed 7, as `sidlsg generate` writes it."""
    done = CliRunner().invoke(app, ["generate", str(student), PROMPT, "--seed", "7", "--output", str(folder)])
    assert done.exit_code == 0, done.output
    return (folder / "000007.png").read_bytes()


def test_the_pages_curl_gets_the_picture_of_sidlsg_generate(port: int, tiny_student: Path, tmp_path: Path) -> None:
    (command,) = re.findall(r"^```bash\n(curl .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        ["bash", "-ec", command.replace(":5001", f":{port}")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "picture.png").read_bytes() == generated(tiny_student, tmp_path / "pictures")


@pytest.mark.parametrize(
    "asked",
    [
        {"inputs": [PROMPT], "params": {"count": 6}},
        {"inputs": [PROMPT], "params": {"seed": -1}},
        {"inputs": [PROMPT], "params": {"format": "gif"}},
        {"inputs": ["a" * 2**20]},
        {"inputs": []},
    ],
    ids=["count", "seed", "format", "long", "none"],
)
def test_bad_requests_are_answered_400(port: int, asked: dict[str, object]) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    said = caught.value.read().decode()
    assert caught.value.code == 400, said
    if "count" in asked.get("params", {}):  # type: ignore[operator]
        assert "at most 5 (max_images)" in said


def test_a_batch_needs_no_server(surroundings: dict[str, str], tiny_student: Path, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(json.dumps({"inputs": [PROMPT, "a large white ring"], "params": {"seed": 7}}))
    words = ["mlflow", "models", "predict", "-m", URI, "--env-manager", "local", "-i", "in.json", "-o", "out.json"]
    done = subprocess.run(words, env=surroundings, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    drawn = json.loads((tmp_path / "out.json").read_text())["predictions"]
    assert base64.b64decode(drawn[0][0]) == generated(tiny_student, tmp_path / "pictures")
    assert len(drawn) == 2
