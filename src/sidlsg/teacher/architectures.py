"""The architectures of teachers that have recipes, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.teacher.families.family import STATES, Family
from sidlsg.teacher.families.flux import FLUX
from sidlsg.teacher.families.flux import TOKENS as FLUX_TOKENS
from sidlsg.teacher.families.sana import MASK, SANA
from sidlsg.teacher.families.sana import TOKENS as SANA_TOKENS
from sidlsg.teacher.families.sd import SD
from sidlsg.teacher.families.sd3 import SD3, T5_TOKENS
from sidlsg.teacher.families.sdxl import SDXL, TIME_IDS

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
    config: Mapping[str, Any]
    """Configuration of its network, which says the latents' height and width as `sample_size`."""
    conditioning: Mapping[str, tuple[int, ...]]
    """Shapes of a prompt's conditioning, as in `Family.shapes`."""
    text_encoder_parameters: int
    """Parameters of all its text encoders together."""
    pixels: int = 8
    """Pixels on each side of an image that are one of the latents'."""
    family: Family = SD
    prediction_type: str = "epsilon"
    """`epsilon` or `v_prediction`; without meaning for a flow."""


def stable_diffusion(
    name: str, config: Mapping[str, Any], parameters: int = 0, prediction_type: str = "epsilon"
) -> Architecture:
    """A Stable Diffusion 1 or 2: its UNet's configuration, 77 tokens, and its text encoder's number of parameters."""
    return Architecture(
        name=name,
        config=config,
        conditioning={STATES: (TEXT_LENGTH, config["cross_attention_dim"])},
        text_encoder_parameters=parameters,
        prediction_type=prediction_type,
    )


_SDXL = {
    **_SHARED,
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_CLIP_L, _CLIP_H, _CLIP_G, _T5_XXL, _GEMMA = 123_060_480, 340_387_840, 694_659_840, 4_762_310_656, 2_614_341_888
"""Parameters of text encoders: `CLIPTextModel`s of 12 layers of width 768 and 23 of 1024, CLIP-G with its projection,
T5's encoder, and the language model Gemma 2 of 2 billion."""
_CLIP_L_PROJECTION = 768 * 768


def _sd3(name: str, layers: int, **more: Any) -> Architecture:
    """A Stable Diffusion 3 with as many heads as layers."""
    return Architecture(
        name=name,
        family=SD3,
        config={
            "sample_size": 128,
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": layers,
            "num_attention_heads": layers,
            "attention_head_dim": 64,
            "caption_projection_dim": 64 * layers,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 192,
            **more,
        },
        conditioning={STATES: (TEXT_LENGTH + T5_TOKENS, 4096), "pooled_projections": (2048,)},
        text_encoder_parameters=_CLIP_L + _CLIP_L_PROJECTION + _CLIP_G + _T5_XXL,
    )


def _sana(name: str, layers: int, heads: int, cross_heads: int) -> Architecture:
    """A SANA with so many layers, and heads of 32 channels."""
    width = 32 * heads
    return Architecture(
        name=name,
        family=SANA,
        config={
            "sample_size": 32,
            "in_channels": 32,
            "out_channels": 32,
            "num_layers": layers,
            "num_attention_heads": heads,
            "attention_head_dim": 32,
            "num_cross_attention_heads": cross_heads,
            "cross_attention_head_dim": width // cross_heads,
            "cross_attention_dim": width,
            "caption_channels": 2304,
        },
        conditioning={STATES: (SANA_TOKENS, 2304), MASK: (SANA_TOKENS,)},
        pixels=32,
        text_encoder_parameters=_GEMMA,
    )


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        stable_diffusion(
            "sd15",
            {**_SHARED, "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
            _CLIP_L,
            "epsilon",
        ),
        stable_diffusion("sd21_base", {**_SECOND, "sample_size": 64}, _CLIP_H, "epsilon"),
        stable_diffusion("sd21", {**_SECOND, "sample_size": 96}, _CLIP_H, "v_prediction"),
        Architecture(
            name="sdxl",
            family=SDXL,
            config=_SDXL,
            conditioning={
                STATES: (TEXT_LENGTH, 2048),
                "text_embeds": (1280,),
                "time_ids": (TIME_IDS,),
            },
            text_encoder_parameters=_CLIP_L + _CLIP_G,
        ),
        _sd3("sd3_medium", 24),
        _sd3(
            "sd35_medium",
            24,
            pos_embed_max_size=384,
            qk_norm="rms_norm",
            dual_attention_layers=tuple(range(13)),
        ),
        _sd3("sd35_large", 38, qk_norm="rms_norm"),
        _sana("sana_600m", 28, 36, 16),
        _sana("sana_1600m", 20, 70, 20),
        Architecture(
            name="flux_dev",
            family=FLUX,
            config={"in_channels": 64, "num_layers": 19, "num_single_layers": 38, "guidance_embeds": True},
            conditioning={STATES: (FLUX_TOKENS, 4096), "pooled_projections": (768,), "guidance": ()},
            text_encoder_parameters=_CLIP_L + _T5_XXL,
        ),
    )
}
"""Stable Diffusion 1.5, 2.1-base (512 pixels) and 2.1 (768 pixels); XL, 3, 3.5, SANA and FLUX.1 (1024 pixels)."""


def architecture_of(recipe: str) -> Architecture:
    """The architecture that a recipe is named after, as `sd21_base_kappa2` is; raises InputError for others."""
    fitting = [name for name in ARCHITECTURES if recipe == name or recipe.startswith(f"{name}_")]
    if not fitting:
        raise InputError(
            f"recipe {recipe!r} is for no architecture that is known by name ({', '.join(ARCHITECTURES)}); "
            "give a teacher's folder"
        )
    return ARCHITECTURES[max(fitting, key=len)]
