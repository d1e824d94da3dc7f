"""A teacher from its folder: frozen, in float32, and refused where the libraries would load half of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor

from sidlsg.runtime.errors import InputError
from sidlsg.teacher.families.sd import SCHEDULERS
from sidlsg.teacher.folder import check_folder, folder_digest
from sidlsg.teacher.pipeline import check_optional, check_stock, load_pipeline, load_teacher
from sidlsg.teacher.schedule import NoiseSchedule

WEIGHTS = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}


@pytest.fixture
def folder(assets: Path, tmp_path: Path) -> Path:
    """A copy of the bundled teacher."""
    return Path(shutil.copytree(assets / "tiny-sd", tmp_path / "teacher"))


def refused(folder: Path, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_pipeline(folder)
    assert "\n" not in str(caught.value)


def test_a_teacher_is_frozen_in_float32(assets: Path) -> None:
    teacher = load_teacher(assets / "tiny-sd")
    for network in (teacher.network, teacher.vae, teacher.encode.text_encoders[0]):
        assert not network.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in network.parameters())
    assert teacher.sha256 == folder_digest(assets / "tiny-sd")
    assert teacher.latent_shape == (4, 8, 8)
    assert teacher.schedule.last + 1 == 1000
    assert teacher.schedule.prediction_type == "epsilon"
    # Stable Diffusion's schedule: the square roots of β run evenly from √0.00085 to √0.012.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    assert torch.allclose(teacher.schedule.alphas_cumprod, (1 - betas).cumprod(0), rtol=1e-4)


def test_its_weights_are_those_of_the_files(assets: Path) -> None:
    pipeline = load_pipeline(assets / "tiny-sd")
    for name, file in WEIGHTS.items():
        found, stored = getattr(pipeline, name).state_dict(), load_file(assets / "tiny-sd" / file)
        assert found.keys() == stored.keys()
        assert all(torch.equal(found[key], stored[key].float()) for key in stored)


def test_it_generates_what_stock_diffusers_generates(assets: Path) -> None:
    stock: Any = StableDiffusionPipeline.from_pretrained(assets / "tiny-sd", use_safetensors=True)
    stock.set_progress_bar_config(disable=True)

    def latents(pipeline: Any) -> torch.Tensor:
        return pipeline(
            "a small red circle on a blue background",
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).images  # type: ignore[no-any-return]

    assert torch.equal(latents(load_pipeline(assets / "tiny-sd")), latents(stock))


@pytest.mark.parametrize("name", WEIGHTS)
def test_truncated_weights_are_refused(folder: Path, name: str) -> None:
    path = folder / WEIGHTS[name]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(folder, f"{name} cannot be loaded: .*; save the whole pipeline again")


@pytest.mark.parametrize("name", WEIGHTS)
def test_missing_weights_are_not_replaced_by_random_ones(folder: Path, name: str) -> None:
    tensors = load_file(folder / WEIGHTS[name])
    lost = sorted(tensors)[0]
    del tensors[lost]
    save_file(tensors, folder / WEIGHTS[name])
    refused(folder, f"{name} lacks 1 weights, such as {lost}")


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_another_shape_are_refused(folder: Path, name: str) -> None:
    tensors = load_file(folder / WEIGHTS[name])
    tensors[sorted(tensors)[0]] = torch.zeros(3)
    save_file(tensors, folder / WEIGHTS[name])
    refused(folder, f"{name} cannot be loaded: ")


@pytest.mark.parametrize(
    "added",
    [
        "a.lora_down.weight",
        "mid_block.attentions.0.to_q.lora_A.default.weight",
        "base_model.model.layers.0.self_attn.q_proj.lora_B.weight",
        "mid_block.attentions.0.processor.to_q_lora.up.weight",
        "layers.0.self_attn.q_proj.lora_magnitude_vector",
        "lora_te_layers_0_mlp_fc1.hada_w1_a",
        "mid_block.attentions.0.to_q.lokr_w1",
        "encoder.conv_in.bias_ema",
        "a_position_ids",
    ],
)
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_nothing_uses_are_refused(folder: Path, name: str, added: str) -> None:
    """Such as an adapter's, next to those of the network: without them it is another model."""
    tensors = load_file(folder / WEIGHTS[name])
    save_file({**tensors, added: torch.zeros(4, 4)}, folder / WEIGHTS[name])
    refused(folder, f"{name} holds 1 weights that a .* does not use, such as .*{added}; fuse an adapter")


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", "pytorch_lora_weights.bin"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_an_adapter_in_the_folder_is_refused(folder: Path, name: str, file: str) -> None:
    (folder / name / file).write_text("{}")
    refused(folder, f"{name}/{file} is an adapter's, which would not be used; fuse it")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_not_finite_are_named(folder: Path, name: str, value: float) -> None:
    tensors = load_file(folder / WEIGHTS[name])
    spoilt = sorted(tensors)[-1]
    tensors[spoilt].flatten()[-1] = value
    save_file(tensors, folder / WEIGHTS[name])
    refused(folder, f"{name} holds values that are not finite, in .*{spoilt}, which would spoil every image")


