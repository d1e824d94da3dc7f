"""Stable Diffusion 1 and 2: a UNet that takes one text encoder's embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from sidlsg.teacher.families.family import Family

COMPILED = (BasicTransformerBlock, ResnetBlock2D)


def _blocks(unet: Any) -> Iterator[nn.Module]:
    """A UNet's blocks from the input to the output."""
    yield from unet.down_blocks
    if unet.mid_block is not None:
        yield unet.mid_block
    yield from unet.up_blocks


SD = Family(
    name="sd",
    has=lambda network: isinstance(network, UNet2DConditionModel) and network.config.addition_embed_type is None,
    takes=lambda unet: unet,
    compiled=COMPILED,
    sharded=_blocks,
    features=lambda unet: unet.mid_block,
    last=lambda unet: unet.conv_out,
)
