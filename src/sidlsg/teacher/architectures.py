"""The architectures of teachers that have recipes, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sidlsg.runtime.errors import InputError
from sidlsg.teacher.families.family import Family
from sidlsg.teacher.families.sd import SD

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
    """Of its network; `sample_size` is the latents' height and width."""
    conditioning: Mapping[str, tuple[int, ...]]
    """Shapes of a prompt's, as of `Family.shapes`."""
    text_encoder_parameters: int
    """Of all its text encoders."""
    family: Family = SD
    prediction_type: str = "epsilon"
    """`epsilon` or `v_prediction`; without meaning for a flow."""


def stable_diffusion(
    name: str, config: Mapping[str, Any], parameters: int = 0, prediction_type: str = "epsilon"
) -> Architecture:
    """Of a Stable Diffusion 1 or 2 with 77 tokens, by its UNet's configuration and its text encoder's parameters."""
    return Architecture(
        name=name,
        config=config,
        conditioning={"encoder_hidden_states": (TEXT_LENGTH, config["cross_attention_dim"])},
        text_encoder_parameters=parameters,
        prediction_type=prediction_type,
    )


_FIRST_ENCODER, _SECOND_ENCODER = 123_060_480, 340_387_840
"""Counted on `CLIPTextModel`s: 12 layers of width 768, and 23 of 1024."""
ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        stable_diffusion(
            "sd15",
            {**_SHARED, "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
            _FIRST_ENCODER,
            "epsilon",
        ),
        stable_diffusion("sd21_base", {**_SECOND, "sample_size": 64}, _SECOND_ENCODER, "epsilon"),
        stable_diffusion("sd21", {**_SECOND, "sample_size": 96}, _SECOND_ENCODER, "v_prediction"),
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
