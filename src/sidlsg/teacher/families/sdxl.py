"""Stable Diffusion XL: a UNet that takes two encoders' joined text embeddings, a pooled one, and the images' sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sidlsg.teacher.families.family import STATES, Agreement, Configs, channels_agree, clip_tokenizer, text_model
from sidlsg.teacher.families.sd import CROSS_ATTENTION, SD, UNET_CHANNELS, is_unet

if TYPE_CHECKING:
    from torch import Tensor

ADDED = ("text_embeds", "time_ids")
TIME_IDS = 6
"""Original size, the corner of the crop, and the target size, each height and width."""
PROJECTION = 512
"""The library's default width of a pooled embedding."""


def _agreements(configs: Configs) -> Iterable[Agreement]:
    yield from channels_agree(configs, "unet", UNET_CHANNELS)
    unet, first, second = configs["unet"], configs["text_encoder"], configs["text_encoder_2"]
    why = "the base model of Stable Diffusion XL takes a pooled embedding and sizes"
    yield Agreement("unet", "addition_embed_type", unet.get("addition_embed_type"), "text_time", why)
    width = first["hidden_size"] + second["hidden_size"]
    why = f"the two text encoders' hidden_size add up to {width}"
    yield Agreement("unet", "cross_attention_dim", unet.get("cross_attention_dim", CROSS_ATTENTION), width, why)
    length = configs["tokenizer"]["model_max_length"]
    why = f"the first tokenizer's is {length}"
    yield Agreement("tokenizer_2", "model_max_length", configs["tokenizer_2"]["model_max_length"], length, why)
    pooled = second.get("projection_dim", PROJECTION)
    wanted = pooled + TIME_IDS * (unet.get("addition_time_embed_dim") or 0)
    why = f"the pooled embedding has {pooled}, and the {TIME_IDS} sizes the rest of {wanted}"
    found = unet.get("projection_class_embeddings_input_dim")
    yield Agreement("unet", "projection_class_embeddings_input_dim", found, wanted, why)


def _shapes(configs: Configs) -> dict[str, tuple[int, ...]]:
    first, second = configs["text_encoder"], configs["text_encoder_2"]
    return {
        STATES: (
            configs["tokenizer"]["model_max_length"],
            first["hidden_size"] + second["hidden_size"],
        ),
        "text_embeds": (second.get("projection_dim", PROJECTION),),
        "time_ids": (TIME_IDS,),
    }


def _encode(pipeline: Any, prompts: Sequence[str], device: Any, configs: Configs) -> dict[str, Tensor]:
    states, _, pooled, _ = pipeline.encode_prompt(list(prompts), device=device, do_classifier_free_guidance=False)
    if pipeline.config.force_zeros_for_empty_prompt:
        given = states.new_tensor([float(bool(prompt)) for prompt in prompts])
        states, pooled = states * given[:, None, None], pooled * given[:, None]
    side = float(SDXL.image_side(configs))
    sizes = states.new_tensor([side, side, 0.0, 0.0, side, side]).expand(len(prompts), -1)
    return {STATES: states, "text_embeds": pooled, "time_ids": sizes}


def _takes(network: Callable[..., Any]) -> Callable[..., Any]:
    def call(x_t: Tensor, t: Tensor, conditioning: dict[str, Tensor]) -> Any:
        added = {name: conditioning[name] for name in ADDED}
        return network(x_t, t, conditioning[STATES], added_cond_kwargs=added)

    return call


SDXL = replace(
    SD,
    name="sdxl",
    title="Stable Diffusion XL",
    pipeline="StableDiffusionXLPipeline",
    components={
        **SD.components,
        "text_encoder_2": text_model("CLIPTextModelWithProjection"),
        "tokenizer_2": clip_tokenizer(),
    },
    off={"feature_extractor": None, "image_encoder": None, "add_watermarker": False},
    agreements=_agreements,
    shapes=_shapes,
    encode=_encode,
    step_noises=("fresh", "ddim"),
    has=lambda network: is_unet(network, "text_time"),
    takes=_takes,
)
