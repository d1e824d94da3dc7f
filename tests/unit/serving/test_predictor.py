"""The predictor over real HTTP: KServe's two protocols, its metrics, and what it refuses."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner

from copied import copied
from sidlsg.cli.app import app
from sidlsg.registry.server.process import free_port
from sidlsg.runtime.errors import InputError
from sidlsg.serving.predictor import Predictor, application
from sidlsg.serving.smoke import COUNT, PROMPTS, SEED

RED, BLUE = "a small red circle on a blue background", "a large blue ring on a red background"
Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def folder(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tiny_student, tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor(folder, "tiny", {"max_images": 5})


@pytest.fixture(scope="module")
def url(predictor: Predictor) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application(predictor), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture
def ask(url: str) -> Ask:
    def ask(path: str, body: object = None) -> tuple[int, Any]:
        """The status and the content of an answer; bytes are sent as they are."""
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{url}{path}", sent), timeout=600) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith("{") else text

    return ask


def generated(student: Path, folder: Path, prompt: str, seed: int, count: int) -> list[str]:
    """The files that `sidlsg generate` writes, in base64."""
    words = ["generate", str(student), prompt, "--seed", str(seed), "--count", str(count), "--output", str(folder)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return [base64.b64encode(path.read_bytes()).decode() for path in sorted(folder.iterdir())]


def test_loading_a_model_gives_its_users_no_advice_for_its_author(folder: Path) -> None:
    """MLflow's comes in colour, also where output is no terminal."""
    with warnings.catch_warnings(record=True) as caught:
        Predictor(folder, "tiny", {})
    assert not [each for each in caught if "type hints" in str(each.message)]


def test_both_protocols_answer_with_the_bytes_of_sidlsg_generate(ask: Ask, tiny_student: Path, tmp_path: Path) -> None:
    expected = [generated(tiny_student, tmp_path / name, name, 7, 2) for name in (RED, BLUE)]
    parameters = {"seed": 7, "count": 2}
    asked = {"instances": [RED, {"prompt": BLUE}], "parameters": parameters}
    assert ask("/v1/models/tiny:predict", asked) == (200, {"predictions": expected})
    tensor = {"name": "prompt", "shape": [2], "datatype": "BYTES", "data": [RED, BLUE]}
    status, answer = ask("/v2/models/tiny/infer", {"id": "42", "inputs": [tensor], "parameters": parameters})
    assert (status, answer["model_name"], answer["id"]) == (200, "tiny", "42")
    image, flagged = answer["outputs"]
    assert image == {"name": "image", "datatype": "BYTES", "shape": [2, 2], "data": [*expected[0], *expected[1]]}
    assert flagged == {"name": "flagged", "datatype": "BOOL", "shape": [2, 2], "data": [False] * 4}
    status, answer = ask("/v2/models/tiny/infer", {"inputs": [tensor], "outputs": [{"name": "flagged"}]})
    assert [output["name"] for output in answer["outputs"]] == ["flagged"]


def test_what_the_protocols_say_of_server_and_model(ask: Ask, predictor: Predictor) -> None:
    assert ask("/v1/models") == (200, {"models": ["tiny"]})
    assert ask("/v1/models/tiny") == (200, {"name": "tiny", "ready": True})
    assert ask("/v2/health/live") == (200, {"live": True})
    assert ask("/v2/health/ready") == (200, {"ready": True})
    assert ask("/v2/models/tiny/ready") == (200, {"name": "tiny", "ready": True})
    status, metadata = ask("/v2/models/tiny")
    assert (status, metadata["versions"]) == (200, [predictor.version])
    assert {"name", "platform", "inputs", "outputs"} <= metadata.keys()
    assert ask("/v2")[1]["extensions"] == []
    assert ask("/v1/models/another:predict", {"instances": [RED]})[0] == 404
    assert ask("/v2/models/another/infer", {})[0] == 404


