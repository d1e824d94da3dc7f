"""A student's LoRA file, which diffusers loads on the teacher and on its fine-tunes, and the UNet with it fused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from sidlsg.distil.adapter import LORA_FILE, Adapter
from sidlsg.runtime.errors import NotFiniteError
from sidlsg.storage.tensors import first_not_finite


def at_scale_one(adapter: Adapter, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter as diffusers takes one whose scale is not given, W + B A: with alpha / rank as a part of B.

    So programs that read no scale from a file, as many do, apply it like the others.
    """
    scaled = {name: each * adapter.scale if ".lora_B." in name else each for name, each in weights.items()}
    return {name: each.to("cpu").contiguous() for name, each in scaled.items()}


def fuse(unet: UNet2DConditionModel, weights: Mapping[str, Tensor]) -> UNet2DConditionModel:
    """Add an adapter, as `at_scale_one` gives it, to the weights of a teacher's UNet in place; returns the UNet."""
    unet.load_lora_adapter(dict(weights), prefix=None)
    unet.fuse_lora()
    unet.unload_lora()
    return unet


def write_lora_file(weights: Mapping[str, Tensor], dtype: str, folder: Path) -> Path:
    """Write an adapter, as `at_scale_one` gives it, as `pytorch_lora_weights.safetensors`; returns the file.

    Raises:
        NotFiniteError: a weight is not finite in this dtype.
    """
    converted = {name: each.to(getattr(torch, dtype)) for name, each in weights.items()}
    if bad := first_not_finite(converted):
        raise NotFiniteError(
            f"the adapter's {bad} holds values that are not finite in {dtype}; export it in float32, or resume from "
            "an earlier checkpoint"
        )
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=converted)
    return folder / LORA_FILE
