"""A teacher from its folder: frozen, in float32, and refused where the libraries would load half of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from sidlsg.errors import InputError
from sidlsg.teacher.folder import folder_digest
from sidlsg.teacher.load import load_pipeline, load_teacher

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
    for network in (teacher.unet, teacher.vae, teacher.encode.text_encoder):
        assert not network.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in network.parameters())
    assert teacher.sha256 == folder_digest(assets / "tiny-sd")
    assert teacher.latent_shape == (4, 8, 8)
    assert len(teacher.schedule) == 1000
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


def test_it_draws_what_stock_diffusers_draws(assets: Path) -> None:
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


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_nothing_uses_are_refused(folder: Path, name: str) -> None:
    """Such as an adapter's beside the network's own: without it the model is another."""
    tensors = load_file(folder / WEIGHTS[name])
    save_file({**tensors, "a.lora_down.weight": torch.zeros(4, 4)}, folder / WEIGHTS[name])
    refused(folder, f"{name} holds 1 weights that a .* has no place for, such as .*a.lora_down.weight; fuse an adapter")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_not_finite_are_named(folder: Path, name: str, value: float) -> None:
    tensors = load_file(folder / WEIGHTS[name])
    spoilt = sorted(tensors)[-1]
    tensors[spoilt].flatten()[-1] = value
    save_file(tensors, folder / WEIGHTS[name])
    refused(folder, f"{name} holds values that are not finite, in .*{spoilt}; every picture would be spoilt")


def test_a_tokenizer_without_its_vocabulary_is_refused(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()
    refused(folder, r"tokenizer has no vocabulary \(tokenizer.json or vocab.json\)")


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


def test_a_scheduler_that_is_none_is_refused(folder: Path) -> None:
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"scheduler": ["diffusers", "NoSuchScheduler"]}))
    refused(folder, "cannot be loaded: .*NoSuchScheduler")