TENSOR = {"name": "prompt", "shape": [1], "datatype": "BYTES", "data": [RED]}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("v1", b"\xff", "JSON"),
        ("v1", {"instances": RED}, "instances is 'a small red circle on a blue background'; give a list"),
        ("v1", {"instances": []}, "missing inputs"),
        ("v1", {"instances": [RED], "parameters": {"seeds": 1}}, "parameters.seeds"),
        ("v1", {"instances": [RED], "parameters": {"seed": -1}}, "seed -1 given; allowed: 0 to"),
        ("v1", {"instances": [RED], "parameters": {"count": 6}}, r"at most 5 (max_images)"),
        ("v1", b'{"instances": ["' + b"a" * (5 << 20) + b'"]}', "more than 4,194,304 bytes"),
        ("v2", {"inputs": []}, "0 inputs given; give one"),
        ("v2", {"inputs": [TENSOR | {"shape": [2]}]}, "shape [2] given for 1 prompts; give [1]"),
        ("v2", {"inputs": [TENSOR | {"datatype": "FP32"}]}, "inputs.0.datatype"),
        ("v2", {"inputs": [TENSOR | {"name": "text"}]}, "inputs.0.name"),
    ],
)
def test_bad_requests_are_refused_and_counted(ask: Ask, path: str, body: object, said: str) -> None:
    before = sample(ask, f'sidlsg_serving_requests_total{{protocol="{path}",status="400"}}')
    status, answer = ask({"v1": "/v1/models/tiny:predict", "v2": "/v2/models/tiny/infer"}[path], body)
    assert status == 400
    assert said in answer["error"]
    assert sample(ask, f'sidlsg_serving_requests_total{{protocol="{path}",status="400"}}') == before + 1


def sample(ask: Ask, name: str) -> float:
    """A number among the metrics; 0 where it is not yet there."""
    lines = [line for line in ask("/metrics")[1].splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].split()[-1]) if lines else 0.0


def test_flagged_images_are_no_images_and_their_share_is_counted(
    ask: Ask, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f'sidlsg_serving_images_total{{flagged="{value}"}}' for value in ("false", "true")]
    before = [sample(ask, name) for name in names]
    model = predictor._model.unwrap_python_model()
    # The bundled teacher has no checker; this one flags the second image of each two.
    monkeypatch.setattr(model.pipeline, "feature_extractor", lambda _images, return_tensors: Pixels())  # noqa: ARG005
    flags = iter([False, True, False, True])
    monkeypatch.setattr(model, "checker", lambda images, clip_input: (images, [next(flags)]))  # noqa: ARG005
    made = ask("/v1/models/tiny:predict", {"instances": [RED], "parameters": {"count": 2}})[1]["predictions"][0]
    assert [image is None for image in made] == [False, True]
    outputs = ask("/v2/models/tiny/infer", {"inputs": [TENSOR], "parameters": {"count": 2}})[1]["outputs"]
    assert [output["data"] for output in outputs] == [[made[0], ""], [False, True]]
    assert [sample(ask, name) for name in names] == [before[0] + 2, before[1] + 2]


class Pixels:
    class pixel_values:  # noqa: N801
        @staticmethod
        def to(_: object) -> None: ...


def test_the_smoke_evaluations_reference_is_what_is_served(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidlsg.serving.smoke.PROMPTS", PROMPTS[:1])  # each takes a process
    status, answer = ask("/smoke/tiny")
    assert status == 200, answer
    asked = {"instances": list(PROMPTS[:1]), "parameters": {"seed": SEED, "count": COUNT}}
    assert ask("/v1/models/tiny:predict", asked) == (200, answer)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "SHA256SUMS").unlink(), "has no SHA256SUMS"),
        (lambda folder: (folder / "pyfunc_model.py").write_text("raise SystemExit"), "pyfunc_model.py differs"),
        (lambda folder: (folder / "artifacts/student/student.json").unlink(), "student.json is missing"),
        (lambda folder: (folder / "artifacts/student/unet/more.bin").touch(), "more.bin is not listed"),
        (lambda folder: (folder / "SHA256SUMS").write_text("MLmodel\n"), "which is not a digest and a file"),
    ],
    ids=["no digests", "other code", "missing", "more", "no digest"],
)
def test_a_copy_that_is_not_what_was_copied_is_not_loaded(
    folder: Path, tmp_path: Path, damage: Callable[[Path], object], said: str
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(InputError, match=said):
        Predictor(tmp_path / "model", "tiny", {})


def test_a_configuration_that_cannot_hold_is_one_line(
    folder: Path, sidlsg: Callable[..., Any], monkeypatch: Any
) -> None:
    for given, said in (('{"safety_checker": "required"}', "this model has none"), ("[]", "give an object such as")):
        monkeypatch.setenv("SERVING_MODEL_CONFIG", given)
        code, _, errors = sidlsg("serve", str(folder))
        assert (code, said in errors, len(errors.strip().splitlines())) == (2, True, 1), errors
