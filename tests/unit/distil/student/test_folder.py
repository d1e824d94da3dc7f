"""The student's folder, sampled by stock diffusers alone, against the native sampler."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline

from sidlsg.distil.few_steps import STEP_NOISES, FewSteps
from sidlsg.distil.sampler import generate_latents
from sidlsg.distil.student.card import student_card
from sidlsg.distil.student.folder import noise_scale, student_scheduler, write_folder
from sidlsg.runtime.errors import InputError, NotFiniteError
from sidlsg.storage.records import Student
from sidlsg.teacher.families.flux import unpacked
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
        euler = student_scheduler(scheduler, FewSteps())
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
        native = generate_latents(student.network, student.schedule, noise, student.encode(prompts))
    assert (native - stock).abs().max() < 1e-4


SIZE = 1e-3
"""The largest difference to the native sampler, as a share of the latents' scale."""
PROMPTS = ["a small red circle on a blue background", "a large white ring on a black background"]


def called(card: str, folder: Path, seed: int) -> Any:
    """What the card's call gives, as latents."""
    code = card.partition("```python\n")[2].partition("```")[0]
    code = code.replace("path/to/this/folder", str(folder)).replace("a prompt", PROMPTS[0])
    code = code.replace("manual_seed(0)", f"manual_seed({seed})").replace(").images", ", **more).images")
    more: dict[str, Any] = {"output_type": "latent"}
    if "manual_seed" not in code:
        more["generator"] = torch.Generator().manual_seed(seed)
    names: dict[str, Any] = {"more": more}
    exec(code, names)
    return names["image"]


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize(
    ("family", "noise"),
    [
        *(("sd", noise) for noise in STEP_NOISES),
        *((family, "ddim") for family in ("sd3", "sana", "flux")),
        *(pytest.param(family, "fresh", marks=pytest.mark.long) for family in ("sd3", "sana")),
        *(pytest.param("sdxl", noise, marks=pytest.mark.long) for noise in ("fresh", "ddim")),
    ],
)
def test_the_cards_call_is_the_native_sampler(
    tiny_student: Path, of_family: Callable[[str], Path], tmp_path: Path, steps: int, noise: str, family: str
) -> None:
    """Of `fixed`, which no stock scheduler repeats, it is near alone."""
    teacher = load_teacher(of_family(family))
    t_init = teacher.schedule.last if teacher.family.flows else 625
    plan = FewSteps(t_init=t_init, count=steps, noise=noise)
    write_folder(teacher, teacher.network, plan, "float32", tmp_path)
    student = Student.load(tiny_student)
    values = student.recipe_values | {"steps": steps, "step_noise": noise}
    card = student_card(dataclasses.replace(student, t_init=t_init, recipe_values=values), teacher)
    stock = called(card, tmp_path, 7)
    loaded = load_teacher(tmp_path)
    draws = seeded_noise([7], loaded.latent_shape, 1 + plan.fresh_noises(steps))
    with torch.no_grad():
        native = generate_latents(
            loaded.call,
            loaded.schedule,
            draws[0],
            loaded.encode(PROMPTS[:1]),
            t_init,
            steps,
            draws[1:],
            step_noise=noise,
        )
    if family == "flux":  # whose stock pipeline gives tokens
        stock = unpacked(stock[None], *native.shape[2:])[0]
    difference = float((native[0] - stock).abs().max() / native.std())
    if noise == "fixed" and steps > 1:
        assert SIZE < difference < 1
        assert "No stock scheduler repeats the first noise" in card
    else:
        assert difference < SIZE


def test_a_plain_number_of_steps_is_near_with_ddim(assets: Path, tmp_path: Path) -> None:
    """What those get whose tools take no timesteps: 0.1 % of the latents' scale."""
    teacher = load_teacher(assets / "tiny-sd")
    write_folder(teacher, teacher.network, FewSteps(count=4, noise="ddim"), "float32", tmp_path)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    stock = pipeline(
        PROMPTS, num_inference_steps=4, guidance_scale=0, generator=generators, output_type="latent"
    ).images
    z, cond = seeded_noise([7, 8], teacher.latent_shape)[0], teacher.encode(PROMPTS)
    with torch.no_grad():
        native = generate_latents(teacher.network, teacher.schedule, z, cond, 625, 4, step_noise="ddim")
    assert float((native - stock).square().mean().sqrt() / native.std()) < SIZE


@pytest.mark.parametrize("noise", STEP_NOISES)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_k_stock_steps_are_the_native_sampler(make_unet: Callable[..., Any], prediction_type: str, noise: str) -> None:
    """Both prediction types, at K = 3; of `fixed`, only that it runs."""
    scheduler = DDPMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction_type
    )
    plan = FewSteps(count=3, noise=noise)
    unet, cond = make_unet(3, torch.float32), torch.randn(1, 3, 8)
    schedule, draws = NoiseSchedule.from_scheduler(scheduler), seeded_noise([1], (4, 4, 4), 1 + plan.fresh_noises(3))
    generator = torch.Generator().manual_seed(1)
    stock = student_scheduler(scheduler, plan)
    stock.set_timesteps(timesteps=list(plan.timesteps))
    with torch.no_grad():
        native = generate_latents(unet, schedule, draws[0], cond, 625, 3, draws[1:], step_noise=noise)
        sample = torch.randn(1, 4, 4, 4, generator=generator) * stock.init_noise_sigma * noise_scale(stock)
        for t in stock.timesteps:
            output = unet(stock.scale_model_input(sample, t), t, cond).sample
            sample = stock.step(output, t, sample, generator=generator).prev_sample
    assert sample.isfinite().all()
    assert noise == "fixed" or float((native - sample).abs().max() / native.std()) < SIZE


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
        teacher.network.conv_out.bias[0] = value
    with pytest.raises(NotFiniteError, match=rf"student's conv_out.bias holds values that are not finite in {dtype}"):
        write_folder(teacher, teacher.network, FewSteps(), dtype, tmp_path)


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
