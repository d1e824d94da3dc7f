"""Stable Diffusion XL: a UNet that takes two encoders' joined text embeddings, a pooled one, and the images' sizes.

Its conditioning has `encoder_hidden_states` [B, L, D], `text_embeds` [B, P] and `time_ids` [B, 6].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor

from sidlsg.teacher.families.sd import SD

ADDED = ("text_embeds", "time_ids")


def _takes(network: Callable[..., Any]) -> Callable[..., Any]:
    def call(x_t: Tensor, t: Tensor, conditioning: dict[str, Tensor]) -> Any:
        added = {name: conditioning[name] for name in ADDED}
        return network(x_t, t, conditioning["encoder_hidden_states"], added_cond_kwargs=added)

    return call


SDXL = replace(
    SD,
    name="sdxl",
    has=lambda network: isinstance(network, UNet2DConditionModel) and network.config.addition_embed_type == "text_time",
    takes=_takes,
)
