"""Stable Diffusion 3 and 3.5: a transformer over the tokens of image and prompt, trained by flow matching.

Its conditioning has `encoder_hidden_states` [B, L, D] and `pooled_projections` [B, P].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusers import SD3Transformer2DModel
from diffusers.models.attention import JointTransformerBlock
from torch import Tensor

from sidlsg.teacher.families.family import Family


def _takes(network: Callable[..., Any]) -> Callable[..., Any]:
    def call(x_t: Tensor, t: Tensor, conditioning: dict[str, Tensor]) -> Any:
        return network(hidden_states=x_t, timestep=t, **conditioning)

    return call


SD3 = Family(
    name="sd3",
    has=lambda network: isinstance(network, SD3Transformer2DModel),
    takes=_takes,
    compiled=(JointTransformerBlock,),
    sharded=lambda transformer: transformer.transformer_blocks,
    # SiD-DiT's discriminator: the mean over tokens after the final norm (arXiv 2509.25127, its published code).
    features=lambda transformer: transformer.norm_out,
    last=lambda transformer: transformer.proj_out,
)
