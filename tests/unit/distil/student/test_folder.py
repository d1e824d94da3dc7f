"""The student's folder, sampled by stock diffusers alone, against the native sampler."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline

from sidlsg.distil.sampler import generate_latents
from sidlsg.distil.student.folder import one_step_scheduler, write_folder
from sidlsg.runtime.errors import InputError, NotFiniteError
from sidlsg.storage.records import Student
from sidlsg.teacher.pipeline import load_teacher
from sidlsg.teacher.sampling import seeded_noise
from sidlsg.teacher.schedule import NoiseSchedule


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_one_stock_step_is_the_native_sampler(make_unet: Callable[..., Any], prediction_type: str) -> None:
    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction_type
    )
    unet = make_unet(3, torch.float32)
    z, cond = torch.randn(5, 4, 4, 4), torch.randn(5, 3, 8)
    with torch.no_grad():
        native = generate_latents(unet, NoiseSchedule.from_scheduler(scheduler), z, cond)
        euler = one_step_scheduler(scheduler, 625)
        euler.set_timesteps(1)
        assert euler.timesteps.tolist() == [625]
        sample = z * euler.init_noise_sigma
        output = unet(euler.scale_model_input(sample, euler.timesteps[0]), euler.timesteps[0], cond).sample
        stock = euler.step(output, euler.timesteps[0], sample).prev_sample
    assert (native - stock).abs().max() < 1e-4 * native.abs().max()


def test_the_stock_pipeline_generates_the_native_samplers_latents(tiny_student: Path) -> None:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(tiny_student, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    prompts = ["a small red circle on a blue background", "a large white ring on a black background"]
    stock = pipeline(
        prompts,
        num_inference_steps=1,
        guidance_scale=0,
        generator=[torch.Generator().manual_seed(seed) for seed in (7, 8)],
        output_type="latent",
    ).images
    student = load_teacher(tiny_student)
    noise = seeded_noise([7, 8], student.latent_shape)[0]
    with torch.no_grad():
        native = generate_latents(student.unet, student.schedule, noise, student.encode(prompts))
    assert (native - stock).abs().max() < 1e-4


def test_the_folder_holds_safetensors_and_the_teachers_parts_unchanged(tiny_student: Path, assets: Path) -> None:
    suffixes = {path.suffix for path in tiny_student.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".jsonl", ".md", ".png", ".txt"}
    for name in (
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
    ):
        assert (tiny_student / name).read_bytes() == (assets / "tiny-sd" / name).read_bytes()
    index = json.loads((tiny_student / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "EulerDiscreteScheduler"]
    card = (tiny_student / "README.md").read_text()
    for part in ("κ1 = 1.2", "8 in 2 iterations of 4", "num_inference_steps=1", "seed | 0"):
        assert part in card


@pytest.mark.parametrize(("value", "dtype"), [(math.nan, "float32"), (1e6, "float16")])
def test_weights_that_are_not_finite_are_not_exported(assets: Path, tmp_path: Path, value: float, dtype: str) -> None:
    teacher = load_teacher(assets / "tiny-sd")
    with torch.no_grad():
        teacher.unet.conv_out.bias[0] = value
    with pytest.raises(NotFiniteError, match=rf"student's conv_out.bias holds values that are not finite in {dtype}"):
        write_folder(teacher, teacher.unet, 625, dtype, tmp_path)


def test_the_teachers_licence_and_the_prompts_record_are_copied(tiny_student: Path, assets: Path) -> None:
    student = Student.load(tiny_student)
    student.verify(tiny_student)
    assert student.licence.name == "apache-2.0"
    assert (tiny_student / "teacher" / "README.md").read_bytes() == (assets / "tiny-sd" / "README.md").read_bytes()
    prompts = student.prompt_set(tiny_student)
    assert prompts is not None
    assert prompts.digest == student.prompts_sha256
    card = (tiny_student / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: diffusers\n")
    assert 'license: "apache-2.0"\n---\n' in card


def test_another_prompt_sets_record_is_refused(tiny_student: Path, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    shutil.copytree(tiny_student, folder)
    record = folder / "lineage" / "prompt_set.json"
    record.write_text(record.read_text().replace('"count": ', '"count": 1'))
    with pytest.raises(InputError, match="is of prompt set"):
        Student.load(folder).prompt_set(folder)