def test_a_tokenizer_without_its_vocabulary_is_refused(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()
    refused(folder, r"tokenizer has no vocabulary; it needs tokenizer.json, or both vocab.json and merges.txt")
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    refused(folder, "tokenizer has vocab.json and no merges.txt; it needs")


def test_a_tokenizer_larger_than_the_text_encoder_knows_is_refused(folder: Path) -> None:
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text())
    config["vocab_size"] -= 1
    path.write_text(json.dumps(config))
    tensors = load_file(folder / WEIGHTS["text_encoder"])
    name = "embeddings.token_embedding.weight"
    tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, folder / WEIGHTS["text_encoder"])
    refused(folder, f"has {config['vocab_size'] + 1} entries, but the text encoder knows {config['vocab_size']}")


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_schedulers_that_are_allowed_have_what_training_needs(folder: Path, kind: str) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scheduler": ["diffusers", kind]}))
    (folder / "scheduler" / "scheduler_config.json").write_text('{"beta_start": 0.00085, "beta_end": 0.012}')
    check_folder(folder)
    scheduler = getattr(diffusers, kind).from_pretrained(folder / "scheduler")
    assert NoiseSchedule.from_scheduler(scheduler).last + 1 == len(scheduler.betas) == 1000


@pytest.mark.parametrize(
    "kind", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler", "IPNDMScheduler", "NoSuchScheduler"]
)
def test_schedulers_that_lack_it_are_refused_with_those_that_work(folder: Path, kind: str) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scheduler": ["diffusers", kind]}))
    refused(folder, f"{kind}'] for the scheduler; allowed: {', '.join(SCHEDULERS)} of diffusers")


@pytest.mark.parametrize("values", [{"beta_schedule": "none"}, {"beta_schedule": None}])
def test_a_scheduler_that_cannot_be_built_is_named_with_its_file(folder: Path, values: dict[str, Any]) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    refused(folder, "scheduler/scheduler_config.json cannot be loaded: ")


def with_checker(folder: Path) -> Path:
    """Give a pipeline a small safety checker; returns its folder."""
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = text | {"image_size": 32, "patch_size": 16}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    checker.save_pretrained(folder / "safety_checker")
    sizes: Any = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**sizes).save_pretrained(folder / "feature_extractor")
    path = folder / "model_index.json"
    classes = {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | classes))
    return folder / "safety_checker"


def test_a_safety_checker_that_the_stock_pipeline_loads_is_taken(folder: Path) -> None:
    with_checker(folder)
    check_folder(folder)
    check_optional(folder)
    check_stock(folder, "the student of x")


def without_weight(checker: Path) -> None:
    tensors = load_file(checker / "model.safetensors")
    tensors.pop(sorted(tensors)[-1])
    save_file(tensors, checker / "model.safetensors", {"format": "pt"})


def without_extractor(checker: Path) -> None:
    path = checker.parent / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"feature_extractor": [None, None]}))


def with_layers(checker: Path) -> None:
    path = checker / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"]["num_hidden_layers"] = 10**9
    path.write_text(json.dumps(config))


CHECKERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a variant alone": (
        lambda path: (path / "model.safetensors").rename(path / "model.fp16.safetensors"),
        "safety_checker has no standard weights, only variants: fp16; choose one with --variant fp16",
    ),
    "no extractor": (without_extractor, "names a safety checker and no feature extractor"),
    "no extractor's folder": (
        lambda path: shutil.rmtree(path.parent / "feature_extractor"),
        "preprocessor_config.json cannot be read",
    ),
    "an extractor of another form": (
        lambda path: (path.parent / "feature_extractor" / "preprocessor_config.json").write_text('{"size": "large"}'),
        "feature_extractor cannot be loaded",
    ),
    "a weight missing": (without_weight, "safety_checker lacks 1 weights"),
    "truncated": (lambda path: (path / "model.safetensors").write_bytes(b"x" * 9), "safety_checker cannot be loaded"),
    "no such configuration": (lambda path: (path / "config.json").write_text("{}"), "safety_checker cannot be loaded"),
    "layers without end": (with_layers, "config.json: vision_config.num_hidden_layers is 1000000000; allowed: a whole"),
}


@pytest.mark.parametrize("name", CHECKERS)
def test_a_safety_checker_that_the_stock_pipeline_cannot_load_is_refused(folder: Path, name: str) -> None:
    spoil, said = CHECKERS[name]
    spoil(with_checker(folder))
    with pytest.raises(InputError, match=said) as caught:
        check_folder(folder)
        check_optional(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_the_stock_pipeline_does_not_load_is_not_exported(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text('{"beta_schedule": "none"}')
    with pytest.raises(InputError, match="the stock pipeline does not load the student of x: "):
        check_stock(folder, "the student of x")


def test_what_is_saved_again_names_no_path_of_this_machine(folder: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(folder)
    for name in ("unet", "vae"):
        getattr(pipeline, name).save_pretrained(tmp_path / name)
        assert str(tmp_path) not in (tmp_path / name / "config.json").read_text()
