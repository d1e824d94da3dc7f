"""A teacher's repository as a download leaves it: several variants of the weights, and files that no pipeline reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from unit.safety_checker import add_safety_checker

NETWORKS = {"unet": "conv_in.bias", "vae": "decoder.conv_in.bias", "text_encoder": "final_layer_norm.bias"}
"""A weight of each network, which differs between variants."""
LOOSE = (
    ".gitattributes",
    ".git/config",
    ".git/lfs/objects/ab/cd/abcd",
    ".cache/huggingface/download/unet/config.json.metadata",
    "README.md",
    "v1-5-pruned.safetensors",
    "v1-5-pruned-emaonly.safetensors",
    "v1-5-pruned.ckpt",
    "v1-inference.yaml",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.bin",
    "unet/diffusion_pytorch_model.non_ema.bin",
    "vae/diffusion_pytorch_model.bin",
    "vae/diffusion_pytorch_model.fp16.bin",
    "text_encoder/pytorch_model.bin",
    "text_encoder/pytorch_model.fp16.bin",
)


def moved(network: Any, name: str, by: float) -> None:
    """Change one weight, so that variants are told apart."""
    weight = next(each for key, each in network.named_parameters() if key.endswith(name))
    weight.data += by


def make_downloaded(folder: Path, tiny: Path) -> Path:
    """Write the bundled teacher as SD 1.5's repository is: fp16 of all networks, non_ema of the UNet alone."""
    shutil.copytree(tiny, folder)
    add_safety_checker(folder)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    for name in NETWORKS:  # the bundled ones are in half precision
        getattr(pipeline, name).save_pretrained(folder / name)
    moved(pipeline.unet, NETWORKS["unet"], 1)
    pipeline.unet.save_pretrained(folder / "unet", variant="non_ema")
    pipeline.to(torch.float16)
    for name, weight in NETWORKS.items():
        moved(getattr(pipeline, name), weight, 2)
        getattr(pipeline, name).save_pretrained(folder / name, variant="fp16")
    pipeline.safety_checker.save_pretrained(folder / "safety_checker", variant="fp16")
    for name in LOOSE:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not read")
    return folder
