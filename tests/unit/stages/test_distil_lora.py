"""The `distil` stage with adapters: what comes out, and that a stopped run continues to the same bits."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from sidlsg.distil.adapter import LORA_FILE, TARGETS
from sidlsg.distil.recipes import Recipe, recipe_with_changes
from sidlsg.distil.student.generation import generate
from sidlsg.registry.connection import connect
from sidlsg.registry.files import fetch_student
from sidlsg.registry.registration import register
from sidlsg.runtime.errors import InputError, StoppedError
from sidlsg.stages import distil as stage
from sidlsg.stages.distil import Extras, distil
from sidlsg.storage.records import Student
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.pipeline import load_network
from unit.stages.stopping import StopSoon

SHORT = {"iterations": 2, "batch": 2, "micro_batch": 2, "grids": 0, "log_every": 1, "evaluate_every": 0}


def recipe(**changes: Any) -> Recipe:
    return recipe_with_changes("tiny_lora", json.dumps(SHORT | {"on_alarm": "off"} | changes))


@pytest.fixture(scope="module")
def inputs(tiny_student: Path, assets: Path) -> tuple[Path, Path]:
    return tiny_student.parent / "prompts", assets / "tiny-sd"


@pytest.fixture(scope="module")
def student(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    distil(*inputs, folder / "student", recipe(), 0, folder / "checkpoints", print)
    torch.set_num_threads(1)
    return folder / "student"


def test_the_folder_holds_the_fused_student_and_the_lora_file(student: Path, inputs: tuple[Path, Path]) -> None:
    record = Student.load(student)
    record.verify(student)
    assert LORA_FILE in {ref.path for ref in record.model}
    assert record.recipe_values["adapter"] == {"rank": 16, "alpha": 8.0, "targets": list(TARGETS)}
    assert record.teacher_sha256 == folder_digest(inputs[1])
    lora, unet = load_file(student / LORA_FILE), load_file(student / "unet" / "diffusion_pytorch_model.safetensors")
    teacher = load_network(inputs[1]).state_dict()
    changed = {name for name, weight in unet.items() if not torch.equal(weight, teacher[name])}
    targets = {f"{name.removeprefix('unet.').partition('.lora_')[0]}.weight" for name in lora}
    assert changed <= targets
    assert len(changed) > len(targets) / 2
    card = (student / "README.md").read_text()
    for part in ("LoRA of rank 16, alpha 8, on `to_q`", f'weight_name="{LORA_FILE}"', "the scale of training, 0.5,"):
        assert part in card


def test_both_forms_of_the_cards_code_make_the_programs_image(student: Path, inputs: tuple[Path, Path]) -> None:
    prompt = "a small red circle on a blue background"
    loaded = StableDiffusionPipeline.from_pretrained(inputs[1])
    loaded.load_lora_weights(student, weight_name=LORA_FILE)
    loaded.scheduler = EulerDiscreteScheduler.from_pretrained(student, subfolder="scheduler")
    for pipe in (StableDiffusionPipeline.from_pretrained(student), loaded):
        image = pipe(
            prompt,
            num_inference_steps=1,
            guidance_scale=0,
            generator=torch.Generator().manual_seed(3),
            output_type="pt",
        ).images[0]
        own = torch.from_numpy(generate(student, [prompt], [3])[0]).permute(2, 0, 1)
        assert (255 * image - own).abs().max() < 2


def test_it_is_registered_and_served_with_its_file(student: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/mlflow.db"
    version = register(student, database, "adapters")
    served = mlflow.pyfunc.load_model(connect(database).get_model_version("adapters", str(version.version)).source)
    prompt = "a small red circle on a blue background"
    ((text,),) = served.predict([prompt], params={"seed": 3})
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert np.array_equal(pixels, generate(student, [prompt], [3])[0])
    fetched = fetch_student(version, database, tmp_path / "fetched")
    assert (fetched / LORA_FILE).read_bytes() == (student / LORA_FILE).read_bytes()


@pytest.mark.long
def test_a_stopped_run_continues_to_the_same_bits(
    student: Path, inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(stage, "StopRequest", StopSoon)
        distil(*inputs, tmp_path / "student", recipe(), 0, tmp_path / "checkpoints", lines.append)
    (shard,) = (tmp_path / "checkpoints").rglob("*.safetensors")
    assert {name for name in load_file(shard) if ".lora_" not in name} == {
        "fake_score_optimizer.step.0",
        "generator_optimizer.step.0",
    }
    distil(*inputs, tmp_path / "student", recipe(), 0, tmp_path / "checkpoints", lines.append)
    assert any(line.startswith("continues from ") for line in lines)
    for name in (LORA_FILE, "unet/diffusion_pytorch_model.safetensors"):
        assert (tmp_path / "student" / name).read_bytes() == (student / name).read_bytes()
    with pytest.raises(InputError, match=r"adapter is .* here and .* there"):
        other = recipe(adapter={"rank": 8})
        distil(*inputs, tmp_path / "other", other, 0, tmp_path / "checkpoints", lines.append)


@pytest.mark.long
def test_half_precision_and_recomputed_activations_train(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    changes = recipe(precision="bf16", activation_checkpointing=True, export_dtype="float16")
    distil(*inputs, tmp_path / "student", changes, 0, tmp_path / "checkpoints", print)
    record = Student.load(tmp_path / "student")
    record.verify(tmp_path / "student")
    assert {tensor.dtype for tensor in load_file(tmp_path / "student" / LORA_FILE).values()} == {torch.float16}
    unet, teacher = load_network(tmp_path / "student").state_dict(), load_network(inputs[1]).state_dict()
    # Of the teacher's own weights, not of those that trained in half precision.
    assert torch.equal(unet["conv_in.weight"], teacher["conv_in.weight"].half().float())


def test_what_an_adapter_cannot_start_from_is_refused(
    tiny_student: Path, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    output, state = tmp_path / "student", tmp_path / "checkpoints"
    with pytest.raises(InputError, match="adapters start at the teacher: leave --generator-from out") as caught:
        distil(*inputs, output, recipe(), 0, state, print, Extras(generator_from=str(tiny_student)))
    assert "\n" not in str(caught.value)
    unknown = replace(recipe(), adapter={"rank": 4, "targets": ["to_x"]})
    with pytest.raises(InputError, match="adapter target 'to_x' matches no linear or convolutional layer"):
        distil(*inputs, output, unknown, 0, state, print)
    assert not output.exists() and not state.exists()
