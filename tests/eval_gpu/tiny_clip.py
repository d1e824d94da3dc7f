"""A very small CLIP, made known to open_clip, and files of its random weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sidlsg.evaluate.clip_networks import HPS_KEY

SIDE = 32
CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@dataclass(frozen=True)
class TinyClip:
    """An architecture, and the same weights in three files."""

    name: str
    config: Path
    tensors: dict[str, torch.Tensor]
    plain: Path
    """As `torch.save` writes names and tensors."""
    safe: Path
    nested: Path
    """As HPSv2's checkpoint: in half precision, under `state_dict`, beside counters."""


def make_tiny_clip(folder: Path) -> TinyClip:
    """Register the architecture, and write its files."""
    import open_clip

    config = folder / "ViT-tiny-test.json"
    config.write_text(json.dumps(CONFIG))
    open_clip.add_model_config(config)
    network = open_clip.create_model(config.stem, pretrained=None)
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, tensor in network.state_dict().items():
        # Large enough for each word and patch to count; half precision holds them exactly.
        random = torch.randn(tensor.shape, generator=generator) * 0.2
        is_norm = tensor.ndim == 1 and name.endswith("weight")
        tensors[name] = (random + is_norm).half().float()
    plain, safe, nested = folder / "tiny.bin", folder / "tiny.safetensors", folder / "tiny_compressed.pt"
    torch.save(tensors, plain)
    save_file(tensors, safe)
    half = {name: tensor.half() for name, tensor in tensors.items()}
    torch.save({"epoch": 3, "name": "tiny", HPS_KEY: half}, nested)
    return TinyClip(config.stem, config, tensors, plain, safe, nested)
