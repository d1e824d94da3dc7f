"""Folders of every family: what is taken, what is refused, and their prompts' conditioning."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import save_file

from sidlsg.bundled.tiny_families import NEW
from sidlsg.distil.few_steps import FewSteps
from sidlsg.distil.student.folder import write_folder
from sidlsg.runtime.errors import InputError
from sidlsg.stages.encode import encode
from sidlsg.storage.records import EmbeddingSet
from sidlsg.teacher.conditioning import mapped
from sidlsg.teacher.config import latent_shape, read_configs
from sidlsg.teacher.embeddings import EmbeddingReader, OnlineEmbeddings
from sidlsg.teacher.families import FAMILIES, PIPELINES
from sidlsg.teacher.folder import check_folder, conditioning_shapes, folder_digest, text_encoder_digest
from sidlsg.teacher.pipeline import load_pipeline, load_teacher
from sidlsg.teacher.sampling import StockSampler
from sidlsg.teacher.setting import Setting
from sidlsg.teacher.source import check_single_file
from unit.teacher.spoilt import changed, with_index

OTHERS = [*NEW, "sana"]
SIZED = {"height": 32, "width": 32}
CALLED: dict[str, dict[str, object]] = {
    "sd3": {"max_sequence_length": 12},
    "flux": {**SIZED, "max_sequence_length": 12},
    "sana": {**SIZED, "use_resolution_binning": False, "max_sequence_length": 12},
}
"""What calls of the stock pipelines are given besides the prompt."""
RED, BLUE = "a small red circle on a blue background", "a large blue square on a white background"


@pytest.fixture
def copied(of_family: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(of_family(name), tmp_path / name))


def without_t5(folder: Path) -> Path:
    for name in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(folder / name)
    with_index(folder, text_encoder_3=[None, None], tokenizer_3=[None, None])
    return folder


def test_every_pipeline_is_of_one_family() -> None:
    assert len(PIPELINES) == len(FAMILIES) == len({family.name for family in FAMILIES})


@pytest.mark.parametrize("name", ["sd", *OTHERS])
def test_a_folder_says_what_the_loaded_pipeline_is(of_family: Callable[[str], Path], name: str) -> None:
    folder = of_family(name)
    teacher = load_teacher(folder)
    assert teacher.family.name == name
    assert teacher.latent_shape == latent_shape(folder) == (4, 8, 8)
    encoded = teacher.encode([RED, BLUE])
    found = {"encoder_hidden_states": encoded} if isinstance(encoded, torch.Tensor) else encoded
    assert {key: tuple(each.shape[1:]) for key, each in found.items()} == conditioning_shapes(folder)


@pytest.mark.parametrize("name", OTHERS)
def test_conditioning_is_the_stock_pipelines(of_family: Callable[[str], Path], name: str) -> None:
    """What the network is called with in the stock pipeline's only step, for the empty prompt and with the prompts."""
    folder = of_family(name)
    teacher, pipeline = load_teacher(folder), load_pipeline(folder)
    calls: list[dict[str, torch.Tensor]] = []

    def seen(_: object, __: object, options: dict[str, object]) -> None:
        more = options.get("added_cond_kwargs") or {}
        assert isinstance(more, dict)
        calls.append({key: each for key, each in {**options, **more}.items() if isinstance(each, torch.Tensor)})

    getattr(pipeline, teacher.family.network).register_forward_pre_hook(seen, with_kwargs=True)
    called = teacher.family.called(read_configs(folder))
    assert called == CALLED.get(name, {})
    pipeline([RED, BLUE], num_inference_steps=1, **teacher.family.guided(3.0), **called)
    ours = teacher.encode(["", RED, BLUE])
    assert isinstance(ours, dict)
    for key, each in ours.items():
        # Both halves in one call, or in two, of which the second is for one empty prompt.
        given = torch.cat([call[key] for call in reversed(calls)])[[0, -2, -1]]
        torch.testing.assert_close(each, given, rtol=0, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("dtype", ["float16", pytest.param("float32", marks=pytest.mark.long)])
def test_shards_hold_what_is_encoded_during_training(
    of_family: Callable[[str], Path], prompts: Path, texts: list[str], tmp_path: Path, name: str, dtype: str
) -> None:
    folder = of_family(name)
    record = encode(prompts, folder, tmp_path / "set", dtype, 1.0, lambda _: None)
    assert record == EmbeddingSet.load(tmp_path / "set")
    assert {**record.more, "encoder_hidden_states": record.shape} == conditioning_shapes(folder)
    assert record.text_encoder_sha256 == text_encoder_digest(folder)
    online = OnlineEmbeddings(load_teacher(folder).encode, texts, dtype)
    stored = EmbeddingReader(tmp_path / "set", "cpu", dtype)
    for a, b in zip(stored([1, 0, 2], [False, True, False]), online([1, 0, 2], [False, True, False]), strict=True):
        mapped(lambda x, y: (torch.testing.assert_close(x, y, rtol=0, atol=0), x)[1], a, b)


def test_what_the_empty_prompt_and_sizes_depend_on_is_in_the_digest(copied: Callable[[str], Path]) -> None:
    folder = copied("sdxl")
    digests = {text_encoder_digest(folder)}
    with_index(folder, force_zeros_for_empty_prompt=False)
    digests.add(text_encoder_digest(folder))
    changed(folder / "unet" / "config.json", sample_size=16)
    digests.add(text_encoder_digest(folder))
    assert len(digests) == 3


def test_a_third_encoder_may_be_missing(copied: Callable[[str], Path]) -> None:
    """As in the stock pipeline, which takes zeros for the embeddings of 256 tokens."""
    folder = without_t5(copied("sd3"))
    teacher = load_teacher(folder)
    assert conditioning_shapes(folder)["encoder_hidden_states"] == (16 + 256, 96)
    encoded = teacher.encode([RED])
    assert isinstance(encoded, dict)
    assert encoded["encoder_hidden_states"].shape == (1, 272, 96)
    assert not encoded["encoder_hidden_states"][:, 16:].any()
    assert folder_digest(folder) != folder_digest(copied("sdxl"))


def test_a_language_models_tokenizer_may_have_no_length(copied: Callable[[str], Path]) -> None:
    """As the published SANA's has; the stock pipeline takes 300 tokens of it."""
    folder = copied("sana")
    changed(folder / "tokenizer" / "tokenizer_config.json", model_max_length=int(1e30))
    check_folder(folder)
    assert conditioning_shapes(folder) == {"encoder_hidden_states": (300, 32), "encoder_attention_mask": (300,)}


def as_published(folder: Path) -> Path:
    """A SANA folder with the scheduler of the published ones."""
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
    scheduler = DPMSolverMultistepScheduler(**flow)
    scheduler.save_pretrained(folder / "scheduler")
    with_index(folder, scheduler=["diffusers", "DPMSolverMultistepScheduler"])
    return folder


def test_a_published_sana_is_sampled_by_its_own_solver_and_its_student_by_a_flows(
    copied: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = as_published(copied("sana"))
    sampler = StockSampler(folder)
    assert type(sampler.pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
    image = sampler([RED], [3], Setting(steps=3, guidance_scale=3.0))
    assert image.shape == (1, 32, 32, 3)
    assert image.std() > 0
    teacher = load_teacher(folder)
    (tmp_path / "student").mkdir()
    write_folder(
        teacher, teacher.network, FewSteps(t_init=1000, count=2, noise="ddim"), "float32", tmp_path / "student"
    )
    assert type(load_pipeline(tmp_path / "student").scheduler).__name__ == "FlowMatchEulerDiscreteScheduler"


@pytest.mark.parametrize(("name", "half"), [("sdxl", torch.float16), ("flux", torch.bfloat16)])
def test_half_precision_is_the_familys_own(of_family: Callable[[str], Path], name: str, half: torch.dtype) -> None:
    sampler = StockSampler(of_family(name), half=True)
    assert sampler.network.dtype == half
    assert sampler.identity.endswith(str(half).removeprefix("torch."))


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a tokenizer alone": (
        "sd3",
        lambda folder: with_index(folder, text_encoder_3=[None, None]),
        "names a tokenizer_3 and no text_encoder_3; save both, or neither",
    ),
    "a third encoder that is not there": (
        "sd3",
        lambda folder: shutil.rmtree(folder / "text_encoder_3"),
        "no such folder: .*text_encoder_3, though model_index.json names it",
    ),
    "another family's name": (
        "sd3",
        lambda folder: with_index(folder, _class_name="StableDiffusionXLPipeline"),
        "has no unet; a StableDiffusionXLPipeline needs unet, vae",
    ),
    "another family's UNet": (
        "sdxl",
        lambda folder: changed(folder / "unet" / "config.json", addition_embed_type=None),
        "addition_embed_type is None, and the base model of Stable Diffusion XL takes",
    ),
    "a refiner": (
        "sdxl",
        lambda folder: with_index(folder, _class_name="StableDiffusionXLImg2ImgPipeline"),
        "is a StableDiffusionXLImg2ImgPipeline; a teacher is one of",
    ),
    "an inpainting UNet": (
        "sdxl",
        lambda folder: changed(folder / "unet" / "config.json", in_channels=9),
        "in_channels is 9, and the VAE's latents have 4 channels; give a text-to-image Stable Diffusion XL",
    ),
    "another model's second encoder": (
        "sdxl",
        lambda folder: changed(folder / "text_encoder_2" / "config.json", hidden_size=64),
        "cross_attention_dim is 96, and the two text encoders' hidden_size add up to 112",
    ),
    "another pooled embedding": (
        "sdxl",
        lambda folder: changed(folder / "text_encoder_2" / "config.json", projection_dim=64),
        "projection_class_embeddings_input_dim is 96, and the pooled embedding has 64, and the 6 sizes the rest of 112",
    ),
    "another T5": (
        "sd3",
        lambda folder: changed(folder / "text_encoder_3" / "config.json", d_model=64),
        "joint_attention_dim is 96, and T5's d_model is 64",
    ),
    "pooled embeddings of another width": (
        "sd3",
        lambda folder: changed(folder / "text_encoder" / "config.json", projection_dim=64),
        "pooled_projection_dim is 96, and the CLIP models' pooled embeddings, joined, have 112",
    ),
    "latents of another VAE": (
        "sd3",
        lambda folder: changed(folder / "vae" / "config.json", latent_channels=16),
        "in_channels is 4, and the VAE's latents have 16 channels",
    ),
    "a diffusion's scheduler": (
        "sd3",
        lambda folder: with_index(folder, scheduler=["diffusers", "DDIMScheduler"]),
        "for the scheduler; allowed: FlowMatchEulerDiscreteScheduler of diffusers",
    ),
    "a flow's scheduler": (
        "sdxl",
        lambda folder: with_index(folder, scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"]),
        "for the scheduler; allowed: DDIMParallelScheduler",
    ),
    "a tokenizer longer than its encoder": (
        "sd3",
        lambda folder: changed(folder / "tokenizer_2" / "tokenizer_config.json", model_max_length=77),
        "tokenizer_2.*model_max_length is 77, and the first tokenizer's is 16",
    ),
    "a safety checker": (
        "sdxl",
        lambda folder: with_index(folder, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"]),
        "names a safety_checker, which a StableDiffusionXLPipeline cannot use",
    ),
    "tokenizers of two lengths": (
        "sdxl",
        lambda folder: changed(folder / "tokenizer_2" / "tokenizer_config.json", model_max_length=8),
        "tokenizer_2.*model_max_length is 8, and the first tokenizer's is 16",
    ),
    "captions of another width": (
        "sd3",
        lambda folder: changed(folder / "transformer" / "config.json", caption_projection_dim=64),
        "caption_projection_dim is 64, and its heads have 96 channels together",
    ),
    "more patches than positions": (
        "sd3",
        lambda folder: changed(folder / "transformer" / "config.json", sample_size=9),
        "pos_embed_max_size is 8, and its latents have 9 patches on a side",
    ),
    "a part of a patch": (
        "sd3",
        lambda folder: changed(folder / "transformer" / "config.json", patch_size=3),
        "sample_size is 8, and its patches are of 3",
    ),
    "tokens of another VAE's latents": (
        "flux",
        lambda folder: changed(folder / "vae" / "config.json", latent_channels=16),
        "in_channels is 16, and the VAE's latents have 16 channels, of 4 pixels together",
    ),
    "a fill model": (
        "flux",
        lambda folder: changed(folder / "transformer" / "config.json", in_channels=384, out_channels=64),
        "in_channels is 384, and the VAE's latents have 4 channels, of 4 pixels together; give a text-to-image FLUX.1",
    ),
    "a tokenizer without a length": (
        "flux",
        lambda folder: changed(folder / "tokenizer" / "tokenizer_config.json", model_max_length=int(1e30)),
        "model_max_length is 1000000000000000019884624838656, and the text encoder has 16 positions",
    ),
    "half a token": (
        "flux",
        lambda folder: changed(folder / "transformer" / "config.json", sample_size=9),
        "sample_size is 9, and its patches are of 2",
    ),
    "a missing T5": (
        "flux",
        lambda folder: with_index(folder, text_encoder_2=[None, None]),
        "names .None, None. for the text_encoder_2; allowed: T5EncoderModel of transformers",
    ),
    "axes of other heads": (
        "flux",
        lambda folder: changed(folder / "transformer" / "config.json", axes_dims_rope=[4, 4, 4]),
        "attention_head_dim is 32, and its axes_dims_rope add up to 12",
    ),
    "a flag that is a number": (
        "flux",
        lambda folder: changed(folder / "transformer" / "config.json", guidance_embeds=1),
        "guidance_embeds is 1; allowed: true or false",
    ),
    "a SANA of few steps": (
        "sana",
        lambda folder: changed(folder / "transformer" / "config.json", guidance_embeds=True),
        "guidance_embeds is True, and a model of few steps, which takes its guidance as an input, is no teacher",
    ),
    "another language model": (
        "sana",
        lambda folder: changed(folder / "text_encoder" / "config.json", hidden_size=64),
        "caption_channels is 32, and the text encoder's hidden_size is 64",
    ),
    "a solver without a flow": (
        "sana",
        lambda folder: (
            with_index(folder, scheduler=["diffusers", "DPMSolverMultistepScheduler"]),
            changed(folder / "scheduler" / "scheduler_config.json", _class_name="DPMSolverMultistepScheduler"),
        ),
        "use_flow_sigmas is None, and this family is trained by flow matching",
    ),
    "a side that the pipeline refuses": (
        "sana",
        lambda folder: changed(folder / "transformer" / "config.json", sample_size=12),
        "sample_size is 12, and its images have 48 pixels on a side, and the stock pipeline takes multiples of 32",
    ),
    "another scale of a flow's times": (
        "sd3",
        lambda folder: changed(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=100),
        "num_train_timesteps is 100, and a flow's t is 1000 σ",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused_with_one_line(copied: Callable[[str], Path], wrong: str) -> None:
    name, spoil, said = WRONG[wrong]
    folder = copied(name)
    check_folder(folder)
    spoil(folder)
    with pytest.raises(InputError, match=said) as caught:
        check_folder(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("weight", "title"),
    [
        ("conditioner.embedders.1.model.ln_final.weight", "Stable Diffusion XL"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "FLUX"),
    ],
)
def test_a_single_file_of_another_family_is_named(tmp_path: Path, weight: str, title: str) -> None:
    save_file({weight: torch.zeros(1), "first_stage_model.conv.weight": torch.zeros(1)}, tmp_path / "one.safetensors")
    with pytest.raises(InputError, match=f"is a {title} in one file; only Stable Diffusion 1 and 2 are taken in one"):
        check_single_file(tmp_path / "one.safetensors")
