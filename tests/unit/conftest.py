"""A single-file checkpoint: the bundled teacher's weights under the original names that such files use."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
OPEN_CLIP = {
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
    "final_layer_norm": "ln_final",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
}
UNET_ENDS = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}


def replaced(text: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        text = text.replace(ours, theirs)
    return text


def unet_name(name: str, layers: int) -> str:
    """The original name of a UNet's weight; every block has `layers` layers, going up one more."""
    for ours, theirs in UNET_ENDS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    side, block, kind, number, rest = re.match(  # type: ignore[union-attr]
        r"(down_blocks|mid_block|up_blocks)\.(?:(\d+)\.)?(\w+)\.(\d+)\.(.*)", name
    ).groups()
    row, column = int(block or 0) * (layers + 1), int(number)
    if kind == "downsamplers":
        return f"input_blocks.{1 + row + layers}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{row + layers}.2.{rest}"
    rest = replaced(rest, RESNET) if kind == "resnets" else rest
    if side == "mid_block":
        return f"middle_block.{2 * column if kind == 'resnets' else 1}.{rest}"
    place = f"input_blocks.{1 + row + column}" if side == "down_blocks" else f"output_blocks.{row + column}"
    return f"{place}.{0 if kind == 'resnets' else 1}.{rest}"


def vae_name(name: str, blocks: int) -> str:
    """The original name of a VAE's weight; blocks going up are counted from the other end."""
    name = replaced(name, {"conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut"})
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    for side, ours in (("down", "downsamplers"), ("up", "upsamplers")):

        def place(m: re.Match[str], side: str = side) -> str:
            number = int(m[1]) if side == "down" else blocks - 1 - int(m[1])
            return f"{side}.{number}.{'block' if m[2] == 'resnets' else side + 'sample'}"

        name = re.sub(rf"{side}_blocks\.(\d)\.(resnets|{ours}\.0)", place, name)
    return name


def clip_weights(tensors: Tensors) -> Tensors:
    """A text encoder as SD 1 has it, with the buffer that is in those files."""
    prefix = "cond_stage_model.transformer.text_model"
    length = len(tensors["embeddings.position_embedding.weight"])
    named = {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
    return {**named, f"{prefix}.embeddings.position_ids": torch.arange(length)[None]}


def open_clip_weights(tensors: Tensors) -> Tensors:
    """A text encoder as SD 2 has it: OpenCLIP's names, query, key and value in one tensor."""
    named: Tensors = {"text_projection": torch.eye(len(tensors["final_layer_norm.weight"]))}
    for name, tensor in tensors.items():
        parts = re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", name)
        if parts is None:
            named[replaced(name, OPEN_CLIP)] = tensor
        elif parts[2] == "q":
            group = [tensors[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            named[f"transformer.resblocks.{parts[1]}.attn.in_proj_{parts[3]}"] = torch.cat(group)
    return {f"cond_stage_model.model.{name}": tensor for name, tensor in named.items()}


@pytest.fixture(scope="session")
def single_file(assets: Path) -> Callable[..., Path]:
    """Writes the bundled teacher to one file, its text encoder as SD 1 has it or as SD 2 has it."""
    folder = assets / "tiny-sd"
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    text = load_file(folder / "text_encoder" / "model.safetensors")
    whole = {f"model.diffusion_model.{unet_name(name, layers=1)}": tensor for name, tensor in unet.items()}
    whole |= {f"first_stage_model.{vae_name(name, blocks=3)}": tensor for name, tensor in vae.items()}
    # Of the sampler's tables in such files, one that is in single precision whatever the weights are in.
    whole["alphas_cumprod"] = torch.linspace(1, 0, 1000)

    def write(path: Path, open_clip: bool = False, change: Callable[[Tensors], Tensors] = dict) -> Path:
        tensors = change(whole | (open_clip_weights(text) if open_clip else clip_weights(text)))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
        return path

    return write


@pytest.fixture
def layout(assets: Path, tmp_path: Path) -> Path:
    """The bundled teacher's folder without its weights."""
    ignored = shutil.ignore_patterns("*.safetensors", "*.md", "*.jsonl", "teacher_scores.json")
    return Path(shutil.copytree(assets / "tiny-sd", tmp_path / "layout", ignore=ignored))
