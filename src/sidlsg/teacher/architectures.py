"""The architectures of the Stable Diffusions that have recipes, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidlsg.runtime.errors import InputError

TEXT_LENGTH = 77
"""Tokens of a prompt in CLIP's text encoders."""
_SHARED = {
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "norm_num_groups": 32,
}
# The second generation has a wider text encoder, heads of 64 channels, and linear projections.
_SECOND = {
    **_SHARED,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a teacher's size and work depend on."""

    name: str
    unet: Mapping[str, Any]
    """Arguments of a `UNet2DConditionModel`; `sample_size` is the latents' height and width."""
    prediction_type: str
    """`epsilon` or `v_prediction`."""
    text_encoder_parameters: int
    """Counted on a `CLIPTextModel` of its shape: 12 layers of width 768, or 23 of 1024."""


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            name="sd15",
            unet={**_SHARED, "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
            prediction_type="epsilon",
            text_encoder_parameters=123_060_480,
        ),
        Architecture(
            name="sd21_base",
            unet={**_SECOND, "sample_size": 64},
            prediction_type="epsilon",
            text_encoder_parameters=340_387_840,
        ),
        Architecture(
            name="sd21",
            unet={**_SECOND, "sample_size": 96},
            prediction_type="v_prediction",
            text_encoder_parameters=340_387_840,
        ),
    )
}
"""Stable Diffusion 1.5, 2.1-base (512 pixels) and 2.1 (768 pixels)."""


def architecture_of(recipe: str) -> Architecture:
    """The architecture that a recipe is named after, as `sd21_base_kappa2` is; raises InputError for others."""
    fitting = [name for name in ARCHITECTURES if recipe == name or recipe.startswith(f"{name}_")]
    if not fitting:
        raise InputError(
            f"recipe {recipe!r} is for no architecture that is known by name ({', '.join(ARCHITECTURES)}); "
            "give a teacher's folder"
        )
    return ARCHITECTURES[max(fitting, key=len)]
