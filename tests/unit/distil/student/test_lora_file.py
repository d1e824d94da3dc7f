"""A LoRA file loaded by the stock pipeline, on the teacher and on a fine-tune, against fused and explicit weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from torch import Tensor

from sidlsg.distil.adapter import LORA_FILE, Adapter
from sidlsg.distil.lora import NAME, adapted, kept_tensors, lora_layers
from sidlsg.distil.student.lora_file import at_scale_one, fuse, write_lora_file
from sidlsg.runtime.errors import NotFiniteError
from sidlsg.teacher.families.sd import SD
from sidlsg.teacher.pipeline import load_network

ADAPTER = Adapter(rank=4, alpha=3.0)


@pytest.fixture(scope="module")
def trained(assets: Path) -> Any:
    """A network with an adapter that is not zero."""
    network = adapted(load_network(assets / "tiny-sd"), ADAPTER, 0, 0)
    torch.manual_seed(0)
    for layer in lora_layers(network):
        torch.nn.init.normal_(layer.lora_B[NAME].weight, std=0.1)
    return network


@pytest.fixture(scope="module")
def weights(trained: Any) -> dict[str, Tensor]:
    return at_scale_one(ADAPTER, kept_tensors(trained))


@torch.no_grad()
def output(unet: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    size = unet.config.sample_size
    x = torch.randn(2, unet.config.in_channels, size, size, generator=generator)
    text = torch.randn(2, 77, unet.config.cross_attention_dim, generator=generator)
    found: Tensor = unet(x, torch.tensor([20, 625]), text).sample
    return found


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def pipeline(folder: Path) -> Any:
    return StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)


def rounded(unet: Any, dtype: str) -> Any:
    """The UNet with its weights as a file of this dtype has them."""
    for parameter in unet.parameters():
        parameter.data = parameter.data.to(getattr(torch, dtype)).float()
    return unet


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-5), ("float16", 2e-3)])
def test_loaded_on_the_teacher_it_is_the_trained_network_and_the_fused_one(
    assets: Path, tmp_path: Path, trained: Any, weights: dict[str, Tensor], dtype: str, most: float
) -> None:
    """In half precision, teacher, adapter and fused weights are rounded, each on its own."""
    file = write_lora_file(SD, weights, dtype, tmp_path)
    assert file == tmp_path / LORA_FILE
    pipe = pipeline(assets / "tiny-sd")
    before = output(rounded(pipe.unet, dtype))
    pipe.load_lora_weights(tmp_path, weight_name=LORA_FILE)
    loaded = output(pipe.unet)
    fused = rounded(fuse(load_network(assets / "tiny-sd"), weights), dtype)
    assert not lora_layers(fused)
    assert fused.state_dict().keys() == load_network(assets / "tiny-sd").state_dict().keys()
    found = {"loaded, trained": distance(loaded, output(trained)), "loaded, fused": distance(loaded, output(fused))}
    assert max(found.values()) < most, found
    assert distance(before, loaded) > 0.05


def test_loaded_on_a_fine_tune_it_adds_the_same_to_its_weights(
    assets: Path, tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    write_lora_file(SD, weights, "float32", tmp_path)
    pipe = pipeline(assets / "tiny-sd")
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in pipe.unet.parameters():
            parameter += 0.05 * parameter.std(correction=0) * torch.randn_like(parameter)
    pipe.save_pretrained(tmp_path / "fine-tune")
    expected = load_network(tmp_path / "fine-tune")
    on_teacher = output(fuse(load_network(assets / "tiny-sd"), weights))
    with torch.no_grad():
        for name in sorted({key.partition(".lora_")[0] for key in weights}):
            a, b = weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"]
            added = b @ a if a.dim() == 2 else torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a)
            expected.get_submodule(name).weight += added
    tuned = pipeline(tmp_path / "fine-tune")
    tuned.load_lora_weights(tmp_path, weight_name=LORA_FILE)
    assert distance(output(tuned.unet), output(expected)) < 1e-5
    assert distance(output(tuned.unet), on_teacher) > 0.01


def test_the_scale_is_in_the_weights_for_programs_that_read_no_other(
    tmp_path: Path, trained: Any, weights: dict[str, Tensor]
) -> None:
    with safe_open(write_lora_file(SD, weights, "float32", tmp_path), "pt") as file:
        names = set(file.keys())
        assert not [name for name in names if "alpha" in name]
        for name, own in kept_tensors(trained).items():
            scale = ADAPTER.scale if ".lora_B." in name else 1.0
            torch.testing.assert_close(file.get_tensor(f"unet.{name}"), own * scale)
        assert len(names) == len(kept_tensors(trained))


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    name = next(name for name in weights if ".lora_B." in name)
    large = weights | {name: torch.full_like(weights[name], 1e5)}
    with pytest.raises(NotFiniteError, match=rf"the adapter's {name} holds values that are not finite in float16"):
        write_lora_file(SD, large, "float16", tmp_path)
    write_lora_file(SD, large, "float32", tmp_path)
