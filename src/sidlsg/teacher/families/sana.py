"""SANA: a transformer with linear attention on the latents of a strongly compressing VAE, and a language model.

The stock pipeline puts an instruction before each prompt, which asks the language model to describe it; not before the
empty prompt.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sidlsg.teacher.families.family import (
    STATES,
    Agreement,
    Component,
    Configs,
    Family,
    channels_agree,
    flow_times,
    is_a,
    pixels_of_latent,
    scheduler,
    shorter,
    sized,
    square_latents,
    takes_by_name,
    text_model,
    tokenizer,
    whole_patches,
)

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 1024
"""Pixels on each side of an image of the stock pipeline, where its call names no others."""
MASK = "encoder_attention_mask"
TOKENS = 300
"""Tokens of a prompt, the stock pipeline's default."""
CHANNELS, CAPTION, HEADS, HEAD_DIM, CROSS = 32, 2304, 70, 32, 2240
"""The library's defaults of VAE and transformer."""
BINNED, BINNED_FACTOR = (16, 32, 64, 128), 32
"""Sizes of latents, and pixels of each, for which the stock pipeline chooses the nearest size of its network's."""


def _agreements(configs: Configs) -> Iterable[Agreement]:
    yield from channels_agree(configs, "transformer", CHANNELS, CHANNELS)
    transformer, width = configs["transformer"], configs["text_encoder"]["hidden_size"]
    found, why = transformer.get("caption_channels", CAPTION), f"the text encoder's hidden_size is {width}"
    yield Agreement("transformer", "caption_channels", found, width, why)
    inner = transformer.get("num_attention_heads", HEADS) * transformer.get("attention_head_dim", HEAD_DIM)
    found, why = transformer.get("cross_attention_dim", CROSS), f"its heads have {inner} channels together"
    yield Agreement("transformer", "cross_attention_dim", found, inner, why)
    why = "a model of few steps, which takes its guidance as an input, is no teacher"
    yield Agreement("transformer", "guidance_embeds", transformer.get("guidance_embeds", False), False, why)
    yield Agreement("transformer", "timestep_scale", transformer.get("timestep_scale", 1), 1, "a flow's t is 1000 σ")
    yield whole_patches(transformer, transformer.get("patch_size", 1))
    yield flow_times(configs)
    schedule = configs["scheduler"]
    if schedule.get("_class_name", SANA.components["scheduler"].classes[0]) == "DPMSolverMultistepScheduler":
        for key, wanted in (("use_flow_sigmas", True), ("prediction_type", "flow_prediction")):
            yield Agreement("scheduler", key, schedule.get(key), wanted, "this family is trained by flow matching")
    side, of_latent = SANA.image_side(configs), pixels_of_latent(configs["vae"])
    why = f"its images have {side} pixels on a side, and the stock pipeline takes multiples of 32"
    size = transformer["sample_size"]
    yield Agreement(
        "transformer", "sample_size", size, size if side % 32 == 0 else -(-side // 32) * 32 // of_latent, why
    )


def _shapes(configs: Configs) -> dict[str, tuple[int, ...]]:
    length = min(configs["tokenizer"]["model_max_length"], TOKENS)
    return {STATES: (length, configs["text_encoder"]["hidden_size"]), MASK: (length,)}


def _called(configs: Configs) -> dict[str, Any]:
    known = configs["transformer"]["sample_size"] in BINNED and pixels_of_latent(configs["vae"]) == BINNED_FACTOR
    exact = {} if known else {"use_resolution_binning": False}
    return sized(SANA.image_side(configs), SIDE) | exact | shorter(configs["tokenizer"], TOKENS)


def _encode(pipeline: Any, prompts: Sequence[str], device: Any, configs: Configs) -> dict[str, Tensor]:
    def encoded(instruction: Any) -> list[Tensor]:
        states, mask, _, _ = pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            device=device,
            complex_human_instruction=instruction,
            **shorter(configs["tokenizer"], TOKENS),
        )
        return [states, mask.to(states.dtype)]

    parameters = inspect.signature(type(pipeline).__call__).parameters
    states, mask = encoded(parameters["complex_human_instruction"].default)
    if not all(prompts):
        given = states.new_tensor([float(bool(prompt)) for prompt in prompts]).bool()
        empty_states, empty_mask = encoded(None)
        states = states.where(given[:, None, None], empty_states)
        mask = mask.where(given[:, None], empty_mask)
    return {STATES: states, MASK: mask}


SANA = Family(
    name="sana",
    title="SANA",
    pipeline="SanaPipeline",
    network="transformer",
    components={
        "transformer": Component(library="diffusers", classes=("SanaTransformer2DModel",)),
        "vae": Component(library="diffusers", classes=("AutoencoderDC",)),
        "text_encoder": text_model("Gemma2Model"),
        "tokenizer": tokenizer("GemmaTokenizer", "GemmaTokenizerFast"),
        "scheduler": scheduler("FlowMatchEulerDiscreteScheduler", "DPMSolverMultistepScheduler"),
    },
    agreements=_agreements,
    shapes=_shapes,
    encode=_encode,
    half="bfloat16",
    latent_shape=lambda config: square_latents(config, CHANNELS),
    called=_called,
    has=lambda network: is_a(network, "SanaTransformer2DModel"),
    takes=takes_by_name,
    compiled=("SanaTransformerBlock",),
    sharded=lambda transformer: transformer.transformer_blocks,
    features=lambda transformer: transformer.norm_out,
    last=lambda transformer: transformer.proj_out,
)
