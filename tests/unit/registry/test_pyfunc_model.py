"""The registered model as a user loads it: prompts and parameters in, PNG images out."""

from __future__ import annotations

import base64
import io

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from sidlsg.registry.connect import connect
from sidlsg.registry.register import register

RED, BLUE = "a small red circle on a blue background", "a large blue ring on a red background"


@pytest.fixture(scope="module")
def model(tracking_uri, make_student):
    version = register(make_student(), tracking_uri, "drawing")
    return mlflow.pyfunc.load_model(connect(tracking_uri).get_model_version("drawing", str(version.version)).source)


def pixels(text: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    assert (image.format, image.size, image.mode) == ("PNG", (32, 32), "RGB")
    return np.asarray(image)


def test_each_prompt_gets_count_images(model):
    drawn = model.predict([RED, BLUE], params={"seed": 3, "count": 2})
    assert [len(images) for images in drawn] == [2, 2]
    assert not np.array_equal(pixels(drawn[0][0]), pixels(drawn[0][1]))


def test_pixels_depend_on_prompt_and_seed_and_nothing_else(model):
    together = model.predict([BLUE, RED, RED], params={"seed": 3, "count": 2})
    alone = model.predict([RED], params={"seed": 3})
    later = model.predict([RED], params={"seed": 4})
    assert np.array_equal(pixels(together[1][0]), pixels(alone[0][0]))
    assert np.array_equal(pixels(together[2][0]), pixels(alone[0][0]))
    # Image i of a prompt is seeded seed + i.
    assert np.array_equal(pixels(together[1][1]), pixels(later[0][0]))
    assert not np.array_equal(pixels(alone[0][0]), pixels(later[0][0]))
    assert not np.array_equal(pixels(together[0][0]), pixels(alone[0][0]))


@pytest.mark.parametrize("form", [pd.DataFrame({"prompt": [RED]}), np.array([RED]), RED], ids=["frame", "array", "one"])
def test_prompts_come_in_several_forms(model, form):
    assert model.predict(form) == model.predict([RED], params={"seed": 0, "count": 1})


@pytest.mark.parametrize("params", [{"count": 0}, {"seed": -1}])
def test_parameters_out_of_range_are_a_bad_request(model, params):
    with pytest.raises(MlflowException, match="count at least 1") as caught:
        model.predict([RED], params=params)
    assert caught.value.get_http_status_code() == 400


@pytest.mark.parametrize("prompts", [[1, 2], np.array([[RED, BLUE]])])
def test_prompts_that_are_no_column_of_text_are_refused(model, prompts):
    with pytest.raises(MlflowException, match="one column of text"):
        model.unwrap_python_model().predict(None, prompts)
