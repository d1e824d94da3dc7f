"""The registered model as a user loads it: prompts and parameters in, images out."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import shutil
import socket

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image
from tests.unit.safety_checker import add_safety_checker, likeness
from typer.testing import CliRunner

from sidlsg.cli.app import app
from sidlsg.distil.few_steps import STEP_NOISES, FewSteps
from sidlsg.distil.student.folder import write_folder
from sidlsg.registry.connection import connect
from sidlsg.registry.package import PATH_IN_MODEL, save_model
from sidlsg.registry.registration import register
from sidlsg.storage.records import Student, file_ref
from sidlsg.teacher.config import INDEX
from sidlsg.teacher.pipeline import load_teacher

RED, BLUE = "a small red circle on a blue background", "a large blue ring on a red background"


@pytest.fixture(scope="module")
def student(make_student):
    return make_student()


@pytest.fixture(scope="module")
def source(tracking_uri, student):
    version = register(student, tracking_uri, "drawing")
    return connect(tracking_uri).get_model_version("drawing", str(version.version)).source


@pytest.fixture(scope="module")
def model(source):
    return mlflow.pyfunc.load_model(source)


def pixels(text: str, kind: str = "PNG") -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    assert (image.format, image.size, image.mode) == (kind, (32, 32), "RGB")
    return np.asarray(image)


def generated(student, folder, *options: str) -> list[str]:
    """The files that `sidlsg generate` writes."""
    done = CliRunner().invoke(app, ["generate", str(student), RED, "--output", str(folder), *options])
    assert done.exit_code == 0, done.output
    return [base64.b64encode(path.read_bytes()).decode() for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def checked(student, pipeline_folder, tmp_path_factory):
    """The student as it is exported where its teacher has a safety checker."""
    folder = tmp_path_factory.mktemp("checked")
    shutil.copytree(pipeline_folder, folder / "teacher")
    add_safety_checker(folder / "teacher")
    teacher = load_teacher(folder / "teacher")
    exported = folder / "student"
    exported.mkdir()
    files = write_folder(teacher, teacher.network, FewSteps(), "float32", exported)
    for name in ("README.md", "training_log.jsonl"):
        shutil.copy(student / name, exported)
    shutil.copytree(student / "grids", exported / "grids")
    model = tuple(file_ref(path, exported) for path in files)
    dataclasses.replace(Student.load(student), model=model).save(exported)
    return exported


@pytest.fixture
def checked_model(checked, tmp_path):
    save_model(Student.load(checked), checked, tmp_path / "model")
    return tmp_path / "model"


def test_images_are_those_of_sidlsg_generate_byte_for_byte(model, student, tmp_path):
    assert model.predict([RED]) == [generated(student, tmp_path / "one")]
    several = generated(student, tmp_path / "several", "--seed", "7", "--count", "3", "--steps", "2")
    assert model.predict([BLUE, RED], params={"seed": 7, "count": 3, "steps": 2})[1] == several


@pytest.mark.parametrize("noise", STEP_NOISES)
def test_a_student_of_several_steps_is_served_in_its_own(student, tmp_path, noise):
    folder = tmp_path / "student"
    shutil.copytree(student, folder)
    record = Student.load(student)
    few = dataclasses.replace(record, recipe_values=record.recipe_values | {"steps": 5, "step_noise": noise})
    few.save(folder)
    save_model(few, folder, tmp_path / "model")
    model = mlflow.pyfunc.load_model(tmp_path / "model")
    (steps,) = (each for each in model.metadata.signature.params if each.name == "steps")
    assert steps.default == 5
    own = generated(folder, tmp_path / "own", "--seed", "3", "--count", "2")
    assert model.predict([RED], params={"seed": 3, "count": 2}) == [own]
    with pytest.warns(UserWarning, match="2 steps: this student is made for 5"):
        two = model.predict([RED], params={"seed": 3, "steps": 2})
    assert two == [generated(folder, tmp_path / "two", "--seed", "3", "--steps", "2")]
    assert two[0] != own[:1]


def test_pixels_depend_on_prompt_and_seed_and_nothing_else(model):
    together = model.predict([BLUE, RED, RED], params={"seed": 3, "count": 2})
    assert [len(images) for images in together] == [2, 2, 2]
    alone = model.predict([RED], params={"seed": 3})
    later = model.predict([RED], params={"seed": 4})
    assert together[1][0] == together[2][0] == alone[0][0]
    # Picture i of a prompt is seeded seed + i.
    assert together[1][1] == later[0][0]
    assert not np.array_equal(pixels(alone[0][0]), pixels(later[0][0]))
    assert not np.array_equal(pixels(together[0][0]), pixels(alone[0][0]))


def test_of_many_prompts_each_state_is_its_own(model):
    # More than the text encoder sees at once.
    prompts = [RED] * 17 + [BLUE]
    drawn = model.predict(prompts)
    assert drawn[:17] == model.predict([RED]) * 17
    assert drawn[17:] == model.predict([BLUE])


def test_a_batch_differs_by_rounding_alone(model, source):
    batched = mlflow.pyfunc.load_model(source, model_config={"batch": 4})
    params = {"seed": 3, "count": 3}
    for ours, theirs in zip(model.predict([RED, BLUE], params), batched.predict([RED, BLUE], params), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert np.abs(pixels(one).astype(int) - pixels(other).astype(int)).max() <= 1


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_formats_have_the_same_image(model, kind):
    def near(seed: int) -> float:
        exact = pixels(model.predict([RED], params={"seed": seed})[0][0])
        return float(np.abs(lossy.astype(int) - exact).mean())

    lossy = pixels(model.predict([RED], params={"seed": 3, "format": kind})[0][0], kind.upper())
    # Noise, which an untrained student draws, is what these formats keep worst.
    assert 0 < near(3) < near(4) / 2


@pytest.mark.parametrize("form", [pd.DataFrame({"prompt": [RED]}), np.array([RED]), RED], ids=["frame", "array", "one"])
def test_prompts_come_in_several_forms(model, form):
    assert model.predict(form) == model.predict([RED], params={"seed": 0, "count": 1})


@pytest.mark.parametrize(
    ("prompts", "params", "said"),
    [
        ([RED], {"count": 0}, "count is at least 1"),
        ([RED], {"count": 10_000}, r"at most 64 \(max_images\)"),
        ([RED] * 65, {}, r"at most 64 \(max_images\)"),
        ([RED], {"seed": -1}, "seed -1 given; allowed: 0 to"),
        ([RED], {"seed": 2**53}, "allowed: 0 to"),
        ([RED], {"seed": "one"}, "seed"),
        ([RED], {"steps": 0}, "steps 0 given; allowed: 1 to 4"),
        ([RED], {"steps": 5}, "steps 5 given; allowed: 1 to 4"),
        ([RED], {"format": "gif"}, "allowed: png, jpeg, webp"),
        (["a" * 2**20], {}, "a prompt of 1,048,576 characters given; allowed: 4,096"),
        ([], {}, "missing inputs"),
        ([None], {}, "without nulls"),
        ([RED, None], {}, "without nulls"),
        (pd.DataFrame({"prompt": []}, dtype=str), {}, "one column of text"),
    ],
)
def test_what_cannot_be_generated_is_a_bad_request(model, prompts, params, said):
    with pytest.raises(MlflowException, match=said) as caught:
        model.predict(prompts, params=params)
    assert caught.value.get_http_status_code() == 400


@pytest.mark.parametrize("prompts", [[1, 2], np.array([[RED, BLUE]])])
def test_prompts_that_are_no_column_of_text_are_refused(model, prompts):
    with pytest.raises(MlflowException, match="one column of text"):
        model.unwrap_python_model().predict(None, prompts)


def test_loading_and_generating_need_no_network(student, tmp_path, monkeypatch):
    save_model(Student.load(student), student, tmp_path / "model")

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert mlflow.pyfunc.load_model(str(tmp_path / "model")).predict([RED])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"safety_checker": "required"}, "this model has none"),
        ({"safety_checker": "off"}, "allowed: required or none"),
        ({"batch": 0}, "batch 0 configured"),
        ({"max_images": "many"}, "max_images 'many' configured"),
    ],
)
def test_a_configuration_that_cannot_hold_is_refused(source, config, said):
    with pytest.raises(MlflowException, match=said):
        mlflow.pyfunc.load_model(source, model_config=config)


def test_a_safety_checker_is_used_unless_it_is_turned_off_by_name(checked, checked_model, tmp_path):
    assert mlflow.models.get_model_info(str(checked_model)).metadata["safety_checker"] == "required"
    unlooked = mlflow.pyfunc.load_model(str(checked_model), model_config={"safety_checker": "none"})
    drawn = unlooked.predict([RED], params={"count": 4})[0]
    assert drawn == generated(checked, tmp_path / "images", "--count", "4")

    model = mlflow.pyfunc.load_model(str(checked_model), model_config={"batch": 4})
    pipeline = model.unwrap_python_model().pipeline
    like = [likeness(pipeline, Image.fromarray(pixels(text))) for text in drawn]
    for limit in (2.0, sum(sorted(like)[1:3]) / 2, -2.0):  # a cosine is within -1 and 1
        pipeline.safety_checker.concept_embeds_weights.data.fill_(limit)
        answer = model.predict([RED], params={"count": 4})[0]
        assert [text is None for text in answer] == [score > limit for score in like]
        # A flagged image comes as None, the others as they are.
        for text, same in zip(answer, drawn, strict=True):
            # In a batch but for rounding.
            assert text is None or np.abs(pixels(text).astype(int) - pixels(same)).max() <= 1


def test_a_model_that_lost_its_safety_checker_is_not_served(checked_model):
    index = checked_model / PATH_IN_MODEL / INDEX
    text = json.dumps(json.loads(index.read_text()) | {"safety_checker": [None, None]})
    index.unlink()  # a hard link of the student's
    index.write_text(text)
    with pytest.raises(MlflowException, match="this model has none"):
        mlflow.pyfunc.load_model(str(checked_model))


def test_limits_are_the_servers(source):
    model = mlflow.pyfunc.load_model(source, model_config={"max_images": 1, "max_steps": 6})
    assert model.predict([RED], params={"steps": 6}) != model.predict([RED])
    with pytest.raises(MlflowException, match="at most 1"):
        model.predict([RED], params={"count": 2})
