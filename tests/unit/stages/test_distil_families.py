"""The `distil` stage of teachers of other families: whole, as adapters, with real images; then generated and served."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image

from sidlsg.bundled.domains import SHAPES
from sidlsg.bundled.real_images import write_real_images
from sidlsg.distil.adapter import LORA_FILE
from sidlsg.distil.recipes import Recipe, recipe_with_changes
from sidlsg.distil.student.generation import generate
from sidlsg.registry.package import save_model
from sidlsg.runtime.errors import InputError
from sidlsg.stages.distil import Extras, distil
from sidlsg.stages.real_images import encode_real_images
from sidlsg.storage.records import Student
from sidlsg.teacher.pipeline import load_pipeline, load_teacher

RED = "a small red circle on a blue background"
SHORT: dict[str, Any] = {
    "iterations": 2,
    "batch": 2,
    "micro_batch": 2,
    "grids": 0,
    "log_every": 1,
    "evaluate_every": 0,
    "lr": 1e-3,
    "fake_score_lr": 1e-3,
}
RECIPES = {"sdxl": "tiny_4step", "sd3": "tiny_flow", "sana": "tiny_flow", "flux": "tiny_flow"}
OTHERS = [("sd3", "fresh"), ("sdxl", "ddim"), ("sdxl", "fresh"), ("sana", "ddim"), ("sana", "fresh"), ("flux", "ddim")]
EACH = [pytest.param(name, marks=[] if name == "sd3" else [pytest.mark.long]) for name in RECIPES]


def recipe(family: str, **changes: Any) -> Recipe:
    return recipe_with_changes(RECIPES[family], json.dumps(SHORT | changes))


@pytest.fixture
def prompts(tiny_student: Path) -> Path:
    return tiny_student.parent / "prompts"


def likeness(one: np.ndarray, other: np.ndarray) -> int:
    """The largest difference of two images."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize(
    ("family", "noise"), [("sd3", "ddim"), *(pytest.param(*each, marks=pytest.mark.long) for each in OTHERS)]
)
def test_the_served_model_is_sidlsg_generate(
    of_family: Callable[[str], Path], prompts: Path, tmp_path: Path, family: str, noise: str
) -> None:
    student = tmp_path / "student"
    distil(prompts, of_family(family), student, recipe(family, step_noise=noise), 0, tmp_path / "state", print)
    record = Student.load(student)
    record.verify(student)
    save_model(record, student, tmp_path / "model")
    model = mlflow.pyfunc.load_model(tmp_path / "model")
    for given, steps in (({}, None), ({"steps": 1}, 1)):
        (answer,) = model.predict([RED], params={"seed": 3, **given})
        served = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer[0]))))
        assert likeness(served, generate(student, [RED], [3], steps)[0]) <= 1


@pytest.mark.parametrize("family", EACH)
def test_an_adapter_is_a_file_for_the_stock_pipeline(
    of_family: Callable[[str], Path], prompts: Path, tmp_path: Path, family: str
) -> None:
    student, teacher = tmp_path / "student", of_family(family)
    lora = recipe(family, adapter={"rank": 2}, steps=1, export_dtype="float32")
    distil(prompts, teacher, student, lora, 0, tmp_path / "state", print)
    network = load_teacher(student).family.network
    loaded, fused = load_pipeline(teacher), load_pipeline(student)
    loaded.load_lora_weights(student, weight_name=LORA_FILE)
    loaded.fuse_lora()
    loaded.unload_lora_weights()
    ours, stock, plain = (getattr(each, network).state_dict() for each in (fused, loaded, load_pipeline(teacher)))
    assert ours.keys() == stock.keys()
    assert all(torch.allclose(ours[name], stock[name], atol=1e-6) for name in ours)
    assert not all(torch.equal(ours[name], plain[name]) for name in ours)


@pytest.mark.long
@pytest.mark.parametrize("family", RECIPES)
def test_real_images_are_encoded_by_the_teachers_own_vae(
    of_family: Callable[[str], Path], prompts: Path, tmp_path: Path, family: str
) -> None:
    """With its shift: decoded again, they are the images."""
    write_real_images(SHAPES, tmp_path / "shapes.tar", 8, 0)
    record = encode_real_images(str(tmp_path / "shapes.tar"), of_family(family), [], tmp_path / "set", [].append)
    assert record.shape == (4, 8, 8)
    term = {"lambda_d": 0.1, "lambda_g": 0.1, "freeze": 1, "join": 1}
    student = tmp_path / "student"
    extras = Extras(real_images=tmp_path / "set")
    values = recipe(family, steps=1, adversarial=term)
    distil(prompts, of_family(family), student, values, 0, tmp_path / "state", print, extras)
    assert Student.load(student).images_seen == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"t_init": 625},
            "flow matching, whose student starts at t_init = 1000, and the recipe tiny_flow has 625",
        ),
        (
            {"step_noise": "fixed"},
            "no stock pipeline of Stable Diffusion 3 samples with step_noise 'fixed', .*; take fresh or ddim",
        ),
    ],
)
def test_a_student_that_its_stock_pipeline_could_not_sample_is_refused(
    of_family: Callable[[str], Path], prompts: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        distil(prompts, of_family("sd3"), tmp_path / "s", recipe("sd3", **changes), 0, tmp_path / "state", print)
    assert "\n" not in str(caught.value)


def test_what_guidance_means_for_a_distilled_teacher_is_said_first(
    of_family: Callable[[str], Path], prompts: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    with pytest.raises(InputError, match=r"no stock pipeline of FLUX\.1 .* 'fresh', .*; take ddim$"):
        distil(prompts, of_family("flux"), tmp_path / "s", recipe("flux", step_noise="fresh"), 0, tmp_path / "c", print)
    distil(prompts, of_family("flux"), tmp_path / "s", recipe("flux", steps=1), 0, tmp_path / "c", said.append)
    assert said[0].startswith("the teacher is guidance-distilled: its transformer takes the guidance, 3.5, as an input")


def test_a_generator_starts_from_a_student_of_the_same_architecture_alone(
    of_family: Callable[[str], Path], prompts: Path, tmp_path: Path
) -> None:
    extras = Extras(generator_from=str(of_family("sdxl")))
    with pytest.raises(InputError, match="has a transformer of another architecture than the teacher"):
        distil(prompts, of_family("sd3"), tmp_path / "s", recipe("sd3"), 0, tmp_path / "state", print, extras)
